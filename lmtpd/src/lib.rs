//! LMTP delivery to Maildir: what Postfix's `virtual_transport` hands mail to.
//!
//! A [`session`] reads commands; `site` decides on recipients; a message comes in through `intake` and goes out through
//! `deliver`, one recipient at a time, to `maildir`, which knows how a file gets onto a disk for good. `reply` is the
//! one table from verdicts and outcomes to replies.
//!
//! Promise: after 250 for a recipient its message is on disk (file fsynced, renamed into `new/`, folder fsynced), and
//! whatever happens at any moment, nothing partial is ever in `new/`. Trouble on our side is 4xx, always.
//!
//! Limits: `[lmtp]` max_connections, max_message_size, max_recipients, idle_timeout, writers; memory per message
//! `intake::MEMORY_MAX`; hops `message::MAX_HOPS`; `session::DELIVERIES_AT_ONCE` deliveries of one message.
//!
//! Sources: RFC 2033, 5321, 3463, 6531; the Maildir and Maildir++ specifications; Dovecot 2.3 `lmtp/`, `maildir/`;
//! Postfix 3.7 `virtual/`, `smtp/`.
#![forbid(unsafe_code)]

mod deliver;
mod folder;
mod intake;
mod log;
mod maildir;
mod memory;
mod message;
mod name;
mod quota;
mod reply;
mod service;
mod session;
mod site;
mod tidy;
mod transaction;
mod trouble;
mod wire;

pub use service::{bind, serve};
