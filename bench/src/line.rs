//! One line of work: contenders that take turns.
//!
//! After a warm-up of each, the rounds go A B C, A B C, …, so that whatever disturbs the machine for longer than a round
//! disturbs all alike. A turn whose cost at the database shows that it did not measure what its line says (a cached
//! lookup that asks, an uncached one that does not) is an error.

use crate::figures::{Entry, Line, Role, Turn, percentile};
use crate::fixture::Accounts;
use crate::load::Tally;
use crate::meter::{Counters, own_time, session_time};
use crate::plan::Plan;
use crate::report::progress;
use anyhow::{Context, Result, bail};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What does the work of a contender for the given time.
type Work<'a> = Box<dyn FnMut(Duration) -> Result<Tally> + 'a>;

/// Who takes turns at a line of work.
pub(crate) struct Contender<'a> {
    name: String,
    role: Role,
    work: Work<'a>,
    session: Option<i32>,
    queries: Option<RangeInclusive<f64>>,
    least: Duration,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(role: Role, name: impl Into<String>, work: impl FnMut(Duration) -> Result<Tally> + 'a) -> Self {
        let name = name.into();
        Self { name, role, work: Box::new(work), session: None, queries: None, least: Duration::ZERO }
    }

    /// The session of processes whose processor time is the server's.
    pub(crate) fn session(mut self, session: i32) -> Self {
        self.session = Some(session);
        self
    }

    /// What an operation may cost in statements, or the turn measured something else.
    pub(crate) fn queries(mut self, queries: RangeInclusive<f64>) -> Self {
        self.queries = Some(queries);
        self
    }

    /// A turn takes at least this long: for peers that do a few operations a second.
    pub(crate) fn least(mut self, least: Duration) -> Self {
        self.least = least;
        self
    }

    fn turn(&mut self, time: Duration, accounts: Option<&Accounts>) -> Result<(Turn, Vec<u64>)> {
        let before = accounts.map(Meter::begin).transpose()?;
        let (server, client) = (self.session.map(session_time), own_time());
        let tally = (self.work)(time.max(self.least))?;
        let client = own_time().saturating_sub(client);
        let server = self.session.map(session_time).zip(server).map(|(after, before)| after.saturating_sub(before));
        let spent = before.map(Meter::end).transpose()?;
        if tally.operations == 0 || tally.elapsed.is_zero() {
            bail!("{}: nothing was done", self.name);
        }
        let each = |total: f64| total / tally.answered as f64;
        let micros = |time: Duration| each(time.as_secs_f64() * 1e6);
        let turn = Turn {
            rate: tally.operations as f64 / tally.elapsed.as_secs_f64(),
            operations: tally.operations,
            queries: spent.map(|(counters, _)| each(counters.questions as f64)),
            connects: spent.map(|(counters, _)| each(counters.connections as f64)),
            server_cpu: server.map(micros),
            database_cpu: spent.map(|(_, time)| micros(time)),
            client_cpu: micros(client),
        };
        Ok((turn, tally.latencies))
    }

    fn check(&self, turn: &Turn) -> Result<()> {
        match (&self.queries, turn.queries) {
            (Some(expected), Some(queries)) if !expected.contains(&queries) => bail!(
                "{}: {queries:.2} queries an operation where {:.2} to {:.2} belong to this line of work",
                self.name,
                expected.start(),
                expected.end()
            ),
            _ => Ok(()),
        }
    }
}

struct Meter<'a> {
    accounts: &'a Accounts,
    counters: Counters,
    time: Duration,
}

impl<'a> Meter<'a> {
    fn begin(accounts: &'a Accounts) -> Result<Self> {
        let counters = Counters::read(accounts.db())?;
        Ok(Self { accounts, counters, time: session_time(accounts.session()) })
    }

    fn end(self) -> Result<(Counters, Duration)> {
        let time = session_time(self.accounts.session()).saturating_sub(self.time);
        let counters = Counters::read(self.accounts.db())?.since(self.counters).since(self.accounts.reading());
        Ok((counters, time))
    }
}

/// Lets the contenders take their turns. `accounts` is the database they ask, where they ask one.
pub(crate) fn measure(
    plan: &Plan,
    id: &str,
    title: &str,
    accounts: Option<&Accounts>,
    mut contenders: Vec<Contender<'_>>,
) -> Result<Line> {
    progress(&format!("{id}: {title}"));
    let doing = |contender: &Contender<'_>| format!("{id}: {}", contender.name);
    for contender in &mut contenders {
        let (turn, _) = contender.turn(plan.warm_up(), accounts).with_context(|| doing(contender))?;
        progress(&format!("  warm-up {:>10.0}/s  {}", turn.rate, contender.name));
    }
    let mut measured: Vec<(Vec<Turn>, Vec<u64>)> = contenders.iter().map(|_| Default::default()).collect();
    for _ in 0..plan.rounds {
        for (contender, (turns, latencies)) in contenders.iter_mut().zip(&mut measured) {
            let (turn, each) = contender.turn(plan.slice, accounts).with_context(|| doing(contender))?;
            contender.check(&turn).with_context(|| id.to_owned())?;
            turns.push(turn);
            latencies.extend(each);
        }
    }
    let entries = contenders.into_iter().zip(measured).map(|(contender, (turns, mut latencies))| {
        latencies.sort_unstable();
        let (p50, p99) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
        Entry { name: contender.name, role: contender.role, turns, p50, p99 }
    });
    Ok(Line { id: id.to_owned(), title: title.to_owned(), entries: entries.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(operations: u64) -> impl FnMut(Duration) -> Result<Tally> {
        move |time| Ok(Tally { operations, answered: operations, elapsed: time, latencies: vec![operations; 3] })
    }

    #[test]
    fn contenders_take_turns_after_a_warm_up() {
        let order = std::cell::RefCell::new(String::new());
        let noted = |letter| {
            let (order, mut work) = (&order, work(10));
            move |time| {
                order.borrow_mut().push(letter);
                work(time)
            }
        };
        let mut plan = Plan::quick();
        plan.change(Some(2), Some(10), None);
        let contenders = vec![Contender::new(Role::Peer, "a", noted('a')), Contender::new(Role::Ours, "b", noted('b'))];
        let line = measure(&plan, "x", "", None, contenders).unwrap();
        assert_eq!(*order.borrow(), "ababab");
        assert_eq!(line.entries[0].turns.len(), 2);
        assert_eq!((line.entries[0].p50, line.entries[0].rate().unwrap().median), (Some(10), 1000.0));
    }

    #[test]
    fn a_turn_without_operations_is_an_error() {
        let contenders = vec![Contender::new(Role::Ours, "idle", work(0))];
        let error = measure(&Plan::quick(), "x", "", None, contenders).unwrap_err();
        assert!(format!("{error:#}").contains("idle: nothing was done"), "{error:#}");
    }

    #[test]
    fn a_turn_that_asks_more_than_its_line_allows_is_an_error() {
        let contender = Contender::new(Role::Ours, "ours", work(1)).queries(0.0..=0.1);
        for (queries, fine) in [(None, true), (Some(0.0), true), (Some(1.0), false)] {
            assert_eq!(contender.check(&Turn { queries, ..Turn::default() }).is_ok(), fine, "{queries:?}");
        }
    }
}
