//! Postfix lookup tables on the mailsql account database: socketmap_table(5) and tcp_table(5).
#![forbid(unsafe_code)]

mod custom;
pub mod maps;
pub mod reply;
mod service;

pub use service::{bind, bind_stdin};
