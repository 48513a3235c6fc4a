//! The wires: bytes in, types out.
//!
//! One file a wire. Each opens with its manual page and offers the same shape, for both ends of the wire:
//!
//! - `Request` and `Reply`, the messages;
//! - `decode` reads a request (server side), `decode_reply` a reply (client side), each as
//!   `fn(&[u8]) -> Result<Option<(Message, usize)>, Malformed>`: the message and the bytes it took, `None` when more bytes
//!   are needed, or what is wrong with the bytes;
//! - `Request::encode` and `Reply::encode` append to a `Vec<u8>`;
//! - the limits as named constants.
//!
//! Nothing here opens a socket, reads a clock, spawns, logs or allocates more than the bound its page names. Messages that
//! hold secrets borrow them from the caller's buffer where they can, have no derived `Debug`, and are the caller's to wipe.
//! `Malformed` never repeats the bytes it complains about, so it may be logged.
#![forbid(unsafe_code)]

pub mod ask;
pub mod dovecot_auth;
pub mod lmtp;
pub mod policy;
pub mod saslauthd;
pub mod socketmap;
pub mod tcp_table;

mod number;
