//! A TCP proxy that can keep a server's answers back for a while: what the server said stays what it said, only later.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::wait_until;

/// How long a held answer may take to appear.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The text whose answers are kept back.
    holding: Mutex<Option<Vec<u8>>>,
    released: Condvar,
    held: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 for a server on `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                // A server that is down is a connection that ends.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { continue };
                std::thread::spawn(move || carry(from_client, server, None));
                let state = Arc::clone(&shared);
                std::thread::spawn(move || carry(from_server, client, Some(&state)));
            }
        });
        Ok(Self { port, state })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Keeps back what the server says from now on if it holds `text`; a daemon asks other things in the background.
    pub fn hold(&self, text: &str) {
        self.state.held.store(0, Ordering::Relaxed);
        *self.state.holding.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.as_bytes().to_vec());
    }

    /// Waits until the server has said something that is kept back.
    ///
    /// # Errors
    /// When it says nothing for 10 s.
    pub fn wait_held(&self) -> Result<()> {
        wait_until("an answer to be held", TIMEOUT, || self.state.held.load(Ordering::Relaxed) > 0)
    }

    /// Lets everything through again.
    pub fn release(&self) {
        *self.state.holding.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.state.released.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        self.release();
        // Wakes the listener, which then sees that it is to end.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: Option<&State>) {
    let mut buffer = [0; 16384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if let Some(state) = state {
            let mut holding = state.holding.lock().unwrap_or_else(PoisonError::into_inner);
            while holding.as_ref().is_some_and(|text| holds(buffer.get(..length).unwrap_or_default(), text)) {
                state.held.fetch_add(length as u64, Ordering::Relaxed);
                holding = state.released.wait(holding).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if to.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
            break;
        }
    }
    // Either side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text)
}
