//! What one lookup and one login cost among few accounts and among many: nothing is cached, on MariaDB and on SQLite.
//!
//! A line's contenders are the same program on databases of different size. A lookup is one raw socketmap question for an
//! address not asked for lately; a login is one by saslauthd's protocol with a hash each.

use super::Area;
use super::saslauthd::login_load;
use super::socketmap::raw_load;
use crate::figures::{Figures, Role};
use crate::fixture::{Account, Accounts, Embedded, Site};
use crate::line::{Contender, measure as measure_line};
use crate::plan::Plan;
use crate::report;
use anyhow::Result;
use mailsql_rig::Daemon;

pub(crate) const AREA: Area = Area {
    name: "scale",
    about: "one lookup and one login among 1,000, 100,000 and 1,000,000 accounts",
    packages: &["postfix-maps", "saslauthd-rs", "mailsql"],
    measure,
};

/// Accounts of each database.
const SIZES: [usize; 3] = [1000, 100_000, 1_000_000];
/// Accounts that log in.
const LOGINS: usize = 64;
/// Keys that are asked for in turn.
const KEYS: usize = 1000;
/// Clients of the login lines: as many as keep two cores busy.
const CLIENTS: usize = 4;
/// The rate among many accounts against that among few: an operation may cost 1.3 times as much.
const LEAST: f64 = 0.77;
/// A cache that holds nothing for long.
const NO_CACHE: &str = "[cache]\nentries = 1\n\n";
const LISTEN: &str = "[maps]\nlisten = { socket = \"{run}/maps\", mode = \"0666\" }\n\
                      [saslauthd]\nlisten = { socket = \"{run}/mux\", mode = \"0666\" }\n";

/// A database of one size with both daemons on it.
struct Served {
    size: usize,
    keys: Vec<String>,
    logins: Vec<Account>,
    site: Site,
    _daemons: [Daemon; 2],
}

impl Served {
    fn start(size: usize, site: Site, spread: &[Account], logins: &[Account]) -> Result<Self> {
        let maps = site.start("postfix-maps", &[], "maps")?;
        let saslauthd = site.start("saslauthd-rs", &["-r", "--foreground"], "mux")?;
        let keys = spread.iter().map(Account::address).collect();
        Ok(Self { size, keys, logins: logins.to_vec(), site, _daemons: [maps, saslauthd] })
    }
}

fn measure(plan: &Plan) -> Result<Figures> {
    let mut figures = Figures::new(&AREA, plan);
    figures.host = report::host(&[("database", "mariadbd", &["--version"])]);
    let sections = format!("{NO_CACHE}{LISTEN}");
    if plan.wants("lookup-mariadb") || plan.wants("login-mariadb") {
        let accounts = SIZES.map(|size| Accounts::make(size, LOGINS));
        let accounts = accounts.into_iter().collect::<Result<Vec<_>>>()?;
        let served = accounts.iter().zip(SIZES).map(|(accounts, size)| {
            Served::start(size, Site::on(accounts, &sections)?, &accounts.spread(KEYS), accounts.logins())
        });
        lines(plan, &mut figures, "mariadb", &served.collect::<Result<Vec<_>>>()?)?;
    }
    if plan.wants("lookup-sqlite") || plan.wants("login-sqlite") {
        let served = SIZES.map(|size| {
            let Embedded { site, spread, logins } = Embedded::make(size, LOGINS, KEYS, &sections)?;
            Served::start(size, site, &spread, &logins)
        });
        lines(plan, &mut figures, "sqlite", &served.into_iter().collect::<Result<Vec<_>>>()?)?;
    }
    Ok(figures)
}

fn lines(plan: &Plan, figures: &mut Figures, database: &str, served: &[Served]) -> Result<()> {
    let name = |served: &Served| format!("{} accounts", served.size);
    let (lookup, login) = (format!("lookup-{database}"), format!("login-{database}"));
    if plan.wants(&lookup) {
        let contenders = served.iter().map(|served| {
            let work = raw_load(&served.site.run("maps"), "mailboxes", &served.keys, 1)?;
            Ok(Contender::new(Role::Ours, name(served), work))
        });
        let contenders = contenders.collect::<Result<_>>()?;
        let title = format!("lookup, nothing cached, {database}, 1 raw connection");
        figures.lines.push(measure_line(plan, &lookup, &title, None, contenders)?);
    }
    if plan.wants(&login) {
        let contenders = served.iter().map(|served| {
            let work = login_load(&served.logins, served.site.run("mux"), "smtp", CLIENTS)?;
            Ok(Contender::new(Role::Ours, name(served), work))
        });
        let contenders = contenders.collect::<Result<_>>()?;
        let title = format!("login, nothing cached, {database}, {CLIENTS} clients");
        figures.lines.push(measure_line(plan, &login, &title, None, contenders)?);
    }
    for line in [&lookup, &login] {
        for size in &SIZES[1..] {
            let claim = format!("{line}: rate among {size} accounts × that among {}", SIZES[0]);
            let (many, few) = (format!("{size} accounts"), format!("{} accounts", SIZES[0]));
            figures.target(&claim, LEAST, (line, &many), (line, &few))?;
        }
    }
    Ok(())
}
