//! Addresses, accounts, verdicts, and the decisions made on them.
//!
//! The data's way: a program decodes a question from its wire and asks an [`Authenticator`] (may this user in?) or a
//! [`resolve`] function (where does this address lead?). Both ask a [`Directory`], which is the database behind a
//! [`CachedDirectory`]. Answers keep two things apart everywhere: *there is no such thing* (`Ok(None)`) and *I could
//! not find out* (`Err(Unavailable)`); the first bounces mail, the second defers it.
#![forbid(unsafe_code)]

pub mod account;
pub mod address;
pub mod authenticator;
pub mod cache;
pub mod directory;
pub mod feed;
pub mod ledger;
pub mod network;
pub mod resolve;
pub mod throttle;
pub mod verdict;
pub mod verifier;

pub use account::{Account, AppPassword, Quota};
pub use address::{Address, AddressError};
pub use authenticator::{Authenticator, Login};
pub use cache::{CacheStats, CacheTimes, CachedDirectory};
pub use directory::{AliasDomain, Destinations, Directory, Grant, Lookup};
pub use feed::{Change, ChangeFeed};
pub use ledger::{Ledger, Upgrade};
pub use network::Network;
pub use throttle::Throttle;
pub use verdict::{Unavailable, Verdict};
pub use verifier::Verifier;
