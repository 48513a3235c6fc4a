//! `quota`: refuses mail for mailboxes that are full or switched off, before it is taken.
//!
//! Asked where there is a recipient: at RCPT with the size that the client announced, at END-OF-MESSAGE of mail to one recipient with
//! its true size. The recipient is followed through aliases to the mailboxes behind it ([`resolve::expand`]); addresses
//! elsewhere have no quota here. Of several mailboxes, one or all must refuse (`many`); where mail also goes elsewhere, not all can.
//!
//! To the size, what a message grows by on its way is added: what is let through here must not be bounced at delivery.
//!
//! Whoever has no quota costs no look at the disk. What a mailbox holds is read from its `maildirsize` ([`crate::usage`]).

use crate::answer::Answer;
use crate::check::{Asked, Check, Opinion};
use crate::facts::{Facts, address};
use crate::usage;
use anyhow::{Context, Result};
use mailsql_config::policy::{Many, OnTrouble, QuotaCheck};
use mailsql_config::{Config, OverQuota};
use mailsql_core::{Account, Address, Directory, Unavailable, resolve};
use mailsql_daemon::{Shared, mailbox};
use mailsql_proto::policy::State;
use std::time::{Duration, SystemTime};

/// What a message grows by on its way into the mailbox, in bytes: two Received lines, Return-Path, Delivered-To.
const TRACE: u64 = 512;
/// Longest wait for the disk.
const DISK_DEADLINE: Duration = Duration::from_secs(5);

/// The check.
pub(crate) struct Quota {
    many: Many,
    full: Answer,
    disabled: Answer,
    on_trouble: OnTrouble,
}

/// Why a mailbox takes no mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Disabled,
    Full,
}

/// The decision, given what each mailbox says.
fn decide(mailboxes: &[Option<Refusal>], elsewhere: bool, many: Many) -> Option<Refusal> {
    let refusals = mailboxes.iter().flatten();
    let refused = match many {
        Many::Any => refusals.clone().next().is_some(),
        Many::All => !elsewhere && !mailboxes.is_empty() && mailboxes.iter().all(Option::is_some),
    };
    // A full mailbox may have room again: it is the better news of the two.
    let worst = refusals.copied().max_by_key(|refusal| *refusal == Refusal::Full);
    worst.filter(|_| refused)
}

impl Quota {
    /// Reads the settings.
    ///
    /// # Errors
    /// A line that names the setting which is wrong.
    pub(crate) fn new(settings: &QuotaCheck, config: &Config) -> Result<Self> {
        let action = match (settings.action.as_str(), config.lmtp.as_ref().map(|lmtp| lmtp.over_quota)) {
            ("", Some(OverQuota::Defer)) => "452 4.2.2 Mailbox is full",
            ("", _) => "552 5.2.2 Mailbox is full",
            (action, _) => action,
        };
        let parse = |text: &str| Answer::parse(text, &[]).map_err(anyhow::Error::msg);
        Ok(Self {
            many: settings.many,
            full: parse(action).context("[policy.quota] action")?,
            disabled: parse(&settings.disabled_action).context("[policy.quota] disabled_action")?,
            on_trouble: settings.on_trouble,
        })
    }

    async fn look_up(&self, facts: &Facts<'_>, recipient: Address, shared: &Shared) -> Result<Opinion, Unavailable> {
        let directory: &dyn Directory = &*shared.directory;
        let expansion = resolve::expand(directory, &recipient, &shared.rules).await?;
        let mailboxes = &expansion.mailboxes;
        // What could not be followed to its end may end anywhere.
        let elsewhere = !expansion.elsewhere.is_empty() || !expansion.problems.is_empty();
        let now = i64::try_from(facts.seconds()).unwrap_or(i64::MAX);
        let mut refusals = Vec::with_capacity(mailboxes.len());
        for account in mailboxes {
            let refusal = if account.closed(now) || !account.receives {
                Some(Refusal::Disabled)
            } else if has_room(account, grown(facts.size), shared).await? {
                None
            } else {
                Some(Refusal::Full)
            };
            refusals.push(refusal);
        }
        Ok(match decide(&refusals, elsewhere, self.many) {
            None => Opinion::None,
            Some(Refusal::Disabled) => Opinion::Act(self.disabled.with(&[])),
            Some(Refusal::Full) => Opinion::Act(self.full.with(&[])),
        })
    }
}

/// The size in the mailbox of a message whose size on the wire is known; one byte where it is not.
fn grown(size: u64) -> u64 {
    if size == 0 { 1 } else { size.saturating_add(TRACE) }
}

async fn has_room(account: &Account, size: u64, shared: &Shared) -> Result<bool, Unavailable> {
    let quota = account.quota;
    if quota == mailsql_core::Quota::default() {
        return Ok(true);
    }
    let folder = mailbox::folder(&shared.config.mail, account).map_err(Unavailable::new)?;
    let path = folder.clone();
    let job = tokio::task::spawn_blocking(move || usage::has_room(&path, quota, size, SystemTime::now()));
    match tokio::time::timeout(DISK_DEADLINE, job).await {
        Ok(Ok(Ok(room))) => Ok(room),
        Ok(Ok(Err(error))) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Unavailable::new(format!(
            "{}: {error}; run the policy service together with lmtpd, or give its user the group of the mail files and \
             [lmtp] dir_mode = \"0750\", file_mode = \"0640\"",
            folder.display()
        ))),
        Ok(Ok(Err(error))) => Err(Unavailable::new(format!("{}: {error}", folder.display()))),
        Ok(Err(_)) => Err(Unavailable::new(format!("{}: broken off", folder.display()))),
        Err(_) => Err(Unavailable::new(format!("{}: no answer within {DISK_DEADLINE:?}", folder.display()))),
    }
}

impl Check for Quota {
    fn name(&self) -> &'static str {
        "quota"
    }

    fn on_trouble(&self) -> OnTrouble {
        self.on_trouble
    }

    fn ask<'a>(&'a self, facts: &'a Facts<'a>, shared: &'a Shared) -> Asked<'a> {
        if !matches!(facts.state, State::Rcpt | State::EndOfMessage) {
            return Asked::NONE;
        }
        match address(facts.recipient) {
            Some(recipient) => Asked::Later(Box::pin(self.look_up(facts, recipient, shared))),
            None => Asked::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_all_must_refuse() {
        let (full, off, fine) = (Some(Refusal::Full), Some(Refusal::Disabled), None);
        for (mailboxes, elsewhere, any, all) in [
            (&[][..], false, None, None),
            (&[], true, None, None),
            (&[fine], false, None, None),
            (&[full], false, full, full),
            (&[off], false, off, off),
            (&[off, full], false, full, full),
            (&[full, fine], false, full, None),
            (&[off, fine], false, off, None),
            (&[full], true, full, None),
            (&[fine], true, None, None),
        ] {
            assert_eq!(decide(mailboxes, elsewhere, Many::Any), any, "{mailboxes:?} {elsewhere}");
            assert_eq!(decide(mailboxes, elsewhere, Many::All), all, "{mailboxes:?} {elsewhere}");
        }
    }
}
