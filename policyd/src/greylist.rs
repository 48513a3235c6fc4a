//! `greylist`: strangers are told to come back; mail servers do, most spam senders do not.
//!
//! A triplet is the client's network (/24, /64), the sender and the recipient. The first mail of a triplet is refused for now; from
//! `delay` after that and until `retry_window` it passes, and from then on for as long as it is used within `keep`. A network with
//! `allow_after` triplets that came back need not wait any more, again as long as it is used within `keep`.
//!
//! Asked at RCPT, or at DATA and END-OF-MESSAGE where there is one recipient; never of clients that have logged in. Recipients are
//! protected by what their row says, or their domain's (`greylist` in `users` and `domains`), or else `default`.
//!
//! Triplets are kept as hashes: 16 bytes, whatever a client writes. `entries` of them; those not yet used again go first.

use crate::answer::Answer;
use crate::check::{Asked, Check, Opinion};
use crate::facts::{Facts, address, fold};
use crate::memory::{Memory, lock};
use crate::rate::networks;
use crate::state::Kept;
use crate::table::{Table, Worth};
use anyhow::{Context, Result};
use mailsql_config::policy::{Greylist as Settings, OnTrouble};
use mailsql_core::{Address, Network, Unavailable};
use mailsql_daemon::Shared;
use mailsql_proto::ask::LimitsAction;
use mailsql_proto::policy::State;
use mailsql_store::counters::Changes;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Mutex;

const TRIPLETS: &str = "greylist";
const NETWORKS: &str = "greylist/network";
/// Networks remembered, for each triplet remembered.
const NETWORKS_SHARE: usize = 4;
/// What makes a triplet that came back worth more than any that did not, in seconds.
const CAME_BACK: u64 = 1 << 40;

/// Times in seconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    delay: u64,
    retry_window: u64,
    keep: u64,
    allow_after: u32,
}

/// What is known of a triplet: seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Triplet {
    first: u64,
    last: u64,
    came_back: bool,
    /// Until when it means anything.
    end: u64,
}

impl Worth for Triplet {
    fn worth(&self, now: u64) -> u64 {
        let left = self.end.saturating_sub(now / crate::facts::SECOND);
        if left > 0 && self.came_back { left + CAME_BACK } else { left }
    }
}

/// What is known of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Triplets that came back.
    came_back: u32,
    end: u64,
}

impl Worth for Known {
    fn worth(&self, now: u64) -> u64 {
        self.end.saturating_sub(now / crate::facts::SECOND)
    }
}

/// What becomes of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It passes; what is to be remembered.
    Pass { triplet: Option<Triplet>, network: Option<Known> },
    /// It waits so many seconds.
    Wait { triplet: Triplet, seconds: u64 },
}

/// The decision.
fn decide(triplet: Option<Triplet>, network: Option<Known>, times: Times, now: u64) -> Verdict {
    let network = network.filter(|known| known.end > now);
    let triplet = triplet.filter(|known| known.end > now);
    let keep = now.saturating_add(times.keep);
    let trusted = |known: &Known| times.allow_after > 0 && known.came_back >= times.allow_after;
    if let Some(known) = network.filter(trusted) {
        return Verdict::Pass { triplet: None, network: Some(Known { end: keep, ..known }) };
    }
    match triplet {
        None => {
            let end = now.saturating_add(times.delay).saturating_add(times.retry_window);
            let triplet = Triplet { first: now, last: now, came_back: false, end };
            if times.delay == 0 {
                return decide(Some(triplet), network, times, now);
            }
            Verdict::Wait { triplet, seconds: times.delay }
        }
        Some(known) if known.came_back => {
            Verdict::Pass { triplet: Some(Triplet { last: now, end: keep, ..known }), network: None }
        }
        // A clock that was set back makes nobody wait longer than the delay.
        Some(known) if now < known.first.saturating_add(times.delay) => {
            let waited = now.saturating_sub(known.first);
            Verdict::Wait { triplet: known, seconds: times.delay - waited.min(times.delay) }
        }
        Some(known) => {
            let came_back = network.map_or(0, |known| known.came_back).saturating_add(1);
            Verdict::Pass {
                triplet: Some(Triplet { last: now, came_back: true, end: keep, ..known }),
                network: Some(Known { came_back, end: keep }),
            }
        }
    }
}

/// The check.
pub(crate) struct Greylist {
    times: Times,
    bits: (u8, u8),
    default: bool,
    except: Vec<Network>,
    answer: Answer,
    on_trouble: OnTrouble,
    switches: Memory<Option<bool>>,
    known: Mutex<Tables>,
}

struct Tables {
    triplets: Table<Triplet>,
    networks: Table<Known>,
}

impl Greylist {
    /// Reads the settings.
    ///
    /// # Errors
    /// A line that names the setting which is wrong.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let answer = Answer::parse(&settings.action, &["seconds"]).map_err(anyhow::Error::msg);
        let times = Times {
            delay: settings.delay.0.as_secs(),
            retry_window: settings.retry_window.0.as_secs(),
            keep: settings.keep.0.as_secs(),
            allow_after: settings.allow_after,
        };
        anyhow::ensure!(settings.ipv4_bits <= 32, "[policy.greylist] ipv4_bits is more than 32");
        anyhow::ensure!(settings.ipv6_bits <= 128, "[policy.greylist] ipv6_bits is more than 128");
        anyhow::ensure!(
            times.retry_window > 0 && times.keep > 0,
            "[policy.greylist] retry_window and keep cannot be 0"
        );
        Ok(Self {
            times,
            bits: (settings.ipv4_bits, settings.ipv6_bits),
            default: settings.default,
            except: networks(&settings.except).context("[policy.greylist] except")?,
            answer: answer.context("[policy.greylist] action")?,
            on_trouble: settings.on_trouble,
            switches: Memory::new(),
            known: Mutex::new(Tables {
                triplets: Table::new(settings.entries),
                networks: Table::new(settings.entries.div_ceil(NETWORKS_SHARE)),
            }),
        })
    }

    fn network(&self, client: IpAddr) -> String {
        Network::around(client, self.bits.0, self.bits.1).to_string()
    }

    /// Decides for a protected recipient, and remembers.
    fn decide(&self, facts: &Facts<'_>, client: IpAddr) -> Opinion {
        let network = self.network(client);
        let key = triplet_key(&network, facts);
        let mut tables = lock(&self.known);
        let (triplet, known) = (tables.triplets.find(&key).copied(), tables.networks.find(network.as_bytes()).copied());
        match decide(triplet, known, self.times, facts.seconds()) {
            Verdict::Pass { triplet, network: known } => {
                if let Some(triplet) = triplet {
                    tables.triplets.set(&key, triplet, facts.now);
                }
                if let Some(known) = known {
                    tables.networks.set(network.as_bytes(), known, facts.now);
                }
                Opinion::None
            }
            Verdict::Wait { triplet: new, seconds } => {
                if triplet != Some(new) {
                    tables.triplets.set(&key, new, facts.now);
                }
                Opinion::Act(self.answer.with(&[("seconds", &seconds.max(1).to_string())]))
            }
        }
    }

    async fn ask_switch(
        &self,
        facts: &Facts<'_>,
        client: IpAddr,
        recipient: Address,
        shared: &Shared,
    ) -> Result<Opinion, Unavailable> {
        let key = recipient.folded();
        let base = key.split_detail(&shared.rules.delimiters).map_or_else(|| key.clone(), |(base, _)| base);
        let switch = match shared.store.greylisted(&base).await {
            Ok(switch) => {
                let cache = &shared.config.cache;
                self.switches.put(key.as_str().as_bytes(), switch, facts.now, cache.positive_ttl.0, cache.stale_ttl.0);
                switch
            }
            Err(trouble) => self.switches.stale(key.as_str().as_bytes(), facts.now).ok_or(trouble)?,
        };
        Ok(if switch.unwrap_or(self.default) { self.decide(facts, client) } else { Opinion::None })
    }
}

fn triplet_key(network: &str, facts: &Facts<'_>) -> [u8; 16] {
    let mut text = Vec::with_capacity(128);
    text.extend_from_slice(network.as_bytes());
    for part in [facts.sender, facts.recipient] {
        text.push(0);
        fold(&mut text, part);
    }
    let digest = Sha256::digest(&text);
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

impl Check for Greylist {
    fn name(&self) -> &'static str {
        "greylist"
    }

    fn on_trouble(&self) -> OnTrouble {
        self.on_trouble
    }

    fn ask<'a>(&'a self, facts: &'a Facts<'a>, shared: &'a Shared) -> Asked<'a> {
        let asked = matches!(facts.state, State::Rcpt | State::Data | State::EndOfMessage);
        let (true, false, Some(client)) = (asked && !facts.recipient.is_empty(), facts.authenticated(), facts.client)
        else {
            return Asked::NONE;
        };
        if self.except.iter().any(|network| network.contains(client)) {
            return Asked::NONE;
        }
        // What is no address at all is refused by Postfix, or has no row that says anything.
        let Some(recipient) = address(facts.recipient) else {
            return Asked::Now(Ok(if self.default { self.decide(facts, client) } else { Opinion::None }));
        };
        match self.switches.fresh(recipient.folded().as_str().as_bytes(), facts.now) {
            Some(switch) if switch.unwrap_or(self.default) => Asked::Now(Ok(self.decide(facts, client))),
            Some(_) => Asked::NONE,
            None => Asked::Later(Box::pin(self.ask_switch(facts, client, recipient, shared))),
        }
    }

    fn kept(&self) -> Option<&dyn Kept> {
        Some(self)
    }

    /// Networks alone: triplets are hashes.
    fn limits(&self, action: LimitsAction, who: Option<&str>, now: u64) -> Vec<String> {
        let mut tables = lock(&self.known);
        let now = now / crate::facts::SECOND;
        let line = |network: &[u8], known: &Known| {
            let waits = self.times.allow_after == 0 || known.came_back < self.times.allow_after;
            format!(
                "greylist network={} came_back={} allow_after={} waits={} forgotten_seconds={}",
                String::from_utf8_lossy(network),
                known.came_back,
                self.times.allow_after,
                if waits { "yes" } else { "no" },
                known.end.saturating_sub(now),
            )
        };
        let Some(who) = who else {
            return tables.networks.iter().map(|(network, known)| line(network, known)).collect();
        };
        let Ok(client) = who.parse::<IpAddr>() else { return Vec::new() };
        let network = self.network(client);
        let known = match action {
            LimitsAction::Reset => tables.networks.remove(network.as_bytes()),
            LimitsAction::List | LimitsAction::Explain => tables.networks.find(network.as_bytes()).copied(),
        };
        known.iter().map(|known| line(network.as_bytes(), known)).collect()
    }

    fn forget(&self) {
        self.switches.forget();
    }
}

fn encode(numbers: &[u64]) -> Box<[u8]> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn decode<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    if bytes.len() != 8 * N {
        return None;
    }
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_be_bytes(bytes.try_into().ok()?);
    }
    Some(numbers)
}

impl Kept for Greylist {
    fn spaces(&self) -> Vec<String> {
        vec![TRIPLETS.to_owned(), NETWORKS.to_owned()]
    }

    fn restore(&self, space: &str, key: &[u8], value: &[u8], now: u64) {
        let mut tables = lock(&self.known);
        if space == NETWORKS {
            if let Some([came_back, end]) = decode(value) {
                let came_back = u32::try_from(came_back).unwrap_or(u32::MAX);
                tables.networks.restore(key, Known { came_back, end }, now);
            }
        } else if let Some([first, last, came_back, end]) = decode(value) {
            tables.triplets.restore(key, Triplet { first, last, came_back: came_back != 0, end }, now);
        }
    }

    fn changes(&self, now: u64, _stopping: bool) -> Vec<Changes> {
        let mut tables = lock(&self.known);
        tables.triplets.sweep(now);
        tables.networks.sweep(now);
        let triplets = tables
            .triplets
            .changes(TRIPLETS, |known| encode(&[known.first, known.last, known.came_back.into(), known.end]));
        let networks = tables.networks.changes(NETWORKS, |known| encode(&[known.came_back.into(), known.end]));
        vec![triplets, networks]
    }

    fn lost(&self) {
        let mut tables = lock(&self.known);
        tables.triplets.lost();
        tables.networks.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::SECOND;
    use crate::facts::tests::rcpt;

    const START: u64 = 1_700_000_000;

    fn greylist(allow_after: u32) -> Greylist {
        Greylist::new(&Settings { allow_after, ..Settings::default() }).unwrap()
    }

    /// Seconds to wait; 0 for none.
    fn waits(greylist: &Greylist, after: u64, client: &str, sender: &str, recipient: &str) -> u64 {
        let facts = rcpt((START + after) * SECOND, client, "", sender, recipient);
        match greylist.decide(&facts, client.parse().unwrap()) {
            Opinion::Act(action) => {
                let digits = action.as_str().split(' ').find_map(|word| word.parse().ok());
                digits.unwrap()
            }
            _ => 0,
        }
    }

    #[test]
    fn strangers_wait_once_and_are_then_known() {
        let day = 86_400;
        let greylist = greylist(0);
        for (after, client, sender, want) in [
            (0, "192.0.2.1", "a@x", 300),
            (1, "192.0.2.1", "a@x", 299),
            (299, "192.0.2.99", "A@X", 1),
            (300, "192.0.2.99", "a@x", 0),
            (301, "192.0.2.1", "a@x", 0),
            (301, "192.0.2.1", "b@x", 300),
            (301, "192.0.3.1", "a@x", 300),
            (301, "192.0.2.1", "", 300),
            (301, "2001:db8::1", "a@x", 300),
            (700, "2001:db8::ffff", "a@x", 0),
            (700, "2001:db8:0:1::1", "a@x", 300),
            // Came back too late: a stranger again.
            (301 + 300 + 2 * day, "192.0.2.1", "b@x", 300),
            // Used within its time, it stays known; a month of silence ends that.
            (30 * day, "192.0.2.1", "a@x", 0),
            (60 * day, "192.0.2.1", "a@x", 0),
            (96 * day + 1, "192.0.2.1", "a@x", 300),
        ] {
            assert_eq!(waits(&greylist, after, client, sender, "info@a.jp"), want, "{after} {client} {sender}");
        }
    }

    #[test]
    fn a_network_that_came_back_often_enough_waits_no_more() {
        let greylist = greylist(2);
        for (after, sender, want) in
            [(0, "a@x", 300), (300, "a@x", 0), (301, "a@x", 0), (302, "b@x", 300), (602, "b@x", 0), (603, "c@x", 0)]
        {
            assert_eq!(waits(&greylist, after, "192.0.2.1", sender, "info@a.jp"), want, "{after} {sender}");
        }
        assert_eq!(waits(&greylist, 603, "192.0.3.1", "c@x", "info@a.jp"), 300);
        let now = (START + 603) * SECOND;
        let listed = greylist.limits(LimitsAction::List, None, now);
        assert_eq!(listed.len(), 1);
        assert!(
            listed[0].starts_with("greylist network=192.0.2.0/24 came_back=2 allow_after=2 waits=no"),
            "{listed:?}"
        );
        assert_eq!(greylist.limits(LimitsAction::Reset, Some("192.0.2.200"), now).len(), 1);
        assert_eq!(waits(&greylist, 604, "192.0.2.1", "d@x", "info@a.jp"), 300);
    }

    #[test]
    fn what_is_known_outlives_a_restart() {
        let (before, after) = (greylist(1), greylist(1));
        assert_eq!(waits(&before, 0, "192.0.2.1", "a@x", "info@a.jp"), 300);
        assert_eq!(waits(&before, 300, "192.0.2.1", "a@x", "info@a.jp"), 0);
        assert_eq!(waits(&before, 300, "198.51.100.1", "a@x", "info@a.jp"), 300);
        let now = (START + 310) * SECOND;
        for change in before.changes(now, true) {
            for (key, value) in change.set {
                after.restore(&change.space, &key, &value, now);
            }
        }
        assert_eq!(waits(&after, 310, "192.0.2.1", "new@x", "info@a.jp"), 0, "the network is known");
        assert_eq!(waits(&after, 310, "198.51.100.1", "a@x", "info@a.jp"), 290);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_longer() {
        let greylist = greylist(0);
        assert_eq!(waits(&greylist, 1000, "192.0.2.1", "a@x", "info@a.jp"), 300);
        assert_eq!(waits(&greylist, 0, "192.0.2.1", "a@x", "info@a.jp"), 300);
    }
}
