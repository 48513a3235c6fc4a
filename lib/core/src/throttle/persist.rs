//! What outlives a restart: counts and known clients, as rows to be written down and read back.

use super::{Count, Known, LoginState, Throttle};
use crate::network::Network;

/// One thing that changed since it was last written down. Moments are Unix milliseconds, levels thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A client network's count, or nothing any more.
    Network {
        /// The network.
        network: Network,
        /// Its count.
        count: Option<Count>,
    },
    /// A login's count and known clients, in place of all that was known of it.
    Login {
        /// The folded address.
        login: Box<str>,
        /// Its count, if it is worth keeping.
        count: Option<Count>,
        /// Networks it came from, when, and their counts.
        known: Vec<(Network, i64, Count)>,
    },
}

impl Throttle {
    /// What changed since the last call. The caller writes it down, or hands it back by [`Self::changed_again`].
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let mut tables = self.lock();
        let tables = &mut *tables;
        let networks = tables.changed_networks.drain().map(|network| {
            let count = tables.networks.get(&network).copied();
            Change::Network { network, count }
        });
        let logins = tables.changed_logins.drain().map(|login| {
            let (count, known) = match tables.logins.get(&login) {
                None => (None, Vec::new()),
                Some(state) => {
                    let known = state.known.iter().map(|known| (known.network, known.seen, known.count));
                    (Some(state.count), known.collect())
                }
            };
            Change::Login { login, count, known }
        });
        networks.chain(logins).collect()
    }

    /// Takes back changes that could not be written, to be tried again with whatever they are by then.
    pub fn changed_again(&self, changes: Vec<Change>) {
        let mut tables = self.lock();
        for change in changes {
            match change {
                Change::Network { network, .. } => drop(tables.changed_networks.insert(network)),
                Change::Login { login, .. } => drop(tables.changed_logins.insert(login)),
            }
        }
    }

    /// Puts back what was written down, before anybody is let in.
    pub fn restore(&self, rows: impl IntoIterator<Item = Change>, now: i64) {
        let mut tables = self.lock();
        for row in rows {
            match row {
                Change::Network { network, count: Some(count) } => {
                    tables.networks.insert(network, count);
                }
                Change::Login { login, count, known } => {
                    let known = known.into_iter().map(|(network, seen, count)| Known { network, seen, count });
                    let state = LoginState { count: count.unwrap_or_default(), known: known.collect() };
                    tables.logins.insert(login, state);
                }
                Change::Network { count: None, .. } => {}
            }
        }
        tables.shrink(&self.rules, now);
    }
}
