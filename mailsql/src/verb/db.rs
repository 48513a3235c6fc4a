//! `mailsql db`.

use crate::arguments::Db;
use crate::outcome::Outcome;
use crate::print;
use crate::site::Site;
use serde_json::json;
use std::path::Path;

pub(crate) async fn run(config: &Path, verb: Db) -> Result<(), Outcome> {
    match verb {
        Db::Migrate => {
            let site = Site::open_to_write(config)?;
            if !site.store.is_set_up().await? {
                return Err(Outcome::usage("the tables are not there; `mailsql init` makes them"));
            }
            let done = site.store.migrate().await?;
            for step in &done {
                print::line(&format!("added {}", step.provides))?;
            }
            if done.is_empty() {
                print::line("nothing to do")?;
            }
            crate::flush::all(&site.config.control.dir, None, site.config.cache.positive_ttl.0);
            Ok(())
        }
        Db::Status { json } => {
            let site = Site::open(config)?;
            let missing = site.store.missing().await?;
            let set_up = site.store.is_set_up().await?;
            let findings = if set_up { site.store.check().await? } else { Vec::new() };
            let texts = |wrong| {
                let some: Vec<String> =
                    findings.iter().filter(|found| found.wrong == wrong).map(ToString::to_string).collect();
                if some.is_empty() { json!("none") } else { json!(some.join("; ")) }
            };
            let values = [
                json!(site.config.database.url.to_string()),
                json!(site.config.database.schema),
                json!(set_up),
                if missing.is_empty() { json!("none") } else { json!(missing.join(", ")) },
                texts(true),
                texts(false),
            ];
            print::one(&["database", "schema", "set_up", "missing", "wrong_queries", "slow_queries"], &values, json)?;
            if !set_up {
                return Err(Outcome::no("the tables of this schema are not there; `mailsql init` tells what is"));
            }
            if !findings.is_empty() {
                return Err(Outcome::no(
                    "the queries named above want mending: wrong ones fail, slow ones read whole tables",
                ));
            }
            if missing.is_empty() { Ok(()) } else { Err(Outcome::no("`mailsql db migrate` adds what is missing")) }
        }
    }
}
