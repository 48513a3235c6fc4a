//! From `main` to the end of a daemon.

use crate::control;
use crate::detach::Detach;
use crate::listen::Activation;
use crate::log::Target;
use crate::privileges::{Identity, drop_to};
use crate::serve::Shutdown;
use crate::shared::{Remember, Secrets, Shared};
use anyhow::{Context, Result};
use mailsql_config::{Config, LogTo};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long requests under way may take once the daemon is to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries to check the schema's statements, while the database cannot be asked.
const CHECK_PAUSE: Duration = Duration::from_secs(30);

/// The future of a service.
pub type Serving = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A service whose listeners are bound.
pub trait Bound: Send {
    /// The section it comes from.
    fn name(&self) -> &'static str;

    /// Serves until shutdown.
    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving;

    /// Whether the program ends when this service does, as one that has standard input for its only client.
    fn is_all(&self) -> bool {
        false
    }
}

/// A program that is about to run.
pub struct Program {
    /// Its name, for the control socket.
    pub name: &'static str,
    /// Its configuration.
    pub config: Config,
    /// Whether logins are remembered.
    pub remember: Remember,
    /// Whether it delivers mail, and so runs as the owner of the mail files.
    pub delivers: bool,
    /// Log level from the command line.
    pub level: Option<String>,
}

/// Exit status for a wrong command line or configuration.
pub const EXIT_USAGE: u8 = 2;
/// Exit status for trouble that may pass.
pub const EXIT_TEMPORARY: u8 = 75;

/// Reads a configuration for a program's `main`; prints what is wrong with it.
#[expect(clippy::print_stderr, reason = "there is no log before there is a configuration")]
pub fn configuration(program: &str, path: &std::path::Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|error| {
        eprintln!("{program}: {error}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// Runs a daemon in the foreground: `bind` binds its services' listeners while it is still root.
pub fn run(program: Program, bind: impl FnOnce(&Config, &mut Activation) -> Result<Vec<Box<dyn Bound>>>) -> ExitCode {
    run_detached(program, None, bind)
}

/// As [`run`], but goes into the background once its listeners are bound.
#[expect(clippy::print_stderr, reason = "the person who starts a daemon by hand looks at the terminal")]
pub fn run_detached(
    program: Program,
    detach: Option<Detach>,
    bind: impl FnOnce(&Config, &mut Activation) -> Result<Vec<Box<dyn Bound>>>,
) -> ExitCode {
    let name = program.name;
    let syslog = detach.is_some() || program.config.log.to == LogTo::Syslog;
    let target = if syslog { Target::Syslog(name) } else { Target::Stderr };
    crate::log::start_on(target, &program.config.log, program.level.as_deref());
    match start(program, detach.as_ref(), bind) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Shuts other processes out of our memory, and takes all the file descriptors that there are to have.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn harden() -> Result<()> {
    // Neither a core dump nor another process of the same user may show what passes through here.
    nix::sys::prctl::set_dumpable(false).context("prctl(PR_SET_DUMPABLE)")?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

fn start(
    program: Program,
    detach: Option<&Detach>,
    bind: impl FnOnce(&Config, &mut Activation) -> Result<Vec<Box<dyn Bound>>>,
) -> Result<()> {
    let mut config = program.config;
    config.database.read_pem()?;
    let config = Arc::new(config);
    harden()?;
    let secrets = Secrets::read(&config)?;
    let mut activation = Activation::from_environment();
    let services = bind(&config, &mut activation)?;
    let identity =
        if nix::unistd::Uid::effective().is_root() { Some(Identity::of(&config, program.delivers)?) } else { None };
    // After this our number is another one, and before it there is no second thread.
    let detached = detach.map(Detach::detach).transpose()?;
    let _pid_file = detach.map(Detach::write_pid).transpose()?;
    let control = control::bind(program.name, &config, identity.as_ref());
    if let Some(identity) = &identity {
        drop_to(identity)?;
    }

    let threads = match config.serve.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let shared = Arc::new(Shared::open(config, &secrets, program.remember)?);
        drop(secrets);
        let (shutdown, finish) = Shutdown::new();
        let refresh = tokio::spawn(Arc::clone(&shared.directory).keep_domains_fresh());
        let keeping = crate::throttle::Keeping::start(&shared, program.name).await;
        tokio::spawn(check_queries(Arc::clone(&shared.store)));
        let mut running = tokio::task::JoinSet::new();
        if let Some(listener) = control {
            let serving = control::serve(listener, Arc::clone(&shared), shutdown.clone());
            running.spawn(async { serving.await.map(|()| false) });
        }
        for service in services {
            tracing::info!(service = service.name(), "serving");
            let all = service.is_all();
            let serving = service.serve(Arc::clone(&shared), shutdown.clone());
            running.spawn(async move { serving.await.map(|()| all) });
        }
        drop(shutdown);
        // Whoever waits for us to be ready may ask at once: the listeners are bound and accepting.
        if let Some(detached) = detached {
            detached.ready();
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let outcome = until_told(&shared, &mut running).await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        refresh.abort();
        if !finish.finish(PATIENCE).await {
            tracing::warn!("ended with requests still under way");
        }
        running.abort_all();
        keeping.finish().await;
        outcome
    });
    // A read of standard input cannot be broken off; it ends with the process.
    runtime.shutdown_background();
    outcome
}

/// Tells the log what is wrong with the schema's statements, once the database can say.
async fn check_queries(store: Arc<mailsql_store::Store>) {
    loop {
        match store.check().await {
            Ok(findings) => {
                for finding in findings {
                    if finding.wrong {
                        tracing::error!(query = %finding.query, "{}", finding.text);
                    } else {
                        tracing::warn!(query = %finding.query, "{}", finding.text);
                    }
                }
                return;
            }
            Err(trouble) => tracing::debug!(reason = %trouble, "queries not checked yet"),
        }
        tokio::time::sleep(CHECK_PAUSE).await;
    }
}

/// Waits for the signal to end, for a service that fails, or for one without which there is nothing to do.
async fn until_told(shared: &Shared, running: &mut tokio::task::JoinSet<Result<bool>>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                shared.forget_all();
                let _ = shared.directory.refresh_domains().await;
                tracing::info!("caches dropped on SIGHUP");
            }
            Some(ended) = running.join_next() => if ended.context("a service broke off")?? {
                return Ok(());
            },
        }
    }
}
