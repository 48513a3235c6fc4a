//! The questions that every database of accounts answers.

use crate::{Account, Address, Unavailable};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// The future of an answer.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// A source of accounts. Addresses are asked for in folded form ([`Address::folded`]) and exactly: which address
/// stands in for which other is decided in [`crate::resolve`], not here. Answers carry the stored spelling.
pub trait Directory: Send + Sync {
    /// Every mail domain that is switched on, in stored spelling.
    fn domains(&self) -> Lookup<'_, Vec<Box<str>>>;

    /// This one mail domain, if it is there and switched on, in stored spelling.
    fn domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>>;

    /// The account with exactly this address, whatever its state.
    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>>;

    /// Where exactly this address is forwarded to: the destinations, or nothing.
    fn alias<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<[Box<str>]>>>;

    /// Where mail for addresses of this domain goes that nothing else takes.
    fn catch_all<'a>(&'a self, domain: &'a str) -> Lookup<'a, Option<Arc<[Box<str>]>>>;
}
