//! What every daemon does: listeners, privileges, limits, deadlines, shutdown, logs.
//!
//! The order of a start, and why: configuration and secrets are read while still root; listeners are bound and given
//! their owners; privileges are dropped in the whole process, before there is a second thread; only then the runtime
//! starts and the database is opened. A daemon starts, and answers "try later", with its database down.

mod alone;
mod control;
pub mod detach;
mod ffi;
pub mod listen;
pub mod log;
pub mod mailbox;
pub mod metrics;
pub mod privileges;
pub mod program;
pub mod serve;
mod shared;
mod stream;
mod syslog;
mod throttle;

pub use alone::{Alone, run_alone};
pub use control::Limited;
pub use detach::Detach;
pub use listen::{Activation, Listener};
pub use program::{Bound, run, run_detached};
pub use serve::{Limits, Shutdown, serve};
pub use shared::{Remember, Secrets, Shared, policy};
pub use stream::{Peer, Stream};
