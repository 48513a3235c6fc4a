//! The questions that every database of accounts answers.

use crate::{Account, Address, AppPassword, Unavailable};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// The future of an answer.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// Addresses, or other values, that a question leads to.
pub type Destinations = Arc<[Box<str>]>;

/// What an administrator said about one login and one sender address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The login, as the database spells it.
    pub login: Box<str>,
    /// Whether it may send as the address, or must not.
    pub allowed: bool,
}

/// A domain that is a second name of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasDomain {
    /// The second name, in stored spelling.
    pub name: Box<str>,
    /// The domain whose users it has, in stored spelling.
    pub target: Box<str>,
}

/// A source of accounts. Addresses are asked for in folded form ([`Address::folded`]) and exactly: which address
/// stands in for which other is decided in [`crate::resolve`], not here. Answers carry the stored spelling.
///
/// What a database need not know has an answer of its own here: nothing.
pub trait Directory: Send + Sync {
    /// Every mail domain that is switched on, second names included, in stored spelling.
    fn domains(&self) -> Lookup<'_, Vec<Box<str>>>;

    /// This one mail domain, if it is there and switched on, in stored spelling.
    fn domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>>;

    /// The account with exactly this address, whatever its state.
    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>>;

    /// The app passwords of the account with exactly this address; none where the schema has no place for them. Asked
    /// only for an account that has some.
    fn app_passwords<'a>(&'a self, address: &'a Address) -> Lookup<'a, Arc<[AppPassword]>> {
        let _ = address;
        Box::pin(async { Ok(Arc::from([])) })
    }

    /// Where exactly this address is forwarded to: the destinations, or nothing.
    fn alias<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Destinations>>;

    /// Where mail for addresses of this domain goes that nothing else takes.
    fn catch_all<'a>(&'a self, domain: &'a str) -> Lookup<'a, Option<Destinations>>;

    /// Every domain that is a second name of another.
    fn alias_domains(&self) -> Lookup<'_, Vec<AliasDomain>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The domain of which this one is a second name.
    fn alias_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        let _ = name;
        Box::pin(async { Ok(None) })
    }

    /// Every domain that is accepted for another host, in stored spelling.
    fn relay_domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// This one domain, if it is accepted for another host, in stored spelling.
    fn relay_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        let _ = name;
        Box::pin(async { Ok(None) })
    }

    /// This address, or `@domain` for all of a domain, if it is accepted for another host; in stored spelling.
    fn relay_recipient<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        let _ = key;
        Box::pin(async { Ok(None) })
    }

    /// Who was allowed or forbidden to send as exactly this address, or `@domain` for all of a domain.
    fn grants<'a>(&'a self, source: &'a str) -> Lookup<'a, Option<Arc<[Grant]>>> {
        let _ = source;
        Box::pin(async { Ok(None) })
    }

    /// The transport of exactly this address, domain, `.domain` or `*`.
    fn transport<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        let _ = key;
        Box::pin(async { Ok(None) })
    }

    /// What the administrator's own map answers to exactly this key: the values of all its rows and columns.
    fn custom<'a>(&'a self, map: &'a str, key: &'a str) -> Lookup<'a, Option<Destinations>> {
        let _ = (map, key);
        Box::pin(async { Ok(None) })
    }
}
