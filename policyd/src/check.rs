//! What a check is, and which there are.

use crate::facts::Facts;
use crate::state::Kept;
use anyhow::Result;
use mailsql_config::Config;
use mailsql_config::policy::{CheckName, OnTrouble};
use mailsql_core::Unavailable;
use mailsql_daemon::Shared;
use mailsql_proto::ask::LimitsAction;
use mailsql_proto::policy::Action;
use std::pin::Pin;

/// What a check thinks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Nothing: the next check is asked.
    None,
    /// Nothing, and no other check is to be asked.
    Pass,
    /// This is the answer.
    Act(Action),
}

/// A future of a check.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// An opinion, at once or after asking the database.
pub enum Asked<'a> {
    /// At once, without an allocation.
    Now(Result<Opinion, Unavailable>),
    /// Later.
    Later(Future<'a, Result<Opinion, Unavailable>>),
}

impl Asked<'_> {
    /// No opinion.
    pub const NONE: Self = Asked::Now(Ok(Opinion::None));
}

/// A check.
pub trait Check: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// What happens when it cannot find out.
    fn on_trouble(&self) -> OnTrouble;

    /// What it thinks of a request.
    fn ask<'a>(&'a self, facts: &'a Facts<'a>, shared: &'a Shared) -> Asked<'a>;

    /// What it has that outlives a restart.
    fn kept(&self) -> Option<&dyn Kept> {
        None
    }

    /// What it counts for `who`, or for all; see [`mailsql_daemon::Limited`].
    fn limits(&self, _action: LimitsAction, _who: Option<&str>, _now: u64) -> Vec<String> {
        Vec::new()
    }

    /// Drops what is remembered of the database.
    fn forget(&self) {}

    /// Reads anew what it holds of files and database; called at the start and every `[cache] positive_ttl`.
    fn refresh<'a>(&'a self, _shared: &'a Shared) -> Future<'a, ()> {
        Box::pin(async {})
    }
}

/// Makes a check from its settings.
///
/// # Errors
/// A line that names the setting which is wrong.
pub fn build(name: CheckName, config: &Config) -> Result<Box<dyn Check>> {
    let policy = config.policy.clone().unwrap_or_default();
    Ok(match name {
        CheckName::Acl => Box::new(crate::acl::Acl::new(&policy.acl)?),
        CheckName::SenderLogin => Box::new(crate::sender_login::SenderLogin::new(&policy.sender_login)?),
        CheckName::Quota => Box::new(crate::quota::Quota::new(&policy.quota, config)?),
        CheckName::Greylist => Box::new(crate::greylist::Greylist::new(&policy.greylist)?),
        CheckName::Rate => Box::new(crate::rate::Rates::new(&policy.rate)?),
    })
}
