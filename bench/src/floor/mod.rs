//! Floors: servers that read a request and write a constant answer. What is slower than its floor does something.
//!
//! Which way to serve connections is fastest depends on the wire and on the number of clients, so a floor is started in
//! each way, all are tried once for a moment, and the fastest serves the measurement. Each is this program once more.

mod policy;
mod saslauthd;
mod socketmap;

use crate::load::Tally;
use crate::report::progress;
use anyhow::{Context, Result};
use clap::ValueEnum;
use mailsql_rig::{Daemon, TempRoot};
use std::path::{Path, PathBuf};

/// Tries of each floor; the best counts, since only disturbances make a floor slow.
const TRIES: usize = 2;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wire {
    Saslauthd,
    Socketmap,
    Policy,
}

/// How connections are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// A thread a connection.
    Threads,
    /// A few threads that all accept, each serving its connection to the end.
    Pool,
    /// A task a connection on tokio, one worker a core.
    Tokio,
}

impl Style {
    fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Pool => "pool",
            Self::Tokio => "tokio",
        }
    }
}

/// A floor that runs.
pub(crate) struct Floor {
    pub(crate) style: &'static str,
    pub(crate) socket: PathBuf,
    pub(crate) session: i32,
    _daemon: Daemon,
}

/// A floor of each style that suits a wire.
pub(crate) struct Floors {
    floors: Vec<Floor>,
    _root: TempRoot,
}

impl Floors {
    pub(crate) fn start(wire: Wire) -> Result<Self> {
        let styles: &[Style] = match wire {
            Wire::Saslauthd => &[Style::Threads, Style::Pool, Style::Tokio],
            // Connections stay: a pool would serve no more of them than it has threads.
            Wire::Socketmap | Wire::Policy => &[Style::Threads, Style::Tokio],
        };
        let root = TempRoot::new()?;
        let program = std::env::current_exe()?;
        let word = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value().map(|value| value.get_name().to_owned()).context("a hidden value")
        };
        let floors = styles.iter().map(|style| {
            let socket = root.join(style.name());
            let words = [word(&|| wire.to_possible_value())?, word(&|| style.to_possible_value())?];
            let setup = Daemon::setup("floor").program(&program).arg("floor").args(words).arg(&socket);
            let mut daemon = setup.ready_socket(&socket).start()?;
            Ok(Floor { style: style.name(), session: daemon.process()?.pid(), socket, _daemon: daemon })
        });
        let floors = floors.collect::<Result<_>>()?;
        Ok(Self { floors, _root: root })
    }

    /// The floor that is fastest at this work, and a note on how the others did.
    pub(crate) fn fastest(&self, work: impl Fn(&Path) -> Result<Tally>) -> Result<(&Floor, String)> {
        let mut rates = vec![0.0_f64; self.floors.len()];
        for _ in 0..TRIES {
            for (floor, rate) in self.floors.iter().zip(&mut rates) {
                let tally = work(&floor.socket).with_context(|| format!("floor ({})", floor.style))?;
                *rate = rate.max(tally.operations as f64 / tally.elapsed.as_secs_f64());
            }
        }
        let best = self.floors.iter().zip(&rates).max_by(|a, b| a.1.total_cmp(b.1)).context("no floors")?;
        let all: Vec<String> =
            self.floors.iter().zip(&rates).map(|(floor, rate)| format!("{} {rate:.0}/s", floor.style)).collect();
        let note = format!("floor: {} ({})", best.0.style, all.join(", "));
        progress(&format!("  {note}"));
        Ok((best.0, note))
    }
}

/// Serves for ever.
pub(crate) fn serve(wire: Wire, style: Style, socket: &Path) -> Result<()> {
    match wire {
        Wire::Saslauthd => saslauthd::serve(style, socket),
        Wire::Socketmap => socketmap::serve(style, socket),
        Wire::Policy => policy::serve(style, socket),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_io().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Asks once and reads what comes back.
    fn ask(socket: &Path, request: &[u8]) -> Vec<u8> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
        };
        stream.write_all(request).unwrap();
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).unwrap();
        answer[..length].to_vec()
    }

    #[test]
    fn every_floor_answers_its_wire() {
        let folder = std::env::temp_dir().join(format!("mailsql-floor-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (wire, request, answer) in [
            (Wire::Saslauthd, &b"\0\x01a\0\x01b\0\x04smtp\0\0"[..], &b"\0\x02OK"[..]),
            (Wire::Socketmap, &b"14:mailboxes a@b.c,"[..], socketmap::ANSWER),
            (Wire::Policy, &b"request=smtpd_access_policy\n\n"[..], policy::ANSWER),
        ] {
            for style in [Style::Threads, Style::Pool, Style::Tokio] {
                let socket = folder.join(format!("{wire:?}-{}", style.name()));
                let path = socket.clone();
                // Ends with the test program.
                std::thread::spawn(move || serve(wire, style, &path));
                assert_eq!(ask(&socket, request), answer, "{wire:?} {style:?}");
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
