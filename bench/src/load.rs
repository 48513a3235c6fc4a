//! Closed-loop clients: each sends, waits for the answer, checks it, and sends the next.
//!
//! One blocking thread a client, as a mail server has one process a client. A wrong answer ends the measurement: a
//! server that is fast at refusing must not look fast.

use anyhow::{Context, Result, bail};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// How long the last operations may take once the run's time is up; a server that hangs is an error, not a hang.
const GRACE: Duration = Duration::from_secs(60);

/// One client: does one operation and checks its answer.
pub(crate) type Client = Box<dyn FnMut() -> Result<()> + Send>;

/// What a run did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Operations that were answered rightly.
    pub(crate) operations: u64,
    /// All that were answered, those that only set the measurement up too: what costs are shared out among.
    pub(crate) answered: u64,
    /// From the first operation's beginning to the last one's end.
    pub(crate) elapsed: Duration,
    /// Nanoseconds of each operation; empty where only the whole was timed.
    pub(crate) latencies: Vec<u64>,
}

/// Lets all clients work for `time`. An operation that has begun is finished and counted.
pub(crate) fn drive(clients: Vec<Client>, time: Duration) -> Result<Tally> {
    let count = clients.len();
    let barrier = Arc::new(Barrier::new(count));
    let (sender, receiver) = mpsc::channel();
    for mut client in clients {
        let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
        std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            barrier.wait();
            // A receiver that has given up needs no result.
            let _ = sender.send(work(&mut client, time));
        })?;
    }
    drop(sender);
    let deadline = Instant::now() + time + GRACE;
    let (mut begun, mut ended): (Option<Instant>, Option<Instant>) = (None, None);
    let mut tally = Tally::default();
    for _ in 0..count {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(outcome) => {
                let worked = outcome?;
                begun = Some(begun.map_or(worked.begun, |begun| begun.min(worked.begun)));
                ended = Some(ended.map_or(worked.ended, |ended| ended.max(worked.ended)));
                tally.latencies.extend(worked.latencies);
            }
            Err(_) => bail!("no answer within {GRACE:?} of the run's end"),
        }
    }
    tally.operations = tally.latencies.len() as u64;
    tally.answered = tally.operations;
    tally.elapsed = ended.zip(begun).map(|(ended, begun)| ended - begun).context("no clients")?;
    Ok(tally)
}

struct Worked {
    begun: Instant,
    ended: Instant,
    latencies: Vec<u64>,
}

fn work(client: &mut Client, time: Duration) -> Result<Worked> {
    let begun = Instant::now();
    let (mut last, mut latencies) = (begun, Vec::with_capacity(1 << 16));
    while last - begun < time {
        client()?;
        let now = Instant::now();
        latencies.push(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
        last = now;
    }
    Ok(Worked { begun, ended: last, latencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_every_client_is_counted() {
        let sleeper = || -> Client {
            Box::new(|| {
                std::thread::sleep(Duration::from_millis(5));
                Ok(())
            })
        };
        let tally = drive(vec![sleeper(), sleeper(), sleeper()], Duration::from_millis(50)).unwrap();
        assert_eq!(tally.operations, tally.latencies.len() as u64);
        assert!(tally.operations >= 6, "{}", tally.operations);
        assert!(tally.latencies.iter().all(|nanos| *nanos >= 5_000_000));
        assert!(tally.elapsed >= Duration::from_millis(50));
    }

    #[test]
    fn a_wrong_answer_ends_the_run_with_its_error() {
        let client: Client = Box::new(|| bail!("NO"));
        let error = drive(vec![client], Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "NO");
    }
}
