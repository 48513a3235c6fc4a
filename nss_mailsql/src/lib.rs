//! `libnss_mailsql.so.2`: mail accounts as users of the system, for programs that only know `getpwnam(3)`.
//!
//! In `/etc/nsswitch.conf`, behind the local files: `passwd: files mailsql`. The module asks `mailsql serve` by its NSS
//! socket and knows nothing by itself: no SQL, no secrets, no threads, nothing that stays between two calls. What it
//! reads is `/etc/mailsql/nss.conf` (see `conf.rs`).
//!
//! | asked | answered |
//! | --- | --- |
//! | passwd by name | the account `user@domain`; a bare name only with `short_names = yes` |
//! | passwd by number | nothing: all accounts share the owner of the mail files, and that is a user of the host's own |
//! | group by name or number | nothing, unless the daemon knows a group of its own |
//! | initgroups | the account's further groups |
//! | enumeration | nothing, unless `enumerate = yes` |
//!
//! A name that cannot be ours is answered at once, without asking. Trouble is `TRYAGAIN` with `EAGAIN`, so that a mail
//! server defers instead of bouncing; it never is "no such user".
//!
//! Source: glibc 2.36 `nss/function.def`, the manual's chapter on the name service switch.

mod conf;
mod entry;
mod ffi;
mod module;

pub use conf::Conf;
pub use module::Status;
