//! Postfix's lookups: its own `mysql:` and `proxy:mysql:` tables, postfix-maps over socketmap, and a server that gives
//! every key the same value.
//!
//! Two loads. *Raw* clients speak socketmap, one question at a time on each connection, as one Postfix process does;
//! only ours and the floor can be asked so. *postmap* asks anything: `postmap -q - TABLE` with keys on its standard
//! input, one or several at a time; its start, measured by itself, is not counted.
//!
//! The peer's query is the one ours uses: base tables by (name, domain), both unique keys. The document's own query on
//! its view is measured on a line of its own, with many accounts.

use super::Area;
use crate::figures::{Figures, Role};
use crate::fixture::{Accounts, Site};
use crate::floor::{Floors, Wire};
use crate::line::{Contender, measure as measure_line};
use crate::load::{Client, Tally, drive};
use crate::plan::Plan;
use crate::report;
use anyhow::{Context, Result, bail};
use mailsql_proto::socketmap::{Reply, Request, decode_reply};
use mailsql_rig::{Daemon, Postfix, document};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const AREA: Area = Area {
    name: "socketmap",
    about: "Postfix's lookups, beside its own mysql: and proxy:mysql: tables",
    packages: &["postfix-maps"],
    measure,
};

/// Accounts, and as many aliases.
const ACCOUNTS: usize = 100_000;
/// Keys that are asked for again and again in cached lines.
const HOT: usize = 1000;
/// Keys that are asked for in turn in uncached lines.
const COLD: usize = 50_000;
/// Raw connections of the cached lines.
const CONNECTIONS: [usize; 2] = [1, 50];
/// Connections, or processes, of the uncached lines.
const PARALLEL: [usize; 2] = [1, 8];
/// A turn of the document's own query takes this long at least: it answers some ten a second.
const SLOW_TURN: Duration = Duration::from_secs(2);
/// Keys of the first, uncounted run of postmap, which tells how many to give it.
const FIRST_KEYS: usize = 16;
/// Runs of postmap with a single key, of which the median is its start.
const STARTS: usize = 5;
/// A cache that holds nothing for long.
const NO_CACHE: &str = "[cache]\nentries = 1\n\n";
const LISTEN: &str = "[maps]\nlisten = { socket = \"{run}/maps\", mode = \"0666\" }\n";

const MAILBOX_QUERY: &str = "SELECT CONCAT(u.name, '@', d.name, '/') FROM domains d JOIN users u ON u.domain_id = d.id \
                             WHERE d.name = '%d' AND u.name = '%u'";
const ALIAS_QUERY: &str = "SELECT a.destination FROM domains d JOIN aliases a ON a.domain_id = d.id \
                           WHERE d.name = '%d' AND a.name = '%u' AND COALESCE(a.enabled, 1) <> 0 ORDER BY a.id";

fn measure(plan: &Plan) -> Result<Figures> {
    let mut figures = Figures::new(&AREA, plan);
    figures.host =
        report::host(&[("peer", "postconf", &["-d", "mail_version"]), ("database", "mariadbd", &["--version"])]);
    let accounts = Accounts::make(ACCOUNTS, 1)?;
    let bench = Bench::start(plan, &accounts)?;
    for map in ["mailboxes", "aliases"] {
        let keys: Vec<String> = accounts.spread(HOT).iter().map(|account| key(map, account)).collect();
        bench.cached_raw(&mut figures, map, &keys)?;
        bench.cached_postmap(&mut figures, map, &keys)?;
    }
    bench.uncached(&mut figures)?;
    bench.documents_own(&mut figures)?;
    targets(&mut figures)?;
    Ok(figures)
}

fn targets(figures: &mut Figures) -> Result<()> {
    for map in ["mailboxes", "aliases"] {
        for connections in CONNECTIONS {
            let line = format!("cached-{map}-{connections}");
            let claim = format!("{map}, cached, {}: × floor", raw(connections));
            figures.target(&claim, 0.85, (&line, "postfix-maps"), (&line, "floor"))?;
        }
        let line = format!("cached-{map}-postmap");
        figures.target(&format!("{map}, cached, postmap: × floor"), 0.85, (&line, "postfix-maps"), (&line, "floor"))?;
    }
    let (one, eight) = ("uncached-1", "uncached-8");
    for (claim, needed, ours, to) in [
        ("uncached, 1 postmap: × mysql: in 1", 1.0, (one, "postfix-maps, postmap"), (one, "mysql:")),
        ("uncached, 8 postmaps: × mysql: in 1", 3.0, (eight, "postfix-maps, postmap"), (one, "mysql:")),
        ("uncached, 8 postmaps: × mysql: in 8", 1.0, (eight, "postfix-maps, postmap"), (eight, "mysql:")),
        ("uncached, 1 raw connection: × mysql: in 1", 1.0, (one, "postfix-maps, raw"), (one, "mysql:")),
        ("uncached, 8 raw connections: × mysql: in 1", 3.0, (eight, "postfix-maps, raw"), (one, "mysql:")),
        ("uncached, 8 raw connections: × mysql: in 8", 1.0, (eight, "postfix-maps, raw"), (eight, "mysql:")),
    ] {
        figures.target(claim, needed, ours, to)?;
    }
    Ok(())
}

fn raw(connections: usize) -> String {
    if connections == 1 { "1 raw connection".into() } else { format!("{connections} raw connections") }
}

fn key(map: &str, account: &crate::fixture::Account) -> String {
    if map == "aliases" { account.alias() } else { account.address() }
}

/// Everything that is asked.
struct Bench<'a> {
    plan: &'a Plan,
    accounts: &'a Accounts,
    postfix: Postfix,
    postfix_session: i32,
    caching: Ours,
    asking: Ours,
    floors: Floors,
}

impl<'a> Bench<'a> {
    fn start(plan: &'a Plan, accounts: &'a Accounts) -> Result<Self> {
        let host_port = accounts.db().host_port();
        let mut postfix = Postfix::setup()
            .file("mailboxes.cf", document::mysql_map(&host_port, MAILBOX_QUERY))
            .file("aliases.cf", document::mysql_map(&host_port, ALIAS_QUERY))
            .file("view.cf", document::mailboxes_map(&host_port))
            .main(
                "proxy_read_maps",
                "proxy:mysql:$config_directory/mailboxes.cf proxy:mysql:$config_directory/aliases.cf",
            )
            .start()?;
        let postfix_session = postfix.process()?.pid();
        let (caching, asking) = (Ours::start(accounts, "")?, Ours::start(accounts, NO_CACHE)?);
        let floors = Floors::start(Wire::Socketmap)?;
        Ok(Self { plan, accounts, postfix, postfix_session, caching, asking, floors })
    }

    /// Cached lookups through raw connections: ours and the floor.
    fn cached_raw(&self, figures: &mut Figures, map: &'static str, keys: &[String]) -> Result<()> {
        for connections in CONNECTIONS {
            let id = format!("cached-{map}-{connections}");
            if !self.plan.wants(&id) {
                continue;
            }
            let load = |socket: &Path| raw_load(socket, map, keys, connections);
            visit_all(&self.caching.socket(), map, keys)?;
            let (floor, note) = self.floors.fastest(|socket| load(socket)?(self.plan.probe()))?;
            figures.notes.push(format!("{id}: {note}"));
            let contenders = vec![
                Contender::new(Role::Ours, "postfix-maps", load(&self.caching.socket())?)
                    .session(self.caching.session)
                    .queries(0.0..=0.02),
                Contender::new(Role::Floor, format!("floor ({})", floor.style), load(&floor.socket)?)
                    .session(floor.session),
            ];
            let title = format!("{map}, cached, {}", raw(connections));
            figures.lines.push(measure_line(self.plan, &id, &title, Some(self.accounts), contenders)?);
        }
        Ok(())
    }

    /// Cached lookups through one postmap: theirs by proxymap, ours, the floor.
    fn cached_postmap(&self, figures: &mut Figures, map: &'static str, keys: &[String]) -> Result<()> {
        let id = format!("cached-{map}-postmap");
        if !self.plan.wants(&id) {
            return Ok(());
        }
        let load = |table: String| postmap_load(&self.postfix, table, keys, 1);
        visit_all(&self.caching.socket(), map, keys)?;
        let (floor, note) = self.floors.fastest(|socket| load(socketmap(socket, map))?(self.plan.probe()))?;
        figures.notes.push(format!("{id}: {note}"));
        let contenders = vec![
            Contender::new(Role::Peer, "proxy:mysql:", load(format!("proxy:{}", self.mysql(map)))?)
                .session(self.postfix_session)
                .queries(0.9..=1.1),
            Contender::new(Role::Peer, "mysql:", load(self.mysql(map))?).queries(0.9..=1.1),
            Contender::new(Role::Ours, "postfix-maps", load(socketmap(&self.caching.socket(), map))?)
                .session(self.caching.session)
                .queries(0.0..=0.02),
            Contender::new(Role::Floor, format!("floor ({})", floor.style), load(socketmap(&floor.socket, map))?)
                .session(floor.session),
        ];
        let title = format!("{map}, cached by ours, 1 postmap -q -");
        figures.lines.push(measure_line(self.plan, &id, &title, Some(self.accounts), contenders)?);
        Ok(())
    }

    /// The same indexed query on both sides, never cached.
    fn uncached(&self, figures: &mut Figures) -> Result<()> {
        let keys: Vec<String> = self.accounts.spread(COLD).iter().map(|account| account.address()).collect();
        for parallel in PARALLEL {
            let id = format!("uncached-{parallel}");
            if !self.plan.wants(&id) {
                continue;
            }
            let asking = self.asking.socket();
            let postmap = |table: String| postmap_load(&self.postfix, table, &keys, parallel);
            let raw = |socket: &Path| raw_load(socket, "mailboxes", &keys, parallel);
            let (floor, note) = self.floors.fastest(|socket| raw(socket)?(self.plan.probe()))?;
            figures.notes.push(format!("{id}: {note}"));
            let contenders = vec![
                Contender::new(Role::Peer, "mysql:, postmap", postmap(self.mysql("mailboxes"))?).queries(0.9..=1.1),
                Contender::new(Role::Ours, "postfix-maps, postmap", postmap(socketmap(&asking, "mailboxes"))?)
                    .session(self.asking.session)
                    .queries(0.9..=1.1),
                Contender::new(Role::Ours, "postfix-maps, raw", raw(&asking)?)
                    .session(self.asking.session)
                    .queries(0.9..=1.1),
                Contender::new(Role::Floor, format!("floor ({}), raw", floor.style), raw(&floor.socket)?)
                    .session(floor.session),
            ];
            let title = format!("mailboxes, uncached, {parallel} at once");
            figures.lines.push(measure_line(self.plan, &id, &title, Some(self.accounts), contenders)?);
        }
        Ok(())
    }

    /// The document's own query, which no index serves, beside ours without a cache.
    fn documents_own(&self, figures: &mut Figures) -> Result<()> {
        let id = "view-1";
        if !self.plan.wants(id) {
            return Ok(());
        }
        let keys: Vec<String> = self.accounts.spread(HOT).iter().map(|account| account.address()).collect();
        let view = format!("mysql:{}", self.postfix.config().join("view.cf").display());
        let ours = socketmap(&self.asking.socket(), "mailboxes");
        let contenders = vec![
            Contender::new(Role::Peer, "mysql:, the document's query", postmap_load(&self.postfix, view, &keys, 1)?)
                .least(SLOW_TURN)
                .queries(0.9..=1.5),
            Contender::new(Role::Ours, "postfix-maps", postmap_load(&self.postfix, ours, &keys, 1)?)
                .session(self.asking.session)
                .queries(0.9..=1.1),
        ];
        let title = format!("mailboxes, uncached, the document's own query among {ACCOUNTS} accounts, 1 postmap -q -");
        figures.lines.push(measure_line(self.plan, id, &title, Some(self.accounts), contenders)?);
        Ok(())
    }

    fn mysql(&self, map: &str) -> String {
        format!("mysql:{}", self.postfix.config().join(format!("{map}.cf")).display())
    }
}

/// A postfix-maps of ours.
struct Ours {
    session: i32,
    site: Site,
    _daemon: Daemon,
}

impl Ours {
    fn start(accounts: &Accounts, sections: &str) -> Result<Self> {
        let site = Site::on(accounts, &format!("{sections}{LISTEN}"))?;
        let mut daemon = site.start("postfix-maps", &[], "maps")?;
        Ok(Self { session: daemon.process()?.pid(), site, _daemon: daemon })
    }

    fn socket(&self) -> PathBuf {
        self.site.run("maps")
    }
}

fn socketmap(socket: &Path, map: &str) -> String {
    format!("socketmap:unix:{}:{map}", socket.display())
}

/// Clients with a connection each; client K begins at another place of the keys.
pub(super) fn raw_load(
    socket: &Path,
    map: &str,
    keys: &[String],
    connections: usize,
) -> Result<impl Fn(Duration) -> Result<Tally> + use<>> {
    let requests = keys.iter().map(|key| {
        let mut bytes = Vec::new();
        Request { name: map.as_bytes(), key: key.as_bytes() }.encode(&mut bytes)?;
        Ok(bytes)
    });
    let requests: Arc<[Vec<u8>]> = requests.collect::<Result<_>>()?;
    let socket = socket.to_owned();
    // Later turns go on where the last one ended, so that uncached keys stay distinct for longer.
    let place = Cell::new(0);
    Ok(move |time| {
        let clients = (0..connections).map(|index| -> Result<Client> {
            let mut stream = UnixStream::connect(&socket)?;
            let requests = Arc::clone(&requests);
            let mut next = place.get() + index * requests.len() / connections;
            Ok(Box::new(move || {
                let request = requests.get(next % requests.len()).context("no keys")?;
                next += 1;
                look_up(&mut stream, request)
            }))
        });
        let tally = drive(clients.collect::<Result<_>>()?, time)?;
        place.set(place.get() + usize::try_from(tally.operations)? / connections);
        Ok(tally)
    })
}

fn visit_all(socket: &Path, map: &str, keys: &[String]) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    keys.iter().try_for_each(|key| {
        let mut bytes = Vec::new();
        Request { name: map.as_bytes(), key: key.as_bytes() }.encode(&mut bytes)?;
        look_up(&mut stream, &bytes).with_context(|| format!("{map} {key}"))
    })
}

fn look_up(stream: &mut UnixStream, request: &[u8]) -> Result<()> {
    stream.write_all(request)?;
    let mut buffer = [0; 1024];
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
            Some((reply, _)) => bail!("a key that is there: {reply:?}"),
        }
    }
}

/// Runs `processes` postmaps at once, with as many keys as they answer in the time, each beginning at another place.
fn postmap_load<'a>(
    postfix: &'a Postfix,
    table: String,
    keys: &[String],
    processes: usize,
) -> Result<impl Fn(Duration) -> Result<Tally> + use<'a>> {
    let keys: Arc<[String]> = keys.into();
    let mut starts = (0..STARTS)
        .map(|_| postmaps(postfix, &table, &keys, 0, processes, processes))
        .collect::<Result<Vec<_>>>()
        .with_context(|| table.clone())?;
    starts.sort_unstable();
    let start = starts.get(STARTS / 2).copied().context("no starts")?;
    let place = Cell::new(0);
    let once = move |count: usize| {
        let elapsed = postmaps(postfix, &table, &keys, place.get(), count, processes)?;
        place.set(place.get() + count / processes);
        Ok::<_, anyhow::Error>(elapsed.saturating_sub(start))
    };
    // How many keys a second are answered; known once some were.
    let rate = Cell::new(None);
    Ok(move |time: Duration| {
        let shared = |count: usize| count.div_ceil(processes).max(2) * processes;
        let mut count = shared(rate.get().map_or(FIRST_KEYS, |rate| at_rate(rate, time)));
        let mut elapsed = once(count)?;
        let mut answered = count;
        // A run that is short beside the start of a process says little about the rate.
        while elapsed < time / 4 {
            count *= 4;
            elapsed = once(count)?;
            answered += count;
        }
        // The start that was taken off held one lookup a process.
        let operations = (count - processes) as u64;
        rate.set(Some(operations as f64 / elapsed.as_secs_f64()));
        Ok(Tally { operations, answered: answered as u64, elapsed, latencies: Vec::new() })
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "keys for some seconds, never negative")]
fn at_rate(rate: f64, time: Duration) -> usize {
    (rate * time.as_secs_f64()) as usize
}

/// How long `count` keys take, shared out among the processes. Every key must be found.
fn postmaps(
    postfix: &Postfix,
    table: &str,
    keys: &[String],
    place: usize,
    count: usize,
    processes: usize,
) -> Result<Duration> {
    let inputs: Vec<String> = (0..processes)
        .map(|process| {
            let first = place + process * keys.len() / processes;
            let mine = keys.iter().cycle().skip(first % keys.len()).take(count / processes);
            mine.flat_map(|key| [key.as_str(), "\n"]).collect()
        })
        .collect();
    let begun = Instant::now();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = inputs
            .iter()
            .map(|input| scope.spawn(move || postfix.tool("postmap", &["-q", "-", table], input.as_bytes())))
            .collect();
        started.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let elapsed = begun.elapsed();
    for outcome in outcomes {
        let Ok(outcome) = outcome else { bail!("a postmap's thread broke off") };
        let (found, wanted) = (outcome?.ok()?.lines().count(), count / processes);
        if found != wanted {
            bail!("postmap found {found} of {wanted} keys in {table}");
        }
    }
    Ok(elapsed)
}
