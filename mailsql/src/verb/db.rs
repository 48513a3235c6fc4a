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
            let values = [
                json!(site.config.database.url.to_string()),
                json!(site.config.database.schema),
                json!(site.store.is_set_up().await?),
                if missing.is_empty() { json!("none") } else { json!(missing.join(", ")) },
            ];
            print::one(&["database", "schema", "set_up", "missing"], &values, json)?;
            if missing.is_empty() { Ok(()) } else { Err(Outcome::no("`mailsql db migrate` adds what is missing")) }
        }
    }
}
