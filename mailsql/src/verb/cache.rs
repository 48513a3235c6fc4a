//! `mailsql cache`.

use crate::arguments::Cache;
use crate::outcome::Outcome;
use crate::print;
use mailsql_config::Config;
use std::path::Path;

pub(crate) fn run(config: &Path, verb: Cache) -> Result<(), Outcome> {
    let config = Config::load(config)?;
    let Cache::Flush { address } = verb;
    let flushed = crate::flush::all(&config.control.dir, address.as_deref(), config.cache.positive_ttl.0);
    let what = address.as_deref().unwrap_or("everything");
    match flushed {
        0 => Err(Outcome::no(format!("no daemon answers in {}", config.control.dir.display()))),
        1 => print::line(&format!("1 daemon forgot {what}")),
        count => print::line(&format!("{count} daemons forgot {what}")),
    }
}
