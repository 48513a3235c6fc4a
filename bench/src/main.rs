//! Measures ours beside the peers and the floors: `bench/run [--quick] [AREA…]`.
//!
//! An area is one file in `area/`. It starts the peer, our program and a floor on one machine with the same accounts,
//! and names its lines of work; the rest is here:
//!
//! | module | what |
//! | --- | --- |
//! | [`awake`] | cores that do not halt |
//! | [`plan`] | how many rounds, how long a run |
//! | [`mod@line`] | one line of work and its contenders, measured in turns |
//! | [`load`] | closed-loop clients, and the answer of each checked |
//! | [`floor`] | servers that do nothing, as processes of their own |
//! | [`meter`] | queries at the database, processor time of the processes |
//! | [`fixture`] | accounts and configurations |
//! | [`figures`], [`report`] | medians, spreads, ratios; table, JSON, Markdown |
//!
//! What is claimed is always a ratio of two contenders of one line. A ratio is taken within each round, where both ran
//! within seconds of each other, and the median of these is shown. Absolute figures are printed beside it and mean
//! nothing on another machine.
#![forbid(unsafe_code)]

mod area;
mod awake;
mod figures;
mod fixture;
mod floor;
mod line;
mod load;
mod meter;
mod plan;
mod report;

use anyhow::{Context, Result, bail};
use area::{AREAS, Area};
use awake::Awake;
use clap::{Parser, Subcommand};
use plan::Plan;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure ours beside the peers and the floors, on this machine, in this run.
#[derive(Parser)]
#[command(name = "mailsql-bench", args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Three short rounds instead of eleven longer ones
    #[arg(long)]
    quick: bool,
    /// Rounds, instead of the plan's own
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Length of a run in milliseconds, instead of the plan's own
    #[arg(long, value_name = "MS")]
    slice: Option<u64>,
    /// Only lines of work whose name holds this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Keep idle cores from halting: programs of the lowest priority that only spin
    #[arg(long)]
    awake: bool,
    /// Folder of AREA.json and AREA.md
    #[arg(long, value_name = "DIR", default_value = "bench/out")]
    out: PathBuf,
    /// What to measure; everything when nothing is named
    #[arg(value_name = "AREA")]
    areas: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the areas there are
    Areas,
    /// Print the packages of this workspace that the areas measure
    Packages {
        /// Areas; all when none is named
        areas: Vec<String>,
    },
    /// Be a floor: a server that does nothing
    #[command(hide = true)]
    Floor {
        /// Which wire
        wire: floor::Wire,
        /// How connections are served
        style: floor::Style,
        /// The Unix socket
        socket: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Some(Command::Areas) => {
            AREAS.iter().for_each(|area| report::say(&format!("{:<12} {}", area.name, area.about)));
            Ok(())
        }
        Some(Command::Packages { areas }) => {
            let mut packages: Vec<&str> = chosen(&areas)?.iter().flat_map(|area| area.packages).copied().collect();
            packages.sort_unstable();
            packages.dedup();
            packages.iter().for_each(|package| report::say(package));
            Ok(())
        }
        Some(Command::Floor { wire, style, socket }) => floor::serve(wire, style, &socket),
        None => {
            let mut plan = if arguments.quick { Plan::quick() } else { Plan::full() };
            plan.change(arguments.rounds, arguments.slice, arguments.only);
            plan.awake = arguments.awake;
            let areas = chosen(&arguments.areas)?;
            let _awake = arguments.awake.then(Awake::start).transpose()?;
            std::fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
            let mut failed = Vec::new();
            for area in areas {
                let measured = (area.measure)(&plan).and_then(|figures| {
                    report::print(&figures);
                    report::write(&figures, &arguments.out)
                });
                if let Err(error) = measured {
                    // The other areas may still be measured; the run as a whole has failed.
                    report::complain(&error.context(format!("area {}", area.name)));
                    failed.push(area.name);
                }
            }
            if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
        }
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Area>> {
    if names.is_empty() {
        return Ok(AREAS.iter().collect());
    }
    let known = || AREAS.iter().map(|area| area.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let area = AREAS.iter().find(|area| area.name == name);
        area.with_context(|| format!("no area {name}; there are: {}", known()))
    };
    names.iter().map(find).collect()
}
