//! Dovecot's auth service on the mailsql account database: the client protocol that Postfix and Exim log people in by,
//! and the master protocol that doveadm, dovecot-lda and dovecot-lmtp look users up by.
#![forbid(unsafe_code)]

mod client;
mod decide;
mod lines;
mod mask;
mod master;
pub mod place;
pub mod reply;
mod service;

pub use service::bind;
