//! A daemon that asks no database: the same start, signals and end, without configuration, cache and control socket.

use crate::Activation;
use crate::detach::Detach;
use crate::log::{self, Target};
use crate::program::{EXIT_USAGE, PATIENCE, Serving, harden};
use crate::serve::Shutdown;
use anyhow::{Context, Result};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// A program that is about to run.
#[derive(Clone, Debug)]
pub struct Alone {
    /// Its name, for the log.
    pub name: &'static str,
    /// Log level.
    pub level: String,
    /// How it goes into the background; `None` keeps it in the foreground.
    pub detach: Option<Detach>,
}

/// Runs a daemon: `bind` binds its listeners and gives back what serves them. It stays the user it is.
#[expect(clippy::print_stderr, reason = "the person who starts a daemon by hand looks at the terminal")]
pub fn run_alone<S>(alone: Alone, bind: impl FnOnce(&mut Activation) -> Result<S>) -> ExitCode
where
    S: FnOnce(Shutdown) -> Serving,
{
    let target = if alone.detach.is_some() { Target::Syslog(alone.name) } else { Target::Stderr };
    log::start_on(target, &mailsql_config::Log::default(), Some(&alone.level));
    match start(&alone, bind) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", alone.name);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn start<S>(alone: &Alone, bind: impl FnOnce(&mut Activation) -> Result<S>) -> Result<()>
where
    S: FnOnce(Shutdown) -> Serving,
{
    harden()?;
    let mut activation = Activation::from_environment();
    let serve = bind(&mut activation)?;
    let detached = alone.detach.as_ref().map(Detach::detach).transpose()?;
    let _pid_file = alone.detach.as_ref().map(Detach::write_pid).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // saslauthd ignores it; by default it would end us.
        let _hangup = signal(SignalKind::hangup())?;
        let (shutdown, finish) = Shutdown::new();
        let mut running = tokio::spawn(serve(shutdown));
        if let Some(detached) = detached {
            detached.ready();
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            ended = &mut running => return ended.context("the service broke off")?,
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        if !finish.finish(PATIENCE).await {
            tracing::warn!("ended with requests still under way");
        }
        running.abort();
        Ok(())
    })
}
