//! `sender_login`: who may send as whom.
//!
//! A login may send as what [`resolve::senders`] lists it for: itself with any detail, and addresses whose mail comes to it. The same
//! answer is behind the map `senders`; Postfix's own reject_sender_login_mismatch asks that, without the null sender.
//!
//! | client | sender | answer |
//! | --- | --- | --- |
//! | logged in | its own | no opinion |
//! | logged in | another's, or nobody's here | `action` |
//! | logged in | `<>` | `action` where `null_sender = false` |
//! | not logged in | of somebody here | `action` where `anonymous = false` |

use crate::answer::Answer;
use crate::check::{Asked, Check, Opinion};
use crate::facts::{Facts, address, shown};
use anyhow::{Context, Result};
use mailsql_config::policy::{OnTrouble, SenderLogin as Settings};
use mailsql_core::{Directory, Unavailable, resolve};
use mailsql_daemon::Shared;

/// The check.
pub(crate) struct SenderLogin {
    settings: Settings,
    /// Logins in lower case.
    any_sender: Vec<String>,
    answer: Answer,
}

/// The decision, given the logins that own the sender.
fn allowed(settings: &Settings, login: Option<&str>, null_sender: bool, owners: &[Box<str>]) -> bool {
    match login {
        Some(_) if null_sender => settings.null_sender,
        Some(login) => {
            let login = login.to_lowercase();
            owners.iter().any(|owner| owner.to_lowercase() == login)
        }
        None => settings.anonymous || null_sender || owners.is_empty(),
    }
}

impl SenderLogin {
    /// Reads the settings.
    ///
    /// # Errors
    /// A line that names the setting which is wrong.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let answer = Answer::parse(&settings.action, &["login", "sender"]).map_err(anyhow::Error::msg);
        Ok(Self {
            any_sender: settings.any_sender.iter().map(|login| login.to_lowercase()).collect(),
            answer: answer.context("[policy.sender_login] action")?,
            settings: settings.clone(),
        })
    }

    fn opinion(&self, facts: &Facts<'_>, owners: &[Box<str>]) -> Opinion {
        let login = String::from_utf8_lossy(&facts.login);
        let known = facts.authenticated().then_some(&*login);
        if allowed(&self.settings, known, facts.sender.is_empty(), owners) {
            return Opinion::None;
        }
        let login = if facts.authenticated() { shown(&facts.login) } else { "a client without login".to_owned() };
        Opinion::Act(self.answer.with(&[("login", &login), ("sender", &shown(facts.sender))]))
    }

    async fn look_up(&self, facts: &Facts<'_>, shared: &Shared) -> Result<Opinion, Unavailable> {
        let directory: &dyn Directory = &*shared.directory;
        let now = i64::try_from(facts.seconds()).unwrap_or(i64::MAX);
        let owners = match address(facts.sender) {
            Some(sender) => resolve::senders(directory, &sender, &shared.rules, now).await?,
            None => Vec::new(),
        };
        Ok(self.opinion(facts, &owners))
    }
}

impl Check for SenderLogin {
    fn name(&self) -> &'static str {
        "sender_login"
    }

    fn on_trouble(&self) -> OnTrouble {
        self.settings.on_trouble
    }

    fn ask<'a>(&'a self, facts: &'a Facts<'a>, shared: &'a Shared) -> Asked<'a> {
        if !facts.has_sender() || (!facts.authenticated() && self.settings.anonymous) {
            return Asked::NONE;
        }
        if facts.authenticated() && !self.any_sender.is_empty() {
            let login = String::from_utf8_lossy(&facts.login).to_lowercase();
            if self.any_sender.contains(&login) {
                return Asked::NONE;
            }
        }
        if facts.sender.is_empty() {
            return Asked::Now(Ok(self.opinion(facts, &[])));
        }
        Asked::Later(Box::pin(self.look_up(facts, shared)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::rcpt;

    #[test]
    fn a_login_sends_as_what_it_owns() {
        let owners: Vec<Box<str>> = vec!["Bob@a.jp".into(), "eve@a.jp".into()];
        let default = Settings::default();
        let strict = Settings { null_sender: false, anonymous: false, ..Settings::default() };
        for (login, null_sender, owners, by_default, strictly) in [
            (Some("bob@a.jp"), false, &owners[..], true, true),
            (Some("BOB@A.JP"), false, &owners, true, true),
            (Some("tom@a.jp"), false, &owners, false, false),
            (Some("bob@a.jp"), false, &[], false, false),
            (Some("bob@a.jp"), true, &[], true, false),
            (None, false, &owners, true, false),
            (None, false, &[], true, true),
            (None, true, &[], true, true),
        ] {
            assert_eq!(allowed(&default, login, null_sender, owners), by_default, "{login:?} {null_sender}");
            assert_eq!(allowed(&strict, login, null_sender, owners), strictly, "{login:?} {null_sender}");
        }
    }

    #[test]
    fn the_refusal_names_both() {
        let check = SenderLogin::new(&Settings::default()).unwrap();
        let Opinion::Act(action) = check.opinion(&rcpt(0, "::1", "tom@a.jp", "bob@a.jp", "x@y"), &[]) else {
            panic!("no refusal")
        };
        assert_eq!(action.as_str(), "553 5.7.1 <bob@a.jp> does not belong to tom@a.jp");
    }
}
