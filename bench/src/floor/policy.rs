//! The policy wire without a policy: read a request to its empty line, write a constant answer.

use super::{Style, runtime};
use anyhow::Result;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Room for a whole request.
const REQUEST: usize = 4096;
/// What lets a mail through.
pub(super) const ANSWER: &[u8] = b"action=DUNNO\n\n";

pub(super) fn serve(style: Style, socket: &Path) -> Result<()> {
    if style == Style::Tokio {
        return serve_tokio(socket);
    }
    let listener = UnixListener::bind(socket)?;
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || connection(stream));
    }
}

fn connection(mut stream: UnixStream) {
    let mut buffer = [0; REQUEST];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        // Questions come one at a time; a piece without the empty line at its end is not the last piece.
        if buffer[..length].ends_with(b"\n\n") && stream.write_all(ANSWER).is_err() {
            return;
        }
    }
}

fn serve_tokio(socket: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket)?;
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let mut buffer = [0; REQUEST];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        if buffer[..length].ends_with(b"\n\n") && stream.write_all(ANSWER).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        accepting.await?
    })
}
