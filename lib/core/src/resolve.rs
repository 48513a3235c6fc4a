//! Where an address leads: the one place that knows which address stands in for which.
//!
//! For `user+detail@domain`, the first of these that exists decides:
//! 1. an alias or mailbox with exactly this address (an alias first: a row that forwards a mailbox's own address is
//!    meant to forward it, and Postfix too asks aliases before mailboxes);
//! 2. an alias or mailbox `user@domain`; the detail is put back on what an alias leads to, as Postfix does for tables
//!    whose lookups it strips itself (`propagate_unmatched_extensions = virtual`);
//! 3. where the domain is a second name of another: 1 and 2 in that other domain. A mailbox found so is answered as an
//!    alias to it. Of a second name's second name nothing is followed;
//! 4. the catch-all of the domain, then that of the other domain. A catch-all thus never takes mail from a mailbox, and
//!    needs no identity aliases.
//!
//! Destinations `@other` keep the local part, as in virtual(5). Domains are known by their ASCII and Unicode spellings;
//! users are asked for in the spelling that the database has for their domain.
//!
//! Loops and expansions beyond [`MAX_DEPTH`] and [`MAX_ADDRESSES`] are reported ([`Problem`]), never followed.

use crate::directory::Destinations;
use crate::{Account, Address, Directory, Unavailable};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Steps from an address to a mailbox that are followed at most.
pub const MAX_DEPTH: usize = 10;
/// Addresses looked at in one expansion at most.
pub const MAX_ADDRESSES: usize = 1000;

/// How addresses are read at this site.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Characters that part a detail from the user, as Postfix's `recipient_delimiter`; empty for none.
    pub delimiters: Box<str>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { delimiters: "+".into() }
    }
}

/// A mailbox that an address leads to by itself.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Its account.
    pub account: Arc<Account>,
    /// The detail of the address that was asked for, as written.
    pub detail: Option<Box<str>>,
}

/// An address as the database has its domain, and the same user in the domain that this is a second name of.
struct Place {
    address: Address,
    /// Whether the domain is one of ours.
    known: bool,
    twin: Option<Address>,
}

impl Place {
    async fn find(directory: &dyn Directory, asked: &Address) -> Result<Self, Unavailable> {
        let address = asked.folded();
        let Some(spelling) = directory.domain(address.domain()).await? else {
            let known = directory.relay_domain(address.domain()).await?.is_some();
            return Ok(Self { address, known, twin: None });
        };
        let address = if spelling.eq_ignore_ascii_case(address.domain()) {
            address
        } else {
            Address::new(address.local(), &spelling.to_lowercase()).unwrap_or(address)
        };
        let target = directory.alias_domain(address.domain()).await?;
        let twin = target.and_then(|target| Address::new(address.local(), &target).ok());
        Ok(Self { address, known: true, twin })
    }

    /// The addresses that stand for this one, in their order.
    fn forms(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.address).chain(&self.twin)
    }
}

/// The mailbox of this address, of its form without detail, or of its twin, whatever its state.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn mailbox(
    directory: &dyn Directory,
    address: &Address,
    rules: &Rules,
) -> Result<Option<Mailbox>, Unavailable> {
    let place = Place::find(directory, address).await?;
    for form in place.forms() {
        if let Some(account) = directory.account(form).await? {
            return Ok(Some(Mailbox { account, detail: None }));
        }
        let Some((base, _)) = form.split_detail(&rules.delimiters) else { continue };
        if let Some(account) = directory.account(&base).await? {
            // The detail as it was written, not as it was folded.
            let detail = address.split_detail(&rules.delimiters).map(|(_, detail)| detail.into());
            return Ok(Some(Mailbox { account, detail }));
        }
    }
    Ok(None)
}

/// Where mail to this address is sent on to, one step: what a virtual alias table answers. Nothing for a mailbox.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn aliases(
    directory: &dyn Directory,
    address: &Address,
    rules: &Rules,
) -> Result<Option<Destinations>, Unavailable> {
    let place = Place::find(directory, address).await?;
    // Most addresses that come here belong to no domain of ours; they cost no query.
    if !place.known {
        return Ok(None);
    }
    for form in place.forms() {
        if let Some(found) = directory.alias(form).await? {
            return Ok(Some(keep_local_part(found, form)));
        }
        if directory.account(form).await?.is_some() {
            return Ok(twin_of(&place, form));
        }
        let Some((base, _)) = form.split_detail(&rules.delimiters) else { continue };
        if let Some(found) = directory.alias(&base).await? {
            let found = keep_local_part(found, &base);
            let Some((written, detail)) = address.split_detail(&rules.delimiters) else { return Ok(Some(found)) };
            let delimiter = address.local()[written.local().len()..].chars().next().unwrap_or('+');
            return Ok(Some(found.iter().map(|to| add_detail(to, delimiter, detail)).collect()));
        }
        if directory.account(&base).await?.is_some() {
            let as_written = Address::new(address.local(), form.domain());
            return Ok(twin_of(&place, &as_written.unwrap_or_else(|_| form.clone())));
        }
    }
    for form in place.forms() {
        if let Some(found) = directory.catch_all(form.domain()).await? {
            return Ok(Some(keep_local_part(found, form)));
        }
    }
    Ok(None)
}

/// A mailbox under its own domain is no alias; under a second name it is one to itself.
fn twin_of(place: &Place, found: &Address) -> Option<Destinations> {
    (found.domain() != place.address.domain()).then(|| Arc::from([found.to_string().into_boxed_str()]))
}

/// Why an expansion is not the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// This address leads back to itself over others.
    Loop(Address),
    /// More than [`MAX_DEPTH`] aliases lie one behind the other; this is the first that was left out.
    Deep(Address),
    /// More than [`MAX_ADDRESSES`] addresses.
    Many,
    /// A destination that is no address.
    NoAddress(Box<str>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop(address) => write!(f, "{address} leads back to itself"),
            Self::Deep(address) => write!(f, "{address} lies behind more than {MAX_DEPTH} aliases"),
            Self::Many => write!(f, "leads to more than {MAX_ADDRESSES} addresses"),
            Self::NoAddress(text) => write!(f, "{text:?} is no address"),
        }
    }
}

/// Everything that an address leads to in the end.
#[derive(Clone, Debug, Default)]
pub struct Expansion {
    /// Mailboxes of ours, whatever their state, each once.
    pub mailboxes: Vec<Arc<Account>>,
    /// Addresses that are no mailboxes and lead nowhere here.
    pub elsewhere: Vec<Address>,
    /// What is wrong on the way.
    pub problems: Vec<Problem>,
}

/// Follows an address to its mailboxes.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn expand(directory: &dyn Directory, address: &Address, rules: &Rules) -> Result<Expansion, Unavailable> {
    struct Step {
        address: Address,
        from: Option<usize>,
        depth: usize,
    }
    let mut expansion = Expansion::default();
    let mut steps = vec![Step { address: address.folded(), from: None, depth: 0 }];
    let mut seen: HashMap<Address, usize> = HashMap::from([(address.folded(), 0)]);
    let mut at = 0;
    while let Some(Step { address, depth, .. }) = steps.get(at) {
        let (address, depth) = (address.clone(), *depth);
        let found = aliases(directory, &address, rules).await?;
        let itself = |to: &str| Address::parse(to).is_ok_and(|to| to.folded() == address);
        // An alias that names its own address keeps a copy there.
        if found.as_ref().is_none_or(|found| found.iter().any(|to| itself(to))) {
            match mailbox(directory, &address, rules).await? {
                Some(found) if !expansion.mailboxes.iter().any(|known| known.address == found.account.address) => {
                    expansion.mailboxes.push(found.account);
                }
                Some(_) => {}
                None => expansion.elsewhere.push(address.clone()),
            }
        }
        for to in found.iter().flat_map(|found| found.iter()) {
            let Ok(to) = Address::parse(to).map(|to| to.folded()) else {
                expansion.problems.push(Problem::NoAddress(to.clone()));
                continue;
            };
            if to == address {
                continue;
            }
            if let Some(&known) = seen.get(&to) {
                let mut above = Some(at);
                while let Some(step) = above {
                    if step == known {
                        expansion.problems.push(Problem::Loop(to.clone()));
                        break;
                    }
                    above = steps[step].from;
                }
            } else if depth >= MAX_DEPTH {
                expansion.problems.push(Problem::Deep(to));
            } else if steps.len() >= MAX_ADDRESSES {
                if !expansion.problems.contains(&Problem::Many) {
                    expansion.problems.push(Problem::Many);
                }
            } else {
                seen.insert(to.clone(), steps.len());
                steps.push(Step { address: to, from: Some(at), depth: depth + 1 });
            }
        }
        at += 1;
    }
    Ok(expansion)
}

/// The logins that may send as this address: its own mailbox, the mailboxes that its aliases lead to, and whom the
/// administrator allowed it; less whom he forbade it. Accounts that are closed have no say.
///
/// Of several rules for one login the closest to the address decides: for the address itself, without its detail, in
/// the domain that this one is a second name of, for the whole domain.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn senders(
    directory: &dyn Directory,
    address: &Address,
    rules: &Rules,
    now: i64,
) -> Result<Vec<Box<str>>, Unavailable> {
    let place = Place::find(directory, address).await?;
    let mut logins: Vec<Box<str>> = Vec::new();
    if place.known {
        let expansion = expand(directory, &place.address, rules).await?;
        let open = expansion.mailboxes.iter().filter(|account| !account.closed(now));
        logins.extend(open.map(|account| Box::from(account.address.as_str())));
    }
    let mut sources = Vec::new();
    for form in place.forms() {
        sources.push(Box::from(form.as_str()));
        sources.extend(form.split_detail(&rules.delimiters).map(|(base, _)| Box::from(base.as_str())));
    }
    sources.extend(place.forms().map(|form| format!("@{}", form.domain()).into_boxed_str()));
    let mut decided: HashSet<Box<str>> = HashSet::new();
    for source in sources {
        let Some(grants) = directory.grants(&source).await? else { continue };
        for grant in grants.iter() {
            if !decided.insert(grant.login.to_lowercase().into()) {
                continue;
            }
            let listed = logins.iter().position(|login| login.to_lowercase() == grant.login.to_lowercase());
            match (grant.allowed, listed) {
                (false, Some(at)) => drop(logins.remove(at)),
                (true, None) if may_send(directory, &grant.login, now).await? => logins.push(grant.login.clone()),
                _ => {}
            }
        }
    }
    Ok(logins)
}

async fn may_send(directory: &dyn Directory, login: &str, now: i64) -> Result<bool, Unavailable> {
    let Ok(login) = Address::parse(login) else { return Ok(false) };
    Ok(directory.account(&login.folded()).await?.is_some_and(|account| !account.closed(now)))
}

/// The transport of an address, a domain or `*`, in the order of transport(5): the address, without its detail, its
/// domain, `.parent` for each domain above, and `*`.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn transport(directory: &dyn Directory, key: &str, rules: &Rules) -> Result<Option<Arc<str>>, Unavailable> {
    let domain = match Address::parse(key) {
        Ok(address) => {
            let address = address.folded();
            let base = address.split_detail(&rules.delimiters).map(|(base, _)| base);
            for form in std::iter::once(&address).chain(&base) {
                if let Some(found) = directory.transport(form.as_str()).await? {
                    return Ok(Some(found));
                }
            }
            address.domain().to_owned()
        }
        Err(_) => key.to_lowercase(),
    };
    for spelling in crate::address::spellings(&domain) {
        if let Some(found) = directory.transport(&spelling).await? {
            return Ok(Some(found));
        }
        for (at, _) in spelling.match_indices('.').filter(|(at, _)| *at > 0) {
            if let Some(found) = directory.transport(&spelling[at..]).await? {
                return Ok(Some(found));
            }
        }
    }
    // Postfix asks for `*` by itself; only then it is remembered for all that have none.
    Ok(None)
}

/// The relay domain that this domain is, or lies below.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn relay_domain(directory: &dyn Directory, domain: &str) -> Result<Option<Box<str>>, Unavailable> {
    let domain = domain.to_lowercase();
    let mut rest = domain.as_str();
    loop {
        if let Some(found) = directory.relay_domain(rest).await? {
            return Ok(Some(found));
        }
        match rest.split_once('.') {
            Some((_, parent)) if !parent.is_empty() => rest = parent,
            _ => return Ok(None),
        }
    }
}

/// What accepts this address of a relay domain: itself, its form without detail, or its whole domain.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn relay_recipient(
    directory: &dyn Directory,
    address: &Address,
    rules: &Rules,
) -> Result<Option<Arc<str>>, Unavailable> {
    let address = match directory.relay_domain(&address.domain().to_lowercase()).await? {
        Some(spelling) => Address::new(address.local(), &spelling).unwrap_or_else(|_| address.clone()).folded(),
        None => address.folded(),
    };
    let base = address.split_detail(&rules.delimiters).map(|(base, _)| base);
    for form in std::iter::once(&address).chain(&base) {
        if let Some(found) = directory.relay_recipient(form.as_str()).await? {
            return Ok(Some(found));
        }
    }
    directory.relay_recipient(&format!("@{}", address.domain())).await
}

/// `@other` becomes `local@other`.
fn keep_local_part(destinations: Arc<[Box<str>]>, address: &Address) -> Arc<[Box<str>]> {
    if !destinations.iter().any(|to| to.starts_with('@')) {
        return destinations;
    }
    let whole = |to: &str| match to.strip_prefix('@').map(|domain| Address::new(address.local(), domain)) {
        Some(Ok(address)) => address.to_string().into_boxed_str(),
        _ => Box::from(to),
    };
    destinations.iter().map(|to| whole(to)).collect()
}

/// Puts a detail on a destination that has none; what is no address stays as it is.
fn add_detail(destination: &str, delimiter: char, detail: &str) -> Box<str> {
    match Address::parse(destination).and_then(|address| address.with_detail(delimiter, detail)) {
        Ok(address) => address.to_string().into(),
        Err(_) => destination.into(),
    }
}

#[cfg(test)]
mod tests;
