//! saslauthd's wire without a saslauthd: accept, read once, write OK, close.
//!
//! The request is not looked at. libsasl2 and our load generator write it in one piece, so one read takes all of it.

use super::{Style, runtime};
use anyhow::Result;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Threads of a pool: more than there are clients at once on a core, few enough to stay in the cache.
const POOL: usize = 8;
/// Room for a whole request.
const REQUEST: usize = 2048;
const ANSWER: &[u8] = b"\0\x02OK";

pub(super) fn serve(style: Style, socket: &Path) -> Result<()> {
    if style == Style::Tokio {
        return serve_tokio(socket);
    }
    let listener = Arc::new(UnixListener::bind(socket)?);
    if style == Style::Pool {
        for _ in 1..POOL {
            let listener = Arc::clone(&listener);
            std::thread::spawn(move || accept(&listener, answer));
        }
        return accept(&listener, answer);
    }
    accept(&listener, |stream| drop(std::thread::spawn(move || answer(stream))))
}

fn accept(listener: &UnixListener, with: impl Fn(UnixStream)) -> Result<()> {
    loop {
        with(listener.accept()?.0);
    }
}

fn answer(mut stream: UnixStream) {
    // A client that leaves without a word gets none.
    if matches!(stream.read(&mut [0; REQUEST]), Ok(1..)) {
        let _ = stream.write_all(ANSWER);
    }
}

fn serve_tokio(socket: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket)?;
        // A worker's task accepts at less cost than the thread that waits for the runtime.
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    if matches!(stream.read(&mut [0; REQUEST]).await, Ok(1..)) {
                        let _ = stream.write_all(ANSWER).await;
                    }
                });
            }
        });
        accepting.await?
    })
}
