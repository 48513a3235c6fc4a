//! Logins by saslauthd's protocol: Debian's saslauthd over pam_mysql with the document's PAM lines, saslauthd-rs, and a
//! server that says OK to everything.
//!
//! Both daemons run with the flags `-n 5 -r`, Debian's saslauthd as its init script starts it (no debug output), ours with
//! its configuration's defaults. Each client opens a connection a login, as libsasl2 does, and sends name and realm apart.
//! *Nothing cached* is without `-c`, and for ours with a cache of accounts too small to hold any; the database's own
//! counters are checked for it. No account is used by two clients at a time.

use super::Area;
use crate::figures::{Figures, Role};
use crate::fixture::{Account, Accounts, Site};
use crate::floor::{Floors, Wire};
use crate::line::{Contender, measure as measure_line};
use crate::load::{Client, Tally, drive};
use crate::plan::Plan;
use crate::report;
use anyhow::{Context, Result, bail};
use mailsql_proto::saslauthd::{MAX_REPLY_TEXT, Reply, Request, decode_reply};
use mailsql_rig::{Daemon, Saslauthd, document, pam};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const AREA: Area = Area {
    name: "saslauthd",
    about: "logins over saslauthd's socket, beside Debian's saslauthd -a pam with pam_mysql.so",
    packages: &["saslauthd-rs"],
    measure,
};

/// A handful of accounts: twice as many as there are clients.
const FEW: usize = 32;
/// Accounts of a large site.
const MANY: usize = 100_000;
/// Those of them that log in.
const MANY_LOGINS: usize = 256;
/// Clients at once.
const CLIENTS: [usize; 2] = [1, 16];
/// Turn of a peer that does five logins a second.
const SLOW_TURN: Duration = Duration::from_secs(3);
/// The flags both daemons get.
const FLAGS: [&str; 3] = ["-n", "5", "-r"];
/// A cache of accounts that holds none for long.
const NO_CACHE: &str = "[cache]\nentries = 1\n\n";
const LISTEN: &str = "[saslauthd]\nlisten = { socket = \"{run}/mux\", mode = \"0666\" }\n";

fn measure(plan: &Plan) -> Result<Figures> {
    let mut figures = Figures::new(&AREA, plan);
    figures.host = report::host(&[
        ("peer", "dpkg-query", &["-W", "-f", "saslauthd ${Version}", "sasl2-bin"]),
        ("peer's module", "dpkg-query", &["-W", "-f", "pam_mysql ${Version}", "libpam-mysql"]),
        ("database", "mariadbd", &["--version"]),
    ]);
    let few = Accounts::make(FEW, FEW)?;
    cold(plan, &mut figures, &few, "few", &format!("{FEW} accounts"))?;
    repeated(plan, &mut figures, &few)?;
    drop(few);
    if CLIENTS.iter().any(|clients| plan.wants(&format!("cold-many-{clients}"))) {
        let many = Accounts::make(MANY, MANY_LOGINS)?;
        cold(plan, &mut figures, &many, "many", &format!("{MANY} accounts"))?;
    }
    targets(&mut figures)?;
    Ok(figures)
}

fn targets(figures: &mut Figures) -> Result<()> {
    for (size, clients, least) in [("many", 16, 100.0), ("few", 16, 1.8)] {
        let line = format!("cold-{size}-{clients}");
        let claim = format!("nothing cached, {size} accounts, {clients} clients");
        figures.target(
            &format!("{claim}: × saslauthd"),
            least,
            (&line, "saslauthd-rs"),
            (&line, "saslauthd -a pam"),
        )?;
        figures.target(&format!("{claim}: × limit (crypt)"), 0.85, (&line, "saslauthd-rs"), (&line, "libcrypt"))?;
        let own = format!("{claim}: × limit (our own sha512-crypt)");
        figures.target(&own, 0.85, (&line, "saslauthd-rs"), (&line, "mailsql-password"))?;
    }
    for clients in CLIENTS {
        let line = format!("repeated-{clients}");
        let claim = format!("repeated, {}: × floor", at_once(clients));
        figures.target(&claim, 0.75, (&line, "saslauthd-rs"), (&line, "floor"))?;
    }
    Ok(())
}

/// Logins that cost a hash and a query each.
fn cold(plan: &Plan, figures: &mut Figures, accounts: &Accounts, size: &str, title: &str) -> Result<()> {
    let service = pam_service(accounts)?;
    let mut theirs = Saslauthd::setup().detached().start()?;
    let ours = Ours::start(accounts, NO_CACHE, &[])?;
    for clients in CLIENTS {
        let id = format!("cold-{size}-{clients}");
        if !plan.wants(&id) {
            continue;
        }
        let load = |socket: PathBuf, service: &str| login_load(accounts.logins(), socket, service, clients);
        let peer = Contender::new(Role::Peer, "saslauthd -a pam", load(theirs.socket(), service.name())?)
            .session(theirs.process()?.pid())
            .queries(1.0..=8.0)
            .least(if size == "many" { SLOW_TURN } else { Duration::ZERO });
        let mine = Contender::new(Role::Ours, "saslauthd-rs", load(ours.socket(), "smtp")?)
            .session(ours.session)
            .queries(0.9..=1.5);
        let account = accounts.logins().first().context("no logins")?.clone();
        let limits = [
            Contender::new(Role::Limit, "libcrypt × cores", hash_load(&account, libcrypt)?),
            Contender::new(Role::Limit, "mailsql-password × cores", hash_load(&account, own_crypt)?),
        ];
        let title = format!("login, nothing cached, {title}, {}", at_once(clients));
        let contenders = [peer, mine].into_iter().chain(limits).collect();
        figures.lines.push(measure_line(plan, &id, &title, Some(accounts), contenders)?);
    }
    Ok(())
}

/// Logins whose right password was seen before.
fn repeated(plan: &Plan, figures: &mut Figures, accounts: &Accounts) -> Result<()> {
    let service = pam_service(accounts)?;
    let mut theirs = Saslauthd::setup().arg("-c").detached().start()?;
    let ours = Ours::start(accounts, "", &["-c"])?;
    let floors = Floors::start(Wire::Saslauthd)?;
    for clients in CLIENTS {
        let id = format!("repeated-{clients}");
        if !plan.wants(&id) {
            continue;
        }
        let load = |socket: PathBuf, service: &str| login_load(accounts.logins(), socket, service, clients);
        // Each client must have met each of its accounts before the first turn that counts.
        for (socket, service) in [(theirs.socket(), service.name()), (ours.socket(), "smtp")] {
            visit_all(accounts.logins(), &socket, service)?;
        }
        let probe = |socket: &Path| load(socket.to_owned(), "smtp")?(plan.probe());
        let (floor, note) = floors.fastest(probe)?;
        figures.notes.push(format!("{id}: {note}"));
        let contenders = vec![
            Contender::new(Role::Peer, "saslauthd -a pam -c", load(theirs.socket(), service.name())?)
                .session(theirs.process()?.pid())
                .queries(0.0..=0.01),
            Contender::new(Role::Ours, "saslauthd-rs -c", load(ours.socket(), "smtp")?)
                .session(ours.session)
                .queries(0.0..=0.01),
            Contender::new(Role::Floor, format!("floor ({})", floor.style), load(floor.socket.clone(), "smtp")?)
                .session(floor.session),
        ];
        let title = format!("login, repeated, {FEW} accounts, {}", at_once(clients));
        figures.lines.push(measure_line(plan, &id, &title, Some(accounts), contenders)?);
    }
    Ok(())
}

fn at_once(clients: usize) -> String {
    if clients == 1 { "1 client".into() } else { format!("{clients} clients") }
}

fn pam_service(accounts: &Accounts) -> Result<pam::Service> {
    let arguments = document::pam_arguments(&accounts.db().host_port());
    pam::Service::new(&document::pam_service("pam_mysql.so", &arguments))
}

/// A saslauthd-rs of ours.
struct Ours {
    session: i32,
    site: Site,
    _daemon: Daemon,
}

impl Ours {
    fn start(accounts: &Accounts, sections: &str, further: &[&str]) -> Result<Self> {
        let site = Site::on(accounts, &format!("{sections}{LISTEN}"))?;
        let mut daemon = site.start("saslauthd-rs", &[&FLAGS[..], &["--foreground"], further].concat(), "mux")?;
        Ok(Self { session: daemon.process()?.pid(), site, _daemon: daemon })
    }

    fn socket(&self) -> PathBuf {
        self.site.run("mux")
    }
}

fn request(account: &Account, service: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let request = Request {
        login: account.local.as_bytes(),
        password: account.password.as_bytes(),
        service: service.as_bytes(),
        realm: account.domain.as_bytes(),
        client: None,
    };
    request.encode(&mut bytes)?;
    Ok(bytes)
}

/// Clients that share the accounts out among themselves: client K takes every account K, K + clients, …
pub(super) fn login_load(
    accounts: &[Account],
    socket: PathBuf,
    service: &str,
    clients: usize,
) -> Result<impl Fn(Duration) -> Result<Tally> + use<>> {
    let requests: Arc<[Vec<u8>]> = accounts.iter().map(|account| request(account, service)).collect::<Result<_>>()?;
    Ok(move |time| {
        let client = |first: usize| -> Client {
            let (requests, socket) = (Arc::clone(&requests), socket.clone());
            let mut turns = (first..requests.len()).step_by(clients).collect::<Vec<_>>().into_iter().cycle();
            Box::new(move || {
                let request = turns.next().and_then(|index| requests.get(index)).context("no account left")?;
                login(&socket, request)
            })
        };
        drive((0..clients).map(client).collect(), time)
    })
}

fn visit_all(accounts: &[Account], socket: &Path, service: &str) -> Result<()> {
    accounts.iter().try_for_each(|account| login(socket, &request(account, service)?))
}

/// One login, as libsasl2 does it: connect, one write, read to the end of the answer, close.
fn login(socket: &Path, request: &[u8]) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request)?;
    let mut buffer = [0; MAX_REPLY_TEXT + 2];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            bail!("closed without an answer");
        }
        filled += read;
        match decode_reply(&buffer[..filled])? {
            None => {}
            Some((Reply::Ok(_), _)) => return Ok(()),
            Some((reply, _)) => bail!("refused a right password: {reply:?}"),
        }
    }
}

fn libcrypt(password: &[u8], stored: &str) -> bool {
    mailsql_password::host_crypt(password, stored).is_some_and(|computed| computed == stored)
}

fn own_crypt(password: &[u8], stored: &str) -> bool {
    matches!(mailsql_password::verify(password, stored, &mailsql_password::Policy::default()), Ok(true))
}

/// What all cores could do: one core's rate, times the cores.
fn hash_load(account: &Account, verify: fn(&[u8], &str) -> bool) -> Result<impl Fn(Duration) -> Result<Tally> + use<>> {
    let cores = std::thread::available_parallelism()?.get() as u64;
    let password = account.password.clone().into_bytes();
    let stored = mailsql_password::host_crypt(&password, "$6$saltsaltsaltsalt$").context("no libcrypt")?;
    Ok(move |time| {
        let (begun, mut operations) = (Instant::now(), 0);
        while begun.elapsed() < time / 2 {
            if !verify(&password, &stored) {
                bail!("a hash does not match its own password");
            }
            operations += cores;
        }
        Ok(Tally { operations, answered: operations, elapsed: begun.elapsed(), latencies: Vec::new() })
    })
}
