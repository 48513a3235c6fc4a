//! `mailsql check`: a login, decided as a service would have it decided, but by this process on the database itself. It is
//! not throttled, does not count as a try, and leaves the stored hash as it is.

use crate::arguments::Check;
use crate::outcome::Outcome;
use crate::password::read;
use crate::print;
use mailsql_config::Config;
use mailsql_core::{Login, Verdict};
use mailsql_daemon::{Secrets, Shared};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

pub(crate) async fn run(config: &Path, check: Check) -> Result<(), Outcome> {
    let config = Config::load(config)?;
    let wrong = |error: anyhow::Error| Outcome::usage(format!("{error:#}"));
    let secrets = Secrets::read(&config).map_err(wrong)?;
    let shared = Shared::open_to_try(config, &secrets).map_err(wrong)?;
    let password = read(check.password_stdin)?;
    let login =
        Login { user: &check.address, password: password.as_bytes(), service: &check.service, client: check.client };
    let begun = Instant::now();
    let decision = shared.authenticator.login(&login).await?;
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let account = match &decision.verdict {
        Verdict::Yes(account)
        | Verdict::PasswordExpired(account)
        | Verdict::Disabled(account)
        | Verdict::Expired(account) => Some(account.address.to_string()),
        Verdict::Unknown | Verdict::Wrong | Verdict::Throttled => None,
    };
    let values =
        [json!(decision.verdict.word()), json!(decision.reason), json!(account), json!(decision.scheme), json!(micros)];
    print::one(&["result", "reason", "account", "scheme", "microseconds"], &values, check.json)?;
    match decision.verdict {
        Verdict::Yes(_) => Ok(()),
        _ => Err(Outcome::no("")),
    }
}
