//! The account database: MySQL-protocol servers and SQLite. The only crate that names a database driver.
//!
//! A schema is a data file of named queries ([`schema`]); a driver ([`mysql`], [`sqlite`]) runs a query with bound
//! parameters and brings back rows of plain values ([`query`]); [`Store`] puts the two together and answers the
//! questions of [`mailsql_core::Directory`]. What changes the database is in `admin`.
#![forbid(unsafe_code)]

#[cfg(feature = "direct")]
pub mod direct;

#[cfg(feature = "daemon")]
mod admin;
#[cfg(feature = "daemon")]
mod check;
#[cfg(feature = "daemon")]
pub mod counters;
#[cfg(feature = "daemon")]
mod directory;
#[cfg(feature = "daemon")]
mod ledger;
#[cfg(feature = "daemon")]
pub mod mysql;
#[cfg(feature = "daemon")]
mod policy;
#[cfg(feature = "daemon")]
pub mod query;
#[cfg(feature = "daemon")]
pub mod question;
#[cfg(feature = "daemon")]
pub mod schema;
#[cfg(feature = "daemon")]
pub mod sqlite;
#[cfg(feature = "daemon")]
pub mod state;
#[cfg(feature = "daemon")]
mod store;

#[cfg(feature = "daemon")]
pub use admin::{AliasRow, DomainRow, Done, GrantRow, NewAppPassword, WriteError};
#[cfg(feature = "daemon")]
pub use check::Finding;
#[cfg(feature = "daemon")]
pub use policy::{AclRow, RateLimit};
#[cfg(feature = "daemon")]
pub use state::{State, StateError};
#[cfg(feature = "daemon")]
pub use store::{OpenError, Store};
