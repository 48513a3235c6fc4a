//! What a measurement leaves: progress on standard error, tables on standard output, AREA.json and AREA.md.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is this program's purpose")]

use crate::figures::{Entry, Figures, Line, Role, Spread};
use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, TableStyle, presets};
use std::path::Path;
use std::process::Command;

/// Load a core at the start of a run above which figures are doubtful.
const BUSY: f64 = 0.3;

const COLUMNS: [&str; 12] = [
    "work",
    "who",
    "per second",
    "min–max",
    "× peer",
    "× floor",
    "p50",
    "p99",
    "queries/op",
    "connects/op",
    "CPU µs/op",
    "server+db+client",
];

pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A line for whoever watches.
pub(crate) fn progress(line: &str) {
    eprintln!("bench: {line}");
}

pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("mailsql-bench: {error:#}");
}

/// The machine, and the versions of the peers that ran on it.
pub(crate) fn host(peers: &[(&'static str, &str, &[&str])]) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = read("/proc/loadavg").split(' ').next().and_then(|word| word.parse::<f64>().ok());
    let mut host = vec![
        ("processor", format!("{cores} × {}", model.map_or("unknown", |(_, name)| name))),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
    ];
    if let Some(load) = load {
        let doubt = if load > BUSY * cores as f64 { " (busy: the spread will be wide)" } else { "" };
        host.push(("load at the start", format!("{load:.2}{doubt}")));
    }
    host.push(("mailsql", format!("{} {}", env!("CARGO_PKG_VERSION"), revision())));
    host.extend(peers.iter().map(|(name, program, arguments)| (*name, version(program, arguments))));
    host
}

fn revision() -> String {
    let output = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (output(&["rev-parse", "--short", "HEAD"]), output(&["status", "--porcelain", "-uno"])) {
        (Some(revision), Some(changes)) if changes.is_empty() => revision,
        (Some(revision), _) => format!("{revision} with changes"),
        _ => String::new(),
    }
}

fn version(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return "unknown".into() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

/// Prints an area's tables.
pub(crate) fn print(figures: &Figures) {
    println!("\n{}: {}\n{}", figures.area, figures.about, procedure(figures));
    for (name, value) in &figures.host {
        println!("  {name}: {value}");
    }
    println!("{}", lines_table(figures, presets::UTF8_FULL_CONDENSED));
    println!("{}", targets_table(figures, presets::UTF8_FULL_CONDENSED));
    for note in &figures.notes {
        println!("  {note}");
    }
}

/// Writes AREA.json and AREA.md.
pub(crate) fn write(figures: &Figures, folder: &Path) -> Result<()> {
    let put = |kind: &str, text: String| {
        let path = folder.join(format!("{}.{kind}", figures.area));
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    put("json", format!("{}\n", serde_json::to_string_pretty(&figures.json())?))?;
    put("md", markdown(figures))
}

fn procedure(figures: &Figures) -> String {
    let plan = &figures.plan;
    let cores = if plan.awake { " Idle cores were kept from halting." } else { "" };
    format!(
        "{} plan: {} rounds of {:?} a contender, in turns. A ratio is the median of the ratios within each round. Absolute \
         figures are this machine's.{cores}",
        plan.name, plan.rounds, plan.slice
    )
}

fn markdown(figures: &Figures) -> String {
    let mut text = format!("# {}: {}\n\n", figures.area, figures.about);
    text.push_str(&format!("{}\n\n", procedure(figures)));
    for (name, value) in &figures.host {
        text.push_str(&format!("- {name}: {value}\n"));
    }
    for table in [targets_table(figures, presets::ASCII_MARKDOWN), lines_table(figures, presets::ASCII_MARKDOWN)] {
        text.push_str(&format!("\n{table}\n"));
    }
    text.push('\n');
    for note in &figures.notes {
        text.push_str(&format!("- {note}\n"));
    }
    text
}

fn targets_table(figures: &Figures, style: TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_header(["claim", "needed", "reached", "min–max", ""]);
    for target in &figures.targets {
        let reached = target.reached;
        let word = if target.met() { "met" } else { "NOT MET" };
        table.add_row([
            target.claim.clone(),
            format!("≥ {}", target.needed),
            ratio(reached.median),
            span(reached, ratio),
            word.into(),
        ]);
    }
    table
}

fn lines_table(figures: &Figures, style: TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_header(COLUMNS);
    for line in &figures.lines {
        for (index, entry) in line.entries.iter().enumerate() {
            let work = if index == 0 { line.title.as_str() } else { "" };
            table.add_row(cells(line, entry, work));
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(line: &Line, entry: &Entry, work: &str) -> Vec<String> {
    let none = || "–".to_owned();
    let to = |other: Option<&Entry>| {
        let other = other.filter(|other| other.name != entry.name)?;
        Some(ratio(entry.ratio(other)?.median))
    };
    let number = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.2}"));
    let micros = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.1}"));
    let server = entry.part(|turn| turn.server_cpu);
    let database = entry.part(|turn| turn.database_cpu);
    let client = entry.part(|turn| Some(turn.client_cpu));
    let asks = !matches!(entry.role, Role::Floor | Role::Limit);
    let total = [server, database, client].into_iter().flatten().sum::<f64>();
    vec![
        work.to_owned(),
        entry.name.clone(),
        entry.rate().map_or_else(none, |rate| count(rate.median)),
        entry.rate().map_or_else(none, |rate| span(rate, count)),
        to(line.first(Role::Peer)).unwrap_or_else(none),
        to(line.base()).unwrap_or_else(none),
        entry.p50.map_or_else(none, time),
        entry.p99.map_or_else(none, time),
        number(entry.part(|turn| turn.queries).filter(|_| asks)),
        number(entry.part(|turn| turn.connects).filter(|_| asks)),
        micros((entry.role != Role::Limit).then_some(total)),
        format!("{} + {} + {}", micros(server), micros(database), micros(client)),
    ]
}

fn span(spread: Spread, show: impl Fn(f64) -> String) -> String {
    format!("{}–{}", show(spread.min), show(spread.max))
}

/// Three digits that mean something.
fn ratio(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn count(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

fn time(nanos: u64) -> String {
    let micros = nanos as f64 / 1e3;
    match micros {
        v if v >= 1e6 => format!("{:.2} s", v / 1e6),
        v if v >= 1e4 => format!("{:.0} ms", v / 1e3),
        v if v >= 1e3 => format!("{:.1} ms", v / 1e3),
        v => format!("{v:.0} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_the_digits_that_mean_something() {
        for (value, shown) in [(0.7512, "0.75"), (1.0, "1.00"), (12.34, "12.3"), (123.4, "123")] {
            assert_eq!(ratio(value), shown);
        }
        for (nanos, shown) in [(4_200, "4 µs"), (1_500_000, "1.5 ms"), (31_000_000, "31 ms"), (3_210_000_000, "3.21 s")]
        {
            assert_eq!(time(nanos), shown);
        }
        assert_eq!((count(4.93), count(65_432.1)), ("4.9".to_owned(), "65432".to_owned()));
    }
}
