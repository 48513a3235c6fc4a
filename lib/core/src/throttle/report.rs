//! What the throttle holds, for a person.

use super::{Gate, Throttle};
use crate::network::Network;
use std::net::IpAddr;

/// One count and what it means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A login, where it is one's.
    pub login: Option<Box<str>>,
    /// A client network, where it is one's; with a login, that login's count for this known client.
    pub network: Option<Network>,
    /// Different wrong tries counted, rounded up.
    pub wrong: u32,
    /// At how many it is full.
    pub limit: u32,
    /// Seconds until the next try is let through; 0 where it is now.
    pub refused_seconds: i64,
    /// Seconds since this client last got in, where it is a known one.
    pub seen_seconds: Option<i64>,
}

impl Throttle {
    /// All counts that are not empty, the fullest first, `most` of them.
    #[must_use]
    pub fn list(&self, now: i64, most: usize) -> Vec<Standing> {
        let mut found: Vec<Standing> = self.standings(now, |_| true, |_| true);
        found.retain(|standing| standing.wrong > 0);
        found.sort_by_key(|standing| std::cmp::Reverse((standing.refused_seconds, standing.wrong)));
        found.truncate(most);
        found
    }

    /// What is held of one login (folded address) with its known clients, or of one client.
    #[must_use]
    pub fn explain(&self, of: &str, now: i64) -> Vec<Standing> {
        match of.parse::<IpAddr>().map(Network::of_client).or_else(|_| of.parse()) {
            Ok(wanted) => self.standings(now, |network| network == wanted, |_| false),
            Err(_) => self.standings(now, |_| false, |login| login == of),
        }
    }

    fn standings(&self, now: i64, network: impl Fn(Network) -> bool, login: impl Fn(&str) -> bool) -> Vec<Standing> {
        let rules = self.rules();
        let standing = |count: &super::Count, limit: super::Limit| Standing {
            login: None,
            network: None,
            wrong: count.level(limit, now).div_ceil(1000),
            limit: limit.most,
            refused_seconds: match count.gate(limit, now) {
                Gate::Shut => (count.refuses_for(limit, now) + 999) / 1000,
                Gate::Open | Gate::Busy => 0,
            },
            seen_seconds: None,
        };
        let tables = self.lock();
        let mut found = Vec::new();
        for (name, count) in tables.networks.iter().filter(|(name, _)| network(**name)) {
            found.push(Standing { network: Some(*name), ..standing(count, rules.client()) });
        }
        for (name, state) in tables.logins.iter().filter(|(name, _)| login(name)) {
            found.push(Standing { login: Some(name.clone()), ..standing(&state.count, rules.login()) });
            for known in state.known.iter().filter(|known| known.seen + rules.known_for > now) {
                found.push(Standing {
                    login: Some(name.clone()),
                    network: Some(known.network),
                    seen_seconds: Some((now - known.seen).max(0) / 1000),
                    ..standing(&known.count, rules.known())
                });
            }
        }
        found
    }
}
