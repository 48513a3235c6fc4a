//! saslauthd on the mailsql account database: the mux socket that libsasl2 asks.
#![forbid(unsafe_code)]

pub mod log;
pub mod reply;
mod service;
pub mod wire;

pub use service::{bind, listeners};
