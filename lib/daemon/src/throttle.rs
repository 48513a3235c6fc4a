//! The throttle of a daemon: from `[throttle]`, kept across restarts in the daemon's own database, and told on the
//! control socket.
//!
//! Changes are written twice a second by a task of their own, never by a login; a daemon that is killed loses what it
//! counted in the last second, one that is told to end nothing. Without a usable `[state] dir` the throttle works from
//! memory, and the log says so.

use crate::control::Limited;
use crate::shared::Shared;
use anyhow::{Context, Result};
use mailsql_core::ledger::LAST_USE_EVERY;
use mailsql_core::throttle::{Rules, Standing};
use mailsql_core::{Network, Throttle};
use mailsql_proto::ask::LimitsAction;
use mailsql_store::State;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between two writings of what changed.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Counts told at once at most; the fullest are told.
const LIST_MAX: usize = 2000;

/// The throttle of a section.
///
/// # Errors
/// A line with the setting that is wrong.
pub(crate) fn throttle(section: &mailsql_config::Throttle) -> Result<Throttle> {
    let trusted = section.trusted.iter().map(|net| net.parse::<Network>().map_err(anyhow::Error::msg));
    let milliseconds = |span: mailsql_config::Span| i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX / 4);
    Ok(Throttle::new(Rules {
        enabled: section.enabled,
        window: milliseconds(section.window),
        client_limit: section.client_limit,
        login_limit: section.login_limit,
        known_limit: section.known_limit,
        known_for: milliseconds(section.known_for),
        trusted: trusted.collect::<Result<_>>().context("[throttle] trusted")?,
        entries: section.entries,
    }))
}

/// The tasks that write down what the authenticator leaves.
pub(crate) struct Keeping {
    shared: Arc<Shared>,
    state: Option<Arc<State>>,
    end: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Keeping {
    /// Reads what was written down before, and begins to write.
    pub(crate) async fn start(shared: &Arc<Shared>, program: &'static str) -> Self {
        let (end, ended) = watch::channel(false);
        let mut keeping = Self { shared: Arc::clone(shared), state: None, end, tasks: Vec::new() };
        if shared.config.throttle.enabled {
            keeping.state = open(shared, program).await.map(Arc::new);
        }
        if let Some(state) = &keeping.state {
            let (throttle, state) = (Arc::clone(shared.authenticator.throttle()), Arc::clone(state));
            let mut ended = ended.clone();
            keeping.tasks.push(tokio::spawn(async move {
                let mut quiet = false;
                while !wait(&mut ended, SAVE_EVERY).await {
                    quiet = save(&throttle, &state, quiet).await;
                }
            }));
        }
        if let Some(notes) = shared.authenticator.notes() {
            let (notes, mut ended) = (Arc::clone(notes), ended);
            keeping.tasks.push(tokio::spawn(async move {
                while !wait(&mut ended, LAST_USE_EVERY).await {
                    notes.write_uses().await;
                }
            }));
        }
        keeping
    }

    /// Writes the last changes.
    pub(crate) async fn finish(self) {
        let _ = self.end.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        if let Some(state) = &self.state {
            save(self.shared.authenticator.throttle(), state, false).await;
        }
        if let Some(notes) = self.shared.authenticator.notes() {
            notes.write_uses().await;
        }
    }
}

/// Waits; says whether the end came.
async fn wait(ended: &mut watch::Receiver<bool>, time: Duration) -> bool {
    tokio::time::timeout(time, ended.wait_for(|ended| *ended)).await.is_ok()
}

async fn open(shared: &Arc<Shared>, program: &'static str) -> Option<State> {
    let (dir, throttle) = (shared.config.state.dir.clone(), Arc::clone(shared.authenticator.throttle()));
    let opened = tokio::task::spawn_blocking(move || {
        let state = State::open(&dir, program)?;
        throttle.restore(state.load_throttle()?, now());
        Ok::<_, mailsql_store::StateError>(state)
    });
    match opened.await {
        Ok(Ok(state)) => Some(state),
        Ok(Err(error)) => {
            tracing::warn!(reason = %error, "no state: what the throttle counts ends with this process; make [state] dir \
                            a folder that this daemon may write to");
            None
        }
        Err(_) => None,
    }
}

/// Writes what changed; says whether trouble with that was already told.
async fn save(throttle: &Arc<Throttle>, state: &Arc<State>, quiet: bool) -> bool {
    let changes = throttle.changes();
    if changes.is_empty() {
        return quiet;
    }
    let (throttle, state) = (Arc::clone(throttle), Arc::clone(state));
    let saved = tokio::task::spawn_blocking(move || match state.save_throttle(&changes) {
        Ok(()) => Ok(()),
        Err(error) => {
            throttle.changed_again(changes);
            Err(error)
        }
    });
    match saved.await {
        Ok(Err(error)) => {
            if !quiet {
                tracing::warn!(reason = %error, "what the throttle counts is not written down");
            }
            true
        }
        Ok(Ok(())) | Err(_) => false,
    }
}

impl Limited for Throttle {
    fn limits(&self, action: LimitsAction, who: Option<&str>) -> Result<Vec<String>, String> {
        let who =
            who.map(|who| mailsql_core::Address::parse(who).map_or_else(|_| who.into(), |a| a.folded().to_string()));
        let now = now();
        let lines = |found: Vec<Standing>| found.iter().map(line).collect();
        Ok(match (action, who) {
            (LimitsAction::List, None) => lines(self.list(now, LIST_MAX)),
            (LimitsAction::List | LimitsAction::Explain, Some(who)) => lines(self.explain(&who, now)),
            (LimitsAction::Explain, None) => lines(self.list(now, LIST_MAX)),
            (LimitsAction::Reset, Some(who)) => {
                let found = self.explain(&who, now);
                self.reset(Some(&who));
                lines(found)
            }
            (LimitsAction::Reset, None) => {
                let found = self.list(now, LIST_MAX);
                self.reset(None);
                lines(found)
            }
        })
    }
}

/// One count, as a line for a person and for `--json`.
fn line(standing: &Standing) -> String {
    let word = match (&standing.login, &standing.network) {
        (Some(_), Some(_)) => "known-client",
        (Some(_), None) => "login",
        (None, _) => "client",
    };
    let mut text = word.to_owned();
    if let Some(login) = &standing.login {
        text += &format!(" login={login}");
    }
    if let Some(network) = &standing.network {
        text += &format!(" network={network}");
    }
    text += &format!(" wrong={} limit={} refused_seconds={}", standing.wrong, standing.limit, standing.refused_seconds);
    if let Some(seen) = standing.seen_seconds {
        text += &format!(" last_login_seconds={seen}");
    }
    text
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}
