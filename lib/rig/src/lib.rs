//! Real peers for tests and benchmarks, each in a temporary folder of its own.
//!
//! | fixture | what runs |
//! | --- | --- |
//! | [`MariaDb`] | `mariadbd` on its own socket and port, optionally with the document's database |
//! | [`Galera`] | a cluster of these |
//! | [`Postfix`] | `master` with its own main.cf, master.cf, queue and log |
//! | [`Dovecot`] | `dovecot -F` with its own base folder, IMAP and POP3 ports |
//! | [`Saslauthd`] | Debian's saslauthd |
//! | [`Daemon`] | any program of ours from the target folder of the running test |
//! | [`pam::Service`] | one file in /etc/pam.d for the life of a test |
//!
//! Small blocking clients for every wire lie in [`client`].
//!
//! Rules every fixture keeps:
//! - Paths are short (`/tmp/ms-XXXXXX/...`): a Unix socket path holds 107 bytes.
//! - Ports are free ones on 127.0.0.1, never fixed.
//! - Starting either ends with a peer that answers, or with an error that carries the end of its log.
//! - Dropping a fixture stops its process and everything in that process's session, then removes its folder, also
//!   while a test panics; a panicking test prints the end of every log first. A test that ends without drops (killed, or
//!   a fixture in a `static`) is cleaned up by a [`keeper`] process that notices the end of the test process.
//! - A missing peer is an error that names the Debian package, never a skip.
//!
//! Everything here needs root: Postfix, Dovecot and PAM service files do.

pub mod client;
mod daemon;
pub mod document;
mod dovecot;
mod ffi;
mod galera;
pub mod keeper;
mod mariadb;
pub mod pam;
mod postfix;
mod process;
mod proxy;
mod root;
mod saslauthd;
mod side;
mod wait;

pub use daemon::{Daemon, DaemonSetup, Ready, module, program};
pub use dovecot::{Dovecot, DovecotSetup};
pub use galera::Galera;
pub use mariadb::MariaDb;
pub use postfix::{Postfix, PostfixSetup};
pub use process::{Process, Ran, peer, run};
pub use proxy::Proxy;
pub use root::{TempRoot, free_port};
pub use saslauthd::{Saslauthd, SaslauthdSetup, testsaslauthd};
pub use side::Side;
pub use wait::{progress, tail, wait_until};
