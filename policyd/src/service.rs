//! Connections from smtpd processes: any number of questions each, one at a time, for up to 1000 s.
//!
//! Nothing is ever sent that was not asked for: smtpd takes a byte too many for a lost connection. What is no request is logged and
//! the connection closed; so is a question that a check cannot answer (`on_trouble = "disconnect"`).

use crate::check::{Asked, Check, Opinion, build};
use crate::facts::{Facts, shown};
use crate::state::{self, Checks};
use anyhow::{Result, bail};
use mailsql_config::policy::{CheckName, OnTrouble};
use mailsql_config::{Config, Permissions, Policy};
use mailsql_core::Unavailable;
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limited, Limits, Listener, Shared, Shutdown, Stream, listen, serve};
use mailsql_proto::ask::LimitsAction;
use mailsql_proto::policy::{self, Action, ReplyClass};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Longest silence of a client. Postfix closes by itself after 300 s of it, and any connection after 1000 s.
const IDLE: Duration = Duration::from_secs(1100);
/// Longest wait for a client to take its answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for a check; database and disk have deadlines of their own below it.
const CHECK_DEADLINE: Duration = Duration::from_secs(20);
/// Room for a typical request.
const READ_SIZE: usize = 2048;
/// A connection that waits keeps no more room than this, in bytes.
const IDLE_SIZE: usize = 4096;

struct Service {
    section: Policy,
    listeners: Vec<Listener>,
    checks: Checks,
}

/// Binds the policy sockets, if the configuration has a `[policy]` section.
///
/// # Errors
/// A line with the socket or the setting and what to do.
pub fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.policy else { return Ok(None) };
    let mut names: Vec<CheckName> = Vec::new();
    let mut checks = Vec::new();
    for &name in &section.checks {
        if names.contains(&name) {
            bail!("[policy] checks names {name:?} twice");
        }
        names.push(name);
        checks.push(build(name, config)?);
    }
    let default = Permissions { mode: Some(0o660), group: Some("postfix".into()), ..Permissions::default() };
    let listeners = listen::bind("policy", &section.listen, &default, activation)?;
    Ok(Some(Box::new(Service { section: section.clone(), listeners, checks: checks.into() })))
}

/// What the control socket asks for.
struct Counted(Checks);

impl Limited for Counted {
    fn limits(&self, action: LimitsAction, who: Option<&str>) -> Result<Vec<String>, String> {
        let now = state::now();
        Ok(self.0.iter().flat_map(|check| check.limits(action, who, now)).collect())
    }

    fn forget(&self) {
        self.0.iter().for_each(|check| check.forget());
    }
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        Box::pin(run(*self, shared, shutdown))
    }
}

async fn run(service: Service, shared: Arc<Shared>, shutdown: Shutdown) -> Result<()> {
    let Service { section, listeners, checks } = service;
    let state = state::open(&shared.config.state.dir, &checks).await?;
    shared.add_limited(Arc::new(Counted(Arc::clone(&checks))));
    let refresh = tokio::spawn(keep_fresh(Arc::clone(&checks), Arc::clone(&shared)));
    // Each connection holds one end; the counters are written for the last time when all are gone.
    let (open, mut closed) = mpsc::channel::<()>(1);
    let keeping = {
        let checks = Arc::clone(&checks);
        tokio::spawn(state.keep(checks, async move {
            let _ = closed.recv().await;
        }))
    };
    let limits = Limits { connections: section.max_connections };
    let site = Arc::new(Site { checks, shared });
    let served = serve(listeners, limits, shutdown.clone(), move |stream, shutdown| {
        connection(stream, Arc::clone(&site), shutdown, open.clone())
    })
    .await;
    refresh.abort();
    let _ = keeping.await;
    drop(shutdown);
    served
}

/// Lets checks read anew what they hold of files and database, for ever.
async fn keep_fresh(checks: Checks, shared: Arc<Shared>) {
    let every = shared.config.cache.positive_ttl.0.max(Duration::from_secs(1));
    loop {
        for check in checks.iter() {
            check.refresh(&shared).await;
        }
        tokio::time::sleep(every).await;
    }
}

struct Site {
    checks: Checks,
    shared: Arc<Shared>,
}

async fn connection(mut stream: Stream, site: Arc<Site>, mut shutdown: Shutdown, _open: mpsc::Sender<()>) {
    let mut input = Vec::with_capacity(READ_SIZE);
    let mut output = Vec::new();
    loop {
        let mut taken = 0;
        loop {
            match policy::decode(&input[taken..]) {
                Ok(Some((request, used))) => {
                    let domain = site.shared.config.mail.default_domain.as_deref();
                    let Some(facts) = Facts::read(&request, state::now(), domain) else {
                        tracing::warn!(peer = ?stream.peer(), "no question for an access policy; connection closed");
                        return;
                    };
                    let Some(action) = answer(&facts, &site).await else { return };
                    action.encode(&mut output);
                    taken += used;
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer = ?stream.peer(), %error, "malformed request; connection closed");
                    return;
                }
            }
        }
        input.drain(..taken);
        if input.is_empty() && input.capacity() > IDLE_SIZE {
            input.shrink_to(READ_SIZE);
        }
        if !output.is_empty() {
            let written = tokio::time::timeout(WRITE_DEADLINE, stream.write_all(&output)).await;
            output.clear();
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
        let read = tokio::select! {
            biased;
            read = tokio::time::timeout(IDLE, stream.read_buf(&mut input)) => read,
            () = shutdown.wait() => return,
        };
        if !matches!(read, Ok(Ok(1..))) {
            return;
        }
    }
}

/// Asks the checks in their order; `None` when the connection is to be closed without an answer.
async fn answer(facts: &Facts<'_>, site: &Site) -> Option<Action> {
    for check in site.checks.iter() {
        let opinion = match check.ask(facts, &site.shared) {
            Asked::Now(opinion) => opinion,
            Asked::Later(future) => match tokio::time::timeout(CHECK_DEADLINE, future).await {
                Ok(opinion) => opinion,
                Err(_) => Err(Unavailable::new(format!("no answer within {CHECK_DEADLINE:?}"))),
            },
        };
        match settle(opinion, check.as_ref(), facts) {
            Settled::Next => {}
            Settled::Answer(action) => return Some(action),
            Settled::Close => return None,
        }
    }
    log(facts, "", &Action::DUNNO);
    Some(Action::DUNNO)
}

/// What becomes of an opinion.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    Next,
    Answer(Action),
    Close,
}

fn settle(opinion: Result<Opinion, Unavailable>, check: &dyn Check, facts: &Facts<'_>) -> Settled {
    match opinion {
        Ok(Opinion::None) => Settled::Next,
        Ok(Opinion::Pass) => {
            log(facts, check.name(), &Action::DUNNO);
            Settled::Answer(Action::DUNNO)
        }
        Ok(Opinion::Act(action)) => {
            log(facts, check.name(), &action);
            Settled::Answer(action)
        }
        Err(trouble) => {
            let (check, on_trouble) = (check.name(), check.on_trouble());
            tracing::warn!(target: "policy", check, ?on_trouble, reason = trouble.reason(), recipient = %shown(facts.recipient), "cannot tell");
            match on_trouble {
                OnTrouble::Disconnect => Settled::Close,
                OnTrouble::Pass => Settled::Next,
                OnTrouble::Defer => {
                    Settled::Answer(Action::reply(ReplyClass::TROUBLE, "Temporary trouble, try again later"))
                }
            }
        }
    }
}

/// One line a decision; what lets mail through is for those who want every line.
fn log(facts: &Facts<'_>, check: &str, action: &Action) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "policy",
                check,
                action = action.as_str(),
                state = ?facts.state,
                client = facts.client.map(tracing::field::display),
                login = %shown(&facts.login),
                sender = %shown(facts.sender),
                recipient = %shown(facts.recipient),
                instance = %shown(facts.instance),
                "decided"
            )
        };
    }
    if *action == Action::DUNNO {
        line!(debug);
    } else {
        line!(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::rcpt;

    struct Fixed(OnTrouble);

    impl Check for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }
        fn on_trouble(&self) -> OnTrouble {
            self.0
        }
        fn ask<'a>(&'a self, _: &'a Facts<'a>, _: &'a Shared) -> Asked<'a> {
            Asked::NONE
        }
    }

    #[test]
    fn every_opinion_has_its_end() {
        let facts = rcpt(0, "192.0.2.1", "", "a@b", "c@d");
        let trouble = || Err(Unavailable::new("down"));
        let later = Action::parse("451 4.3.0 Temporary trouble, try again later").unwrap();
        for (opinion, on_trouble, want) in [
            (Ok(Opinion::None), OnTrouble::Disconnect, Settled::Next),
            (Ok(Opinion::Pass), OnTrouble::Disconnect, Settled::Answer(Action::DUNNO)),
            (Ok(Opinion::Act(Action::OK)), OnTrouble::Defer, Settled::Answer(Action::OK)),
            (trouble(), OnTrouble::Disconnect, Settled::Close),
            (trouble(), OnTrouble::Pass, Settled::Next),
            (trouble(), OnTrouble::Defer, Settled::Answer(later)),
        ] {
            assert_eq!(settle(opinion, &Fixed(on_trouble), &facts), want, "{on_trouble:?}");
        }
    }
}
