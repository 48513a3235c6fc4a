//! Medians, spreads and ratios of what was measured.

use crate::area::Area;
use crate::plan::Plan;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What a contender stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The program that ours stands in for.
    Peer,
    /// Ours.
    Ours,
    /// What the wire costs when the server does nothing.
    Floor,
    /// What the processors allow when there is no wire.
    Limit,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Ours => "ours",
            Self::Floor => "floor",
            Self::Limit => "limit",
        }
    }
}

/// A median with the lowest and highest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let upper = *values.get(half)?;
        let median = if values.len() % 2 == 1 { upper } else { (upper + values.get(half - 1)?) / 2.0 };
        Some(Self { median, min, max })
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// The value below which this part (0 to 1) of sorted values lies.
pub(crate) fn percentile(sorted: &[u64], part: f64) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index between 0 and last")]
    let index = (part * last as f64).round() as usize;
    sorted.get(index.min(last)).copied()
}

/// What one turn of a contender came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    /// Operations a second.
    pub(crate) rate: f64,
    /// Operations.
    pub(crate) operations: u64,
    /// Statements an operation, where there is a database.
    pub(crate) queries: Option<f64>,
    /// Database connections an operation.
    pub(crate) connects: Option<f64>,
    /// Microseconds of processor time an operation, of the server where it is a process of its own.
    pub(crate) server_cpu: Option<f64>,
    /// The same, of the database.
    pub(crate) database_cpu: Option<f64>,
    /// The same, of the clients.
    pub(crate) client_cpu: f64,
}

/// A contender's turns.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) turns: Vec<Turn>,
    /// Nanoseconds, at the median and at the 99th of 100, of all turns together.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
}

impl Entry {
    pub(crate) fn rate(&self) -> Option<Spread> {
        Spread::of(self.turns.iter().map(|turn| turn.rate))
    }

    /// Median of a part of each turn that has it.
    pub(crate) fn part(&self, part: impl Fn(&Turn) -> Option<f64>) -> Option<f64> {
        Spread::of(self.turns.iter().filter_map(part)).map(|spread| spread.median)
    }

    /// Ours to theirs, round by round.
    pub(crate) fn ratio(&self, to: &Self) -> Option<Spread> {
        Spread::of(self.turns.iter().zip(&to.turns).map(|(mine, yours)| mine.rate / yours.rate))
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "role": self.role.name(),
            "per_second": self.rate().map(Spread::json),
            "runs": self.turns.iter().map(|turn| turn.rate).collect::<Vec<_>>(),
            "operations": self.turns.iter().map(|turn| turn.operations).sum::<u64>(),
            "p50_us": self.p50.map(|nanos| nanos as f64 / 1e3),
            "p99_us": self.p99.map(|nanos| nanos as f64 / 1e3),
            "queries_per_operation": self.part(|turn| turn.queries),
            "connections_per_operation": self.part(|turn| turn.connects),
            "server_cpu_us": self.part(|turn| turn.server_cpu),
            "database_cpu_us": self.part(|turn| turn.database_cpu),
            "client_cpu_us": self.part(|turn| Some(turn.client_cpu)),
        })
    }
}

/// One line of work.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) entries: Vec<Entry>,
}

impl Line {
    /// The first entry of a role: what others of the line are compared with.
    pub(crate) fn first(&self, role: Role) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.role == role)
    }

    /// What the line's entries are compared with: the floor, or the limit where there is none.
    pub(crate) fn base(&self) -> Option<&Entry> {
        self.first(Role::Floor).or_else(|| self.first(Role::Limit))
    }

    fn json(&self) -> Value {
        let entries = self.entries.iter().map(|entry| {
            let mut value = entry.json();
            let to = |other: Option<&Entry>| other.and_then(|other| entry.ratio(other)).map(Spread::json);
            if let Some(object) = value.as_object_mut() {
                object.insert("of_peer".into(), json!(to(self.first(Role::Peer))));
                object.insert("of_floor".into(), json!(to(self.base())));
            }
            value
        });
        json!({ "id": self.id, "work": self.title, "entries": entries.collect::<Vec<_>>() })
    }
}

/// What must be reached.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) claim: String,
    /// The least ratio that will do.
    pub(crate) needed: f64,
    pub(crate) reached: Spread,
}

impl Target {
    pub(crate) fn met(&self) -> bool {
        self.reached.median >= self.needed
    }
}

/// All of an area.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) area: &'static str,
    pub(crate) about: &'static str,
    pub(crate) plan: Plan,
    /// The machine and the versions of what ran on it.
    pub(crate) host: Vec<(&'static str, String)>,
    pub(crate) lines: Vec<Line>,
    pub(crate) targets: Vec<Target>,
    pub(crate) notes: Vec<String>,
}

impl Figures {
    pub(crate) fn new(area: &Area, plan: &Plan) -> Self {
        let (lines, targets, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { area: area.name, about: area.about, plan: plan.clone(), host: Vec::new(), lines, targets, notes }
    }

    /// Adds a target: contender `ours` of one line against contender `to` of one line, by the beginnings of their names.
    /// Nothing is added when a line was left out by choice.
    ///
    /// # Errors
    /// When a line was measured and has no such contender.
    pub(crate) fn target(&mut self, claim: &str, needed: f64, ours: (&str, &str), to: (&str, &str)) -> Result<()> {
        let line = |id: &str| self.lines.iter().find(|line| line.id == id);
        let (Some(mine), Some(yours)) = (line(ours.0), line(to.0)) else { return Ok(()) };
        let entry = |line: &Line, name: &str| {
            let entry = line.entries.iter().find(|entry| entry.name.starts_with(name)).cloned();
            entry.with_context(|| format!("line {} has no {name}", line.id))
        };
        let reached = entry(mine, ours.1)?.ratio(&entry(yours, to.1)?).context("nothing measured")?;
        self.targets.push(Target { claim: claim.to_owned(), needed, reached });
        Ok(())
    }

    pub(crate) fn json(&self) -> Value {
        let host = self.host.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        let targets = self.targets.iter().map(|target| {
            json!({ "claim": target.claim, "needed": target.needed, "reached": target.reached.json(), "met": target.met() })
        });
        json!({
            "area": self.area,
            "about": self.about,
            "plan": self.plan.name,
            "rounds": self.plan.rounds,
            "cores_kept_awake": self.plan.awake,
            "slice_ms": u64::try_from(self.plan.slice.as_millis()).unwrap_or(u64::MAX),
            "host": host.collect::<serde_json::Map<_, _>>(),
            "lines": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_of_odd_and_even_counts() {
        for (values, median, min, max) in [
            (vec![3.0], 3.0, 3.0, 3.0),
            (vec![5.0, 1.0, 3.0], 3.0, 1.0, 5.0),
            (vec![4.0, 1.0, 3.0, 2.0], 2.5, 1.0, 4.0),
        ] {
            assert_eq!(Spread::of(values), Some(Spread { median, min, max }));
        }
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn percentiles_of_a_hundred_and_one_values() {
        let sorted: Vec<u64> = (0..=100).collect();
        for (part, value) in [(0.0, 0), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(percentile(&sorted, part), Some(value));
        }
        assert_eq!(percentile(&[], 0.5), None);
    }

    fn entry(name: &str, role: Role, rates: &[f64]) -> Entry {
        let turns = rates.iter().map(|rate| Turn { rate: *rate, ..Turn::default() }).collect();
        Entry { name: name.into(), role, turns, p50: None, p99: None }
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // The machine was twice as fast in the second round; the ratio of the medians would hide that nothing differs.
        let (ours, peer) =
            (entry("ours", Role::Ours, &[30.0, 60.0, 30.0]), entry("p", Role::Peer, &[10.0, 20.0, 10.0]));
        assert_eq!(ours.ratio(&peer), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
    }

    #[test]
    fn a_target_is_met_at_its_figure_and_needs_its_contenders() {
        let area = &crate::area::AREAS[0];
        let mut figures = Figures::new(area, &Plan::quick());
        let entries = vec![entry("ours -c", Role::Ours, &[75.0]), entry("floor (pool)", Role::Floor, &[100.0])];
        figures.lines.push(Line { id: "repeated".into(), title: String::new(), entries });
        figures.target("repeated", 0.75, ("repeated", "ours"), ("repeated", "floor")).unwrap();
        assert!(figures.targets[0].met());
        figures.target("left out", 1.0, ("other", "ours"), ("repeated", "floor")).unwrap();
        assert_eq!(figures.targets.len(), 1);
        assert!(figures.target("wrong", 1.0, ("repeated", "theirs"), ("repeated", "floor")).is_err());
    }
}
