//! `rate`: token buckets ([`crate::bucket`]), as many rules at once as are configured ([`crate::rate_rule`]).
//!
//! All rules that apply must have enough, or none is charged. What a message (`instance`) has been charged is remembered for
//! [`INSTANCE_LIFE`], so that its later requests charge the difference alone.
//!
//! Limits: `entries` keys a rule, [`INSTANCES`] messages at once, [`CHARGES`] charges a message. Of what goes beyond, buckets that are
//! full go first; a message that is forgotten is charged again.
//!
//! Limits of the database (`rate_limits`: an address before its `@domain`) are remembered for `[cache] positive_ttl`, and for
//! `stale_ttl` more while the database is away.

use crate::bucket::{Bucket, Pace};
use crate::check::{Asked, Check, Opinion};
use crate::facts::{Facts, SECOND, shown};
use crate::memory::{Memory, lock};
use crate::rate_rule::Rule;
use crate::state::Kept;
use crate::table::{Table, Worth};
use anyhow::{Context, Result, bail};
use mailsql_config::policy::{OnTrouble, RateCheck, RateRule};
use mailsql_core::{Network, Unavailable};
use mailsql_daemon::Shared;
use mailsql_proto::ask::LimitsAction;
use mailsql_proto::policy::State;
use mailsql_store::RateLimit;
use mailsql_store::counters::Changes;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

/// Rules at most.
const MAX_RULES: usize = 64;
/// Messages whose charges are remembered.
const INSTANCES: usize = 20_000;
/// Charges of one message that are remembered: rules times keys.
const CHARGES: usize = 64;
/// How long a message is remembered since its last request: longer than a client may take for one.
const INSTANCE_LIFE: u64 = 3600 * SECOND;
/// The name under which messages are kept over a restart.
const INSTANCE_SPACE: &str = "instance";

/// The check.
pub(crate) struct Rates {
    rules: Vec<Rule>,
    except: Vec<Network>,
    on_trouble: OnTrouble,
    /// One a rule: limits of the database by subject; `None` where they are not asked for.
    limits: Vec<Option<Memory<Option<RateLimit>>>>,
    counts: Mutex<Counts>,
}

impl Worth for Bucket {
    fn worth(&self, now: u64) -> u64 {
        self.0.saturating_sub(now)
    }
}

/// What a message has been charged.
#[derive(Clone, Debug, Default, PartialEq)]
struct Instance {
    /// Nanoseconds since 1970.
    seen: u64,
    /// Hash of its last recipient that was let through.
    recipient: u64,
    /// Rule, hash of the key, amount.
    charges: Vec<(u16, u64, u64)>,
}

impl Worth for Instance {
    fn worth(&self, now: u64) -> u64 {
        self.seen.saturating_add(INSTANCE_LIFE).saturating_sub(now)
    }
}

struct Counts {
    /// One table a rule.
    buckets: Vec<Table<Bucket>>,
    instances: Table<Instance>,
    /// Keys of the request under way, one behind the other; kept to save the allocation.
    keys: Vec<u8>,
    plans: Vec<Plan>,
}

/// What a rule makes of the request under way.
#[derive(Clone, Copy)]
struct Plan {
    rule: usize,
    /// Where the key lies in `keys`.
    key: (usize, usize),
    hash: u64,
    total: u64,
    bucket: Bucket,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Enough,
    /// The rule, and nanoseconds to wait.
    TooFast(usize, u64),
    /// A limit is not known. Nothing is charged.
    Unknown,
}

/// The database must be asked.
struct NotKnown;

/// A key of a rule.
type RuleKey = (usize, Box<[u8]>);

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The pace of a rule with the database's limit; `None` for no limit.
fn pace(rule: Pace, limit: Option<RateLimit>) -> Option<Pace> {
    let Some(limit) = limit else { return Some(rule) };
    let amount = match limit.amount {
        Some(amount) => u64::try_from(amount).ok()?,
        None => rule.limit,
    };
    let per = limit.per.map_or(rule.per, |seconds| seconds.saturating_mul(SECOND));
    // A burst that was not given follows the limit in the rule's own proportion.
    let burst = limit.burst.unwrap_or_else(|| {
        let scaled = u128::from(rule.burst) * u128::from(amount) / u128::from(rule.limit.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
    });
    Some(Pace { limit: amount, per, burst })
}

impl Counts {
    /// Charges all rules or none: the whole decision, given the pace of each rule and key. What an early rule refuses is refused,
    /// whatever a later one does not know.
    fn decide(
        &mut self,
        rules: &[Rule],
        facts: &Facts<'_>,
        mut pace_of: impl FnMut(usize, &[u8]) -> Result<Option<Pace>, NotKnown>,
    ) -> Outcome {
        self.keys.clear();
        self.plans.clear();
        let now = facts.now;
        let known = self.instances.find(facts.instance).filter(|known| known.worth(now) > 0);
        let recipient = hash(facts.recipient);
        let another = known.is_none_or(|known| known.recipient != recipient);
        let mut unknown = false;
        for (at, rule) in rules.iter().enumerate() {
            let start = self.keys.len();
            if !rule.key(facts, &mut self.keys) {
                self.keys.truncate(start);
                continue;
            }
            let key = &self.keys[start..];
            let pace = match pace_of(at, key) {
                Ok(Some(pace)) => pace,
                Ok(None) => continue,
                Err(NotKnown) => {
                    unknown = true;
                    continue;
                }
            };
            let hash = hash(key);
            let charge = known
                .and_then(|known| known.charges.iter().find(|(rule, key, _)| (usize::from(*rule), *key) == (at, hash)));
            let so_far = charge.map_or(0, |(_, _, amount)| *amount);
            let total = rule.total(facts, so_far, another);
            let bucket = self.buckets[at].find(key).copied().unwrap_or_default();
            let bucket = if total >= so_far {
                match bucket.take(total - so_far, pace, now) {
                    Ok(bucket) => bucket,
                    Err(wait) => return Outcome::TooFast(at, wait),
                }
            } else {
                bucket.give(so_far - total, pace, now)
            };
            if total != so_far {
                self.plans.push(Plan { rule: at, key: (start, self.keys.len()), hash, total, bucket });
            }
        }
        if unknown {
            return Outcome::Unknown;
        }
        self.charge(facts, recipient, another);
        Outcome::Enough
    }

    fn charge(&mut self, facts: &Facts<'_>, recipient: u64, another: bool) {
        for plan in &self.plans {
            self.buckets[plan.rule].set(&self.keys[plan.key.0..plan.key.1], plan.bucket, facts.now);
        }
        let told = !self.plans.is_empty() || (another && facts.state == State::Rcpt);
        if facts.instance.is_empty() || !told {
            return;
        }
        let known = self.instances.find(facts.instance).filter(|known| known.worth(facts.now) > 0);
        let mut instance = known.cloned().unwrap_or_default();
        instance.seen = facts.now;
        if facts.state == State::Rcpt {
            instance.recipient = recipient;
        }
        for plan in &self.plans {
            let rule = u16::try_from(plan.rule).unwrap_or(u16::MAX);
            match instance.charges.iter_mut().find(|charge| (charge.0, charge.1) == (rule, plan.hash)) {
                Some(charge) => charge.2 = plan.total,
                None => {
                    if instance.charges.len() == CHARGES {
                        instance.charges.remove(0);
                    }
                    instance.charges.push((rule, plan.hash, plan.total));
                }
            }
        }
        let key = &facts.instance[..facts.instance.len().min(crate::facts::MAX_KEY)];
        self.instances.set(key, instance, facts.now);
    }
}

impl Rates {
    /// Reads the settings.
    ///
    /// # Errors
    /// A line that names the setting which is wrong.
    pub(crate) fn new(settings: &RateCheck) -> Result<Self> {
        let configured = if settings.rule.is_empty() { RateRule::defaults() } else { settings.rule.clone() };
        if configured.len() > MAX_RULES {
            bail!("[policy.rate] has more than {MAX_RULES} rules");
        }
        let mut rules: Vec<Rule> = Vec::new();
        for rule in &configured {
            let name = &rule.name;
            if rules.iter().any(|known| *known.name == **name) {
                bail!("[policy.rate] has two rules called {name}");
            }
            let rule = Rule::new(rule).map_err(anyhow::Error::msg);
            rules.push(rule.with_context(|| format!("[[policy.rate.rule]] {name:?}"))?);
        }
        let counts = Counts {
            buckets: rules.iter().map(|_| Table::new(settings.entries)).collect(),
            instances: Table::new(INSTANCES),
            keys: Vec::new(),
            plans: Vec::new(),
        };
        let limits = rules.iter().map(|rule| (settings.database && rule.has_subject()).then(Memory::new)).collect();
        Ok(Self {
            rules,
            except: networks(&settings.except).context("[policy.rate] except")?,
            on_trouble: settings.on_trouble,
            limits,
            counts: Mutex::new(counts),
        })
    }

    /// Decides with the limits that are remembered or `fetched`; notes in `missing` which others are needed.
    fn decide(
        &self,
        facts: &Facts<'_>,
        fetched: &[(RuleKey, Option<RateLimit>)],
        missing: &mut Vec<RuleKey>,
    ) -> Outcome {
        let pace_of = |at: usize, key: &[u8]| {
            let rule: &Rule = &self.rules[at];
            let Some(limits) = &self.limits[at] else { return Ok(Some(rule.pace)) };
            let known = fetched.iter().find(|((rule, subject), _)| *rule == at && **subject == *key);
            match known.map(|(_, limit)| *limit).or_else(|| limits.fresh(key, facts.now)) {
                Some(limit) => Ok(pace(rule.pace, limit)),
                None => {
                    missing.push((at, key.into()));
                    Err(NotKnown)
                }
            }
        };
        lock(&self.counts).decide(&self.rules, facts, pace_of)
    }

    fn opinion(&self, facts: &Facts<'_>, outcome: Outcome) -> Opinion {
        match outcome {
            Outcome::Enough | Outcome::Unknown => Opinion::None,
            Outcome::TooFast(at, wait) => {
                let rule = &self.rules[at];
                let mut key = Vec::new();
                rule.key(facts, &mut key);
                tracing::info!(target: "policy", rule = %rule.name, key = %shown(&key), wait_seconds = wait.div_ceil(SECOND), "over the limit");
                let seconds = wait.div_ceil(SECOND).to_string();
                Opinion::Act(rule.answer.with(&[("rule", &rule.name), ("seconds", &seconds)]))
            }
        }
    }

    /// Asks the database for limits that are not remembered, then decides.
    async fn fetch(&self, facts: &Facts<'_>, shared: &Shared, missing: Vec<RuleKey>) -> Result<Opinion, Unavailable> {
        let mut fetched = Vec::new();
        for key in missing {
            let limit = self.ask_limit(&key, facts.now, shared).await?;
            fetched.push((key, limit));
        }
        // With the same `now`, nothing that was fresh before is stale by now.
        Ok(self.opinion(facts, self.decide(facts, &fetched, &mut Vec::new())))
    }

    async fn ask_limit(&self, key: &RuleKey, now: u64, shared: &Shared) -> Result<Option<RateLimit>, Unavailable> {
        let (at, key) = key;
        let Some(limits) = &self.limits[*at] else { return Ok(None) };
        // Nothing in the database has a name that is not UTF-8.
        let Ok(subject) = std::str::from_utf8(key) else { return Ok(None) };
        let (subject, domain) = match subject.rsplit_once('@') {
            Some((_, domain)) => (subject.to_owned(), format!("@{domain}")),
            None => (format!("@{subject}"), format!("@{subject}")),
        };
        let cache = &shared.config.cache;
        match shared.store.rate_limit(&self.rules[*at].name, &subject, &domain).await {
            Ok(limit) => {
                limits.put(key, limit, now, cache.positive_ttl.0, cache.stale_ttl.0);
                Ok(limit)
            }
            Err(trouble) => limits.stale(key, now).ok_or(trouble),
        }
    }

    /// A line about a bucket.
    fn line(&self, at: usize, key: &[u8], bucket: Bucket, now: u64) -> String {
        let rule = &self.rules[at];
        let limit = self.limits[at].as_ref().and_then(|limits| limits.stale(key, now)).flatten();
        let head = format!("rate rule={} key=\"{}\"", rule.name, shown(key).replace('"', "'"));
        let Some(pace) = pace(rule.pace, limit) else { return format!("{head} limit=none") };
        let level = bucket.level(pace, now);
        let wait = |tokens: u64| bucket.take(tokens, pace, now).err().unwrap_or(0).div_ceil(SECOND);
        let full = bucket.0.saturating_sub(now).min(pace.whole()).div_ceil(SECOND);
        format!(
            "{head} level={level} burst={} limit={} per_seconds={} counts={} from={} next_seconds={} full_seconds={full}",
            pace.burst,
            pace.limit,
            pace.per / SECOND,
            rule.word(),
            if limit.is_some() { "database" } else { "configuration" },
            wait(1),
        )
    }
}

/// Networks of a setting.
///
/// # Errors
/// A line that names the one which is none.
pub(crate) fn networks(list: &[String]) -> Result<Vec<Network>> {
    list.iter().map(|text| text.parse().map_err(anyhow::Error::msg)).collect()
}

impl Check for Rates {
    fn name(&self) -> &'static str {
        "rate"
    }

    fn on_trouble(&self) -> OnTrouble {
        self.on_trouble
    }

    fn ask<'a>(&'a self, facts: &'a Facts<'a>, shared: &'a Shared) -> Asked<'a> {
        if !facts.has_sender() {
            return Asked::NONE;
        }
        if facts.client.is_some_and(|client| self.except.iter().any(|network| network.contains(client))) {
            return Asked::NONE;
        }
        let mut missing = Vec::new();
        match self.decide(facts, &[], &mut missing) {
            Outcome::Unknown => Asked::Later(Box::pin(self.fetch(facts, shared, missing))),
            outcome => Asked::Now(Ok(self.opinion(facts, outcome))),
        }
    }

    fn kept(&self) -> Option<&dyn Kept> {
        Some(self)
    }

    fn limits(&self, action: LimitsAction, who: Option<&str>, now: u64) -> Vec<String> {
        let mut counts = lock(&self.counts);
        let mut lines = Vec::new();
        let Some(who) = who else {
            for (at, table) in counts.buckets.iter().enumerate() {
                let running = table.iter().filter(|(_, bucket)| bucket.0 > now);
                lines.extend(running.map(|(key, bucket)| self.line(at, key, *bucket, now)));
            }
            return lines;
        };
        let who = who.to_lowercase();
        for at in 0..self.rules.len() {
            let key = who.strip_prefix('@').unwrap_or(&who).as_bytes();
            let bucket = match action {
                LimitsAction::Reset => counts.buckets[at].remove(key),
                LimitsAction::List | LimitsAction::Explain => counts.buckets[at].find(key).copied(),
            };
            lines.extend(bucket.map(|bucket| self.line(at, key, bucket, now)));
        }
        lines
    }

    fn forget(&self) {
        self.limits.iter().flatten().for_each(Memory::forget);
    }
}

impl Instance {
    fn encode(&self) -> Box<[u8]> {
        let mut out = [self.seen.to_be_bytes(), self.recipient.to_be_bytes()].concat();
        for (rule, key, amount) in &self.charges {
            out.extend_from_slice(&rule.to_be_bytes());
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&amount.to_be_bytes());
        }
        out.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (seen, rest) = bytes.split_first_chunk()?;
        let (recipient, mut rest) = rest.split_first_chunk()?;
        let mut charges = Vec::new();
        while !rest.is_empty() {
            let (rule, after) = rest.split_first_chunk()?;
            let (key, after) = after.split_first_chunk()?;
            let (amount, after) = after.split_first_chunk()?;
            charges.push((u16::from_be_bytes(*rule), u64::from_be_bytes(*key), u64::from_be_bytes(*amount)));
            rest = after;
        }
        Some(Self { seen: u64::from_be_bytes(*seen), recipient: u64::from_be_bytes(*recipient), charges })
    }
}

/// Buckets are kept by the name of their rule, which may thus move in the configuration; messages only over a clean stop.
impl Kept for Rates {
    fn spaces(&self) -> Vec<String> {
        let rules = self.rules.iter().map(|rule| format!("rate/{}", rule.name));
        rules.chain([INSTANCE_SPACE.to_owned()]).collect()
    }

    fn restore(&self, space: &str, key: &[u8], value: &[u8], now: u64) {
        let mut counts = lock(&self.counts);
        if space == INSTANCE_SPACE {
            if let Some(instance) = Instance::decode(value) {
                counts.instances.set(key, instance, now);
            }
            return;
        }
        let name = space.strip_prefix("rate/").unwrap_or_default();
        let at = self.rules.iter().position(|rule| *rule.name == *name);
        if let (Some(at), Ok(full)) = (at, value.try_into()) {
            counts.buckets[at].restore(key, Bucket(u64::from_be_bytes(full)), now);
        }
    }

    fn changes(&self, now: u64, stopping: bool) -> Vec<Changes> {
        let mut counts = lock(&self.counts);
        let mut changes = Vec::new();
        for (rule, table) in self.rules.iter().zip(&mut counts.buckets) {
            table.sweep(now);
            changes.push(table.changes(&format!("rate/{}", rule.name), |bucket| bucket.0.to_be_bytes().into()));
        }
        counts.instances.sweep(now);
        if stopping {
            counts.instances.lost();
            changes.push(counts.instances.changes(INSTANCE_SPACE, Instance::encode));
        } else {
            drop(counts.instances.changes(INSTANCE_SPACE, |_| Box::default()));
        }
        changes
    }

    fn lost(&self) {
        lock(&self.counts).buckets.iter_mut().for_each(Table::lost);
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
