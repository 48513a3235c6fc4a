//! `mailsql explain login`: what the database holds for a login, what the running daemons count against it, and what each
//! protocol would answer. No password is asked for, none is shown.

use super::limits::ask_all;
use super::user::now;
use crate::arguments::Explain;
use crate::outcome::Outcome;
use crate::print;
use crate::site::Site;
use mailsql_ask::ask::LimitsAction;
use mailsql_core::{Account, AppPassword, Directory};
use mailsql_daemon::{Secrets, Shared};
use mailsql_password::Scheme;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// What protocols answer, by verdict: PAM, saslauthd, Dovecot's auth protocol, checkpassword.
const PROTOCOLS: [&str; 4] = ["pam", "saslauthd", "dovecot-auth", "checkpassword"];

fn answers(verdict: &str) -> [&'static str; 4] {
    match verdict {
        "ok" => ["PAM_SUCCESS", "OK", "OK", "exec"],
        "unknown" => ["PAM_USER_UNKNOWN", "NO", "FAIL", "exit 1"],
        "password_expired" => ["PAM_NEW_AUTHTOK_REQD", "NO", "FAIL code=pass_expired", "exit 1"],
        "disabled" | "expired" => ["PAM_ACCT_EXPIRED", "NO", "FAIL code=user_disabled", "exit 1"],
        "unavailable" => ["PAM_AUTHINFO_UNAVAIL", "close, no reply", "close, or FAIL code=temp_fail", "exit 111"],
        // Wrong, and throttled.
        _ => ["PAM_AUTH_ERR", "NO", "FAIL", "exit 1"],
    }
}

pub(crate) async fn run(config: &Path, verb: Explain) -> Result<(), Outcome> {
    let Explain::Login { address: user, service, client, json } = verb;
    let site = Site::open(config)?;
    let secrets = Secrets::read(&site.config).map_err(|error| Outcome::usage(format!("{error:#}")))?;
    let shared =
        Shared::open_to_try(site.config.clone(), &secrets).map_err(|error| Outcome::usage(format!("{error:#}")))?;
    let Some(address) = shared.authenticator.address(&user) else {
        return Err(Outcome::no(format!("{user} is no address, and there is no [mail] default_domain for bare names")));
    };
    let Some(account) = site.store.account(&address).await? else {
        tell(&[("login", json!(address.as_str())), ("account", Value::Null)], &[], &[], &told("unknown"), json)?;
        return Err(Outcome::no(format!("{address} does not exist")));
    };
    let apps = site.store.app_passwords(&address).await?;
    let verdict = right_password(&shared, &user, &service, client, &account).await?;
    let (policy, new) = mailsql_daemon::policy(&site.config).map_err(|error| Outcome::usage(format!("{error:#}")))?;
    let stored = account.password.as_ref().map(|stored| &*stored.0);
    let scheme = stored.and_then(mailsql_password::detect).or(policy.default_scheme.filter(|_| stored.is_some()));
    let list = |words: &Option<Vec<Box<str>>>| json!(words.as_ref().map(|words| words.join(",")));
    let facts = [
        ("login", json!(address.as_str())),
        ("account", json!(account.address.as_str())),
        ("scheme", json!(scheme.map(Scheme::name))),
        ("password", json!(usable(stored, scheme, &policy))),
        ("weaker_than_configured", json!(stored.is_some_and(|stored| mailsql_password::weaker_than(stored, &new)))),
        ("enabled", json!(account.enabled)),
        ("expires_at", json!(account.expires_at.map(print::moment))),
        ("password_expires_at", json!(account.password_expires_at.map(print::moment))),
        ("services", list(&account.services)),
        ("allow_nets", list(&account.allow_nets)),
        ("with_the_right_password", json!(verdict)),
    ];
    // No daemon, no counts: that is no fault of the login.
    let throttle = ask_all(&site.config.control.dir, LimitsAction::Explain, Some(address.as_str())).unwrap_or_default();
    let throttle: Vec<String> =
        throttle.iter().flat_map(|(name, text)| text.lines().map(move |line| format!("{name}: {line}"))).collect();
    tell(&facts, &apps, &throttle, &told(verdict), json)
}

/// The verdict on this login once its password is right; without a client's address, on one from a network that may.
async fn right_password(
    shared: &Shared,
    user: &str,
    service: &str,
    client: Option<IpAddr>,
    account: &Account,
) -> Result<&'static str, Outcome> {
    if account.password.as_ref().is_none_or(|stored| mailsql_password::is_locked(&stored.0)) {
        return Ok("wrong");
    }
    Ok(shared.authenticator.account_from(user, service, client).await?.word())
}

fn usable(stored: Option<&str>, scheme: Option<Scheme>, policy: &mailsql_password::Policy) -> &'static str {
    match (stored, scheme) {
        (None, _) => "none: nobody logs in",
        (Some(stored), _) if mailsql_password::is_locked(stored) => "locked: nobody logs in",
        (Some(_), None) => "of no known scheme: nobody logs in",
        (Some(_), Some(scheme)) if scheme.weak() && !policy.allow_weak.contains(scheme) => {
            "weak, and not in [passwords] allow_weak: nobody logs in"
        }
        _ => "usable",
    }
}

/// What every protocol answers to the right and to a wrong password.
fn told(verdict: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let wrong = answers(if verdict == "unknown" { "unknown" } else { "wrong" });
    PROTOCOLS.iter().zip(answers(verdict)).zip(wrong).map(|((name, right), wrong)| (*name, right, wrong)).collect()
}

fn tell(
    facts: &[(&str, Value)],
    apps: &[AppPassword],
    throttle: &[String],
    answers: &[(&str, &str, &str)],
    json: bool,
) -> Result<(), Outcome> {
    let list = |words: &Option<Vec<Box<str>>>| json!(words.as_ref().map(|words| words.join(",")));
    if json {
        let mut all: serde_json::Map<String, Value> =
            facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let apps: Vec<Value> = apps
            .iter()
            .map(|app| {
                json!({ "label": app.label, "expired": app.expired(now()), "services": list(&app.services),
                        "allow_nets": list(&app.allow_nets) })
            })
            .collect();
        let protocols: serde_json::Map<String, Value> = answers
            .iter()
            .map(|(name, right, wrong)| {
                ((*name).to_owned(), json!({ "right_password": right, "wrong_password": wrong }))
            })
            .collect();
        all.insert("app_passwords".to_owned(), json!(apps));
        all.insert("throttle".to_owned(), json!(throttle));
        all.insert("protocols".to_owned(), json!(protocols));
        return print::line(&format!("{:#}", Value::Object(all)));
    }
    let (names, values): (Vec<&str>, Vec<Value>) = facts.iter().map(|(name, value)| (*name, value.clone())).unzip();
    print::one(&names, &values, false)?;
    for app in apps {
        let state = if app.expired(now()) { "expired" } else { "good" };
        print::line(&format!("app password \"{}\": {state}", app.label))?;
    }
    for line in throttle {
        print::line(line)?;
    }
    print::line("")?;
    let rows: Vec<Vec<Value>> =
        answers.iter().map(|(name, right, wrong)| vec![json!(name), json!(right), json!(wrong)]).collect();
    print::rows(&["protocol", "right password", "wrong password"], &rows, false)
}
