//! Postfix lookup tables on the mailsql account database: socketmap_table(5).
#![forbid(unsafe_code)]

pub mod maps;
pub mod reply;
mod service;

pub use service::bind;
