//! Who may try a password now.
//!
//! # Rules
//! Every count drains: full ones are empty again after `window`.
//!
//! 1. **A client network** (IPv4 address, IPv6 /64; only where the protocol tells the address) may make `client_limit`
//!    different wrong tries, over all logins. Then it is refused for a whole `window`, unseen: its tries reach neither
//!    database nor hash.
//! 2. **A login** takes `login_limit` different wrong passwords from strangers. Then strangers' tries pass only as fast
//!    as the count drains, one every `window / login_limit`; nobody is locked out for good.
//! 3. **A known client**, a network from which this login got in during the last `known_for`, passes rules 1 and 2. It has
//!    a count of its own, `known_limit`, that works like rule 2. So strangers never lock out the owner.
//! 4. **The same wrong password** for a login counts once, however often a forgotten device repeats it, and costs a hash
//!    once.
//! 5. **Trusted networks** (webmail on this host) are exempt from rule 1, since many people come from there.
//!
//! # Concurrency
//! A try takes its place in the counts before the password is looked at ([`Throttle::admit`]) and gives it back unless it
//! was wrong ([`Place::settle`], or the place's end). A thousand tries at once are so no more than a thousand one after the
//! other. When places are taken but may come back, the answer is to wait.
//!
//! # Limits
//! Each table holds `entries` at most; the emptiest go first, logins with known clients last. A login has
//! [`KNOWN_MAX`] known clients.
//!
//! # Security
//! Of wrong passwords a keyed MAC is remembered, in memory alone: with the key beside it on disk it could be guessed from.
//! So after a restart the same wrong password counts once more. Counts and known clients outlive a restart
//! ([`Throttle::changes`], [`Throttle::restore`]).

use crate::network::Network;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

mod count;
mod persist;
mod report;
pub use count::{Count, Gate, Limit};
pub use persist::Change;
pub use report::Standing;

/// Networks remembered for one login at most.
pub const KNOWN_MAX: usize = 16;
/// A good login is noted again when the last note is older than this (milliseconds): once an hour is enough for a time
/// that is counted in days.
pub const NOTE_AGAIN: i64 = 3_600_000;

/// What the throttle is set up with.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Off: everybody is let through and nothing is counted.
    pub enabled: bool,
    /// Milliseconds in which a full count drains.
    pub window: i64,
    /// Different wrong tries of a client network.
    pub client_limit: u32,
    /// Different wrong passwords for a login, from strangers.
    pub login_limit: u32,
    /// Different wrong passwords for a login, from a network that it is known to come from.
    pub known_limit: u32,
    /// Milliseconds for which a client stays known.
    pub known_for: i64,
    /// Networks that rule 1 does not count.
    pub trusted: Vec<Network>,
    /// Networks, logins and wrong passwords remembered at most.
    pub entries: usize,
}

/// A login as far as the throttle remembers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoginState {
    count: Count,
    known: Vec<Known>,
}

/// A network from which a login got in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    network: Network,
    /// When (Unix milliseconds).
    seen: i64,
    count: Count,
}

impl LoginState {
    fn known(&mut self, network: Network, now: i64, rules: &Rules) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.network == network && known.seen + rules.known_for > now)
    }

    /// Remembers a good login; says whether that is worth writing down.
    fn note(&mut self, network: Network, now: i64) -> bool {
        if let Some(known) = self.known.iter_mut().find(|known| known.network == network) {
            let stale = known.seen + NOTE_AGAIN <= now;
            known.seen = if stale { now } else { known.seen };
            return stale;
        }
        if self.known.len() >= KNOWN_MAX {
            let oldest = self.known.iter().enumerate().min_by_key(|(_, known)| known.seen).map(|(at, _)| at);
            oldest.map(|at| self.known.swap_remove(at));
        }
        self.known.push(Known { network, seen: now, count: Count::default() });
        true
    }
}

#[derive(Default)]
struct Tables {
    networks: HashMap<Network, Count>,
    logins: HashMap<Box<str>, LoginState>,
    /// MACs of wrong passwords, and when they were wrong.
    wrong: HashMap<[u8; 16], i64>,
    changed_networks: HashSet<Network>,
    changed_logins: HashSet<Box<str>>,
}

/// Decides who may try a password.
pub struct Throttle {
    rules: Rules,
    tables: Mutex<Tables>,
    settled: Notify,
}

/// Why a try is refused, in a word for the log.
pub type Reason = &'static str;

/// What [`Throttle::admit`] says.
pub enum Admission {
    /// Try; the place must be settled.
    Pass(Place),
    /// Others hold the last places: ask again when one of them is settled.
    Wait,
    /// Not now.
    Refused(Reason),
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password is right.
    Right,
    /// The password is wrong; its MAC.
    Wrong([u8; 16]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Nowhere,
    /// In the login's count and, with a network, in that one's.
    Stranger,
    Known,
}

/// A try's place in the counts. Dropped without [`Place::settle`] (the client went away, the database was down) it counts
/// for nothing.
pub struct Place {
    throttle: Arc<Throttle>,
    login: Box<str>,
    network: Option<Network>,
    trusted: bool,
    counted: Counted,
}

impl Throttle {
    /// An empty throttle.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, tables: Mutex::default(), settled: Notify::new() }
    }

    /// What it was set up with.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Asks for a place. `login` is the folded address; `now` is Unix time in milliseconds, here and everywhere.
    #[must_use]
    pub fn admit(self: &Arc<Self>, login: &str, client: Option<IpAddr>, now: i64) -> Admission {
        let network = client.map(Network::of_client);
        let trusted = client.is_some_and(|client| self.rules.trusted.iter().any(|net| net.contains(client)));
        let place = |counted| {
            Admission::Pass(Place { throttle: Arc::clone(self), login: login.into(), network, trusted, counted })
        };
        if !self.rules.enabled {
            return place(Counted::Nowhere);
        }
        let rules = &self.rules;
        let mut tables = self.lock();
        let Tables { networks, logins, .. } = &mut *tables;
        if let Some(network) = network
            && let Some(known) = logins.get_mut(login).and_then(|state| state.known(network, now, rules))
        {
            return match known.count.gate(rules.known(), now) {
                Gate::Open => {
                    known.count.take();
                    place(Counted::Known)
                }
                Gate::Busy => Admission::Wait,
                Gate::Shut => Admission::Refused("known client over its limit"),
            };
        }
        let counting = network.filter(|_| !trusted);
        let of_network = counting.and_then(|network| networks.get(&network));
        match of_network.map_or(Gate::Open, |count| count.gate(rules.client(), now)) {
            Gate::Open => {}
            Gate::Busy => return Admission::Wait,
            Gate::Shut => return Admission::Refused("client over its limit"),
        }
        match logins.get(login).map_or(Gate::Open, |state| state.count.gate(rules.login(), now)) {
            Gate::Open => {}
            Gate::Busy => return Admission::Wait,
            Gate::Shut => return Admission::Refused("login over its limit"),
        }
        if let Some(network) = counting {
            networks.entry(network).or_default().take();
        }
        match logins.get_mut(login) {
            Some(state) => state.count.take(),
            None => logins.entry(login.into()).or_default().count.take(),
        }
        tables.shrink(rules, now);
        place(Counted::Stranger)
    }

    /// Comes back when any place has been settled since this was called. Ask for this before [`Self::admit`].
    pub fn settled(&self) -> tokio::sync::futures::Notified<'_> {
        self.settled.notified()
    }

    /// Whether this password, by its MAC, is known to be wrong.
    #[must_use]
    pub fn knows_wrong(&self, mac: &[u8; 16], now: i64) -> bool {
        self.rules.enabled && self.lock().wrong.get(mac).is_some_and(|at| at + self.rules.remembered() > now)
    }

    /// Forgets a login (its count and its known clients), a client network (its count), or everything. Says whether
    /// there was anything.
    pub fn reset(&self, of: Option<&str>) -> bool {
        let mut tables = self.lock();
        let tables = &mut *tables;
        let found = match of {
            None => {
                tables.changed_networks.extend(tables.networks.drain().map(|(network, _)| network));
                tables.changed_logins.extend(tables.logins.drain().map(|(login, _)| login));
                tables.wrong.clear();
                true
            }
            Some(text) => match text.parse::<IpAddr>().map(Network::of_client).or_else(|_| text.parse()) {
                Ok(network) => {
                    tables.changed_networks.insert(network);
                    tables.networks.remove(&network).is_some()
                }
                Err(_) => {
                    tables.changed_logins.insert(text.into());
                    tables.logins.remove(text).is_some()
                }
            },
        };
        self.settled.notify_waiters();
        found
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, place: &Place, outcome: Option<Outcome>, now: i64) {
        let rules = &self.rules;
        let mut tables = self.lock();
        let tables = &mut *tables;
        let mut counts = false;
        if let Some(Outcome::Wrong(mac)) = outcome {
            let known = tables.wrong.get(&mac).is_some_and(|at| at + rules.remembered() > now);
            counts = !known;
            if counts {
                tables.wrong.insert(mac, now);
            }
        }
        let state = tables.logins.get_mut(&*place.login);
        match place.counted {
            Counted::Nowhere => {}
            Counted::Known => {
                let known = place.network.and_then(|network| {
                    state.and_then(|state| state.known.iter_mut().find(|known| known.network == network))
                });
                if let Some(known) = known {
                    known.count.give_back(counts.then(|| rules.known()), now);
                    if counts {
                        tables.changed_logins.insert(place.login.clone());
                    }
                }
            }
            Counted::Stranger => {
                if let Some(state) = state {
                    state.count.give_back(counts.then(|| rules.login()), now);
                    if counts {
                        tables.changed_logins.insert(place.login.clone());
                    }
                }
                if let Some(network) = place.network.filter(|_| !place.trusted)
                    && let Some(count) = tables.networks.get_mut(&network)
                {
                    count.give_back(counts.then(|| rules.client()), now);
                    if counts {
                        tables.changed_networks.insert(network);
                    }
                }
            }
        }
        if outcome == Some(Outcome::Right)
            && let Some(network) = place.network
            && tables.logins.entry(place.login.clone()).or_default().note(network, now)
        {
            tables.changed_logins.insert(place.login.clone());
        }
        tables.shrink(rules, now);
    }
}

impl Tables {
    /// Keeps each table within its bound: what is empty goes when a table is full, then what is least full.
    fn shrink(&mut self, rules: &Rules, now: i64) {
        let entries = rules.entries.max(64);
        // Down to three quarters, so that the work is done once for many entries.
        let target = entries / 4 * 3;
        if self.networks.len() > entries {
            let changed = &mut self.changed_networks;
            self.networks.retain(|network, count| {
                let keep = !count.idle(rules.client(), now);
                if !keep {
                    changed.insert(*network);
                }
                keep
            });
            let level = |count: &Count| u64::from(count.level(rules.client(), now)) + u64::from(count.held()) * 1000;
            for network in emptiest(&self.networks, target, level) {
                self.networks.remove(&network);
                changed.insert(network);
            }
        }
        if self.logins.len() > entries {
            let changed = &mut self.changed_logins;
            self.logins.retain(|login, state| {
                state.known.retain(|known| known.seen + rules.known_for > now || known.count.held() > 0);
                let keep = !(state.known.is_empty() && state.count.idle(rules.login(), now));
                if !keep {
                    changed.insert(login.clone());
                }
                keep
            });
            let level = |state: &LoginState| {
                let known = u64::from(!state.known.is_empty()) << 40;
                known + u64::from(state.count.level(rules.login(), now)) + (u64::from(state.count.held()) << 41)
            };
            for login in emptiest(&self.logins, target, level) {
                self.logins.remove(&login);
                changed.insert(login);
            }
        }
        if self.wrong.len() > entries {
            self.wrong.retain(|_, at| *at + rules.remembered() > now);
            // The oldest first: the smallest moment is the smallest level.
            for mac in emptiest(&self.wrong, target, |at| u64::try_from(*at).unwrap_or(0)) {
                self.wrong.remove(&mac);
            }
        }
    }
}

/// The keys with the lowest levels beyond the first `target` entries.
fn emptiest<K: Clone, V>(map: &HashMap<K, V>, target: usize, level: impl Fn(&V) -> u64) -> Vec<K> {
    let surplus = map.len().saturating_sub(target);
    if surplus == 0 {
        return Vec::new();
    }
    let mut all: Vec<(u64, &K)> = map.iter().map(|(key, value)| (level(value), key)).collect();
    all.select_nth_unstable_by_key(surplus - 1, |(level, _)| *level);
    all.into_iter().take(surplus).map(|(_, key)| key.clone()).collect()
}

impl Place {
    /// Gives the place back, or keeps it for good when the password was wrong for the first time.
    pub fn settle(mut self, outcome: Outcome, now: i64) {
        self.end(Some(outcome), now);
    }

    fn end(&mut self, outcome: Option<Outcome>, now: i64) {
        if self.throttle.rules.enabled {
            self.throttle.release(self, outcome, now);
            self.throttle.settled.notify_waiters();
        }
        // Nothing is left for Drop to give back.
        self.counted = Counted::Nowhere;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.counted != Counted::Nowhere {
            self.end(None, 0);
        }
    }
}

impl Rules {
    pub(crate) fn client(&self) -> Limit {
        Limit { most: self.client_limit.max(1), window: self.window.max(1), shuts: true }
    }

    pub(crate) fn login(&self) -> Limit {
        Limit { most: self.login_limit.max(1), window: self.window.max(1), shuts: false }
    }

    pub(crate) fn known(&self) -> Limit {
        Limit { most: self.known_limit.max(1), window: self.window.max(1), shuts: false }
    }

    /// How long a wrong password is remembered: long enough for a device that asks once a day.
    pub(crate) fn remembered(&self) -> i64 {
        self.window.max(86_400_000 * 2)
    }
}

#[cfg(test)]
mod tests;
