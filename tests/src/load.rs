//! A steady load on our programs whose every answer is known beforehand.
//!
//! Each client asks again and again: mailboxes and unknown addresses by socketmap, right and wrong passwords and unknown
//! users by saslauthd's wire. An answer is right, temporary (`TEMP`, or a close without a reply), or wrong; anything
//! that cannot be read counts as temporary only where the wire says so.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mailsql_rig::client::saslauthd;
use mailsql_rig::client::socketmap::Socketmap;
use mailsql_rig::document;

/// Pause of a client between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// What came back since the last [`Load::take`].
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// As they should be.
    pub right: u64,
    /// "Try later".
    pub temporary: u64,
    /// Time between the first and the last of these.
    pub temporary_for: Duration,
    /// Neither: each with its question.
    pub wrong: Vec<String>,
    /// The slowest answer.
    pub slowest: Duration,
}

#[derive(Debug, Default)]
struct Seen {
    right: u64,
    temporary: Vec<Instant>,
    wrong: Vec<String>,
    slowest: Duration,
}

/// The load; it ends when dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

/// Where the load asks.
#[derive(Debug, Clone)]
pub struct Doors {
    /// The socketmap.
    pub maps: PathBuf,
    /// saslauthd's mux.
    pub mux: PathBuf,
}

enum Answer {
    Right,
    Temporary,
    Wrong(String),
}

impl Load {
    /// Starts `maps` clients that look addresses up and `logins` that log in.
    #[must_use]
    pub fn start(doors: &Doors, maps: usize, logins: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let turn = Arc::new(AtomicU64::new(0));
        let mut clients = Vec::new();
        for client in 0..maps + logins {
            let (stop, seen, turn, doors) = (Arc::clone(&stop), Arc::clone(&seen), Arc::clone(&turn), doors.clone());
            clients.push(std::thread::spawn(move || {
                let mut map = None;
                while !stop.load(Ordering::Relaxed) {
                    let turn = usize::try_from(turn.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
                    let begun = Instant::now();
                    let answer = if client < maps { look_up(&doors, &mut map, turn) } else { log_in(&doors, turn) };
                    let took = begun.elapsed();
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.slowest = seen.slowest.max(took);
                    match answer {
                        Answer::Right => seen.right += 1,
                        Answer::Temporary => seen.temporary.push(Instant::now()),
                        Answer::Wrong(text) => seen.wrong.push(text),
                    }
                    drop(seen);
                    std::thread::sleep(PAUSE);
                }
            }));
        }
        Self { stop, seen, clients }
    }

    /// What came back since the last call.
    #[must_use]
    pub fn take(&self) -> Counts {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let first = seen.temporary.iter().min();
        let last = seen.temporary.iter().max();
        Counts {
            right: seen.right,
            temporary: seen.temporary.len() as u64,
            temporary_for: first.zip(last).map_or(Duration::ZERO, |(first, last)| *last - *first),
            wrong: seen.wrong,
            slowest: seen.slowest,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has printed why.
            let _ = client.join();
        }
    }
}

/// One lookup on a connection that is kept; a new one where the server has closed it.
fn look_up(doors: &Doors, map: &mut Option<Socketmap>, turn: usize) -> Answer {
    let (key, expected) = match turn % 3 {
        2 => (format!("nobody{}@hoge.com", turn % 50), "NOTFOUND ".to_owned()),
        _ => {
            let (login, _) = document::LOGINS[turn % document::LOGINS.len()];
            (login.to_owned(), format!("OK {login}/"))
        }
    };
    for _ in 0..2 {
        if map.is_none() {
            *map = Socketmap::connect(doors.maps.clone()).ok();
        }
        let Some(open) = map.as_mut() else { continue };
        match open.find("mailboxes", &key) {
            Ok(answer) if answer == expected => return Answer::Right,
            Ok(answer) if answer.starts_with("TEMP ") => return Answer::Temporary,
            Ok(answer) => return Answer::Wrong(format!("{key}: {answer}")),
            Err(_) => *map = None,
        }
    }
    Answer::Wrong(format!("{key}: the map does not answer"))
}

fn log_in(doors: &Doors, turn: usize) -> Answer {
    let (login, password) = document::LOGINS[turn % document::LOGINS.len()];
    let (login, password, right) = match turn % 4 {
        0 => (login, "wrong", "NO"),
        1 => ("nobody@hoge.com", password, "NO"),
        _ => (login, password, "OK"),
    };
    match saslauthd::ask(doors.mux.clone(), login, password, "smtp", "") {
        Ok(Some(answer)) if answer.starts_with(right) => Answer::Right,
        Ok(None) => Answer::Temporary,
        Ok(Some(answer)) => Answer::Wrong(format!("{login} with {password}: {answer}")),
        Err(error) => Answer::Wrong(format!("{login}: {error:#}")),
    }
}
