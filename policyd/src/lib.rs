//! Postfix access policy delegation: what smtpd asks about each client, sender and recipient (`check_policy_service`).
//!
//! ```text
//! smtpd -- request --> service -- Facts --> check 1, check 2, … --> Opinion --> action
//! ```
//!
//! The checks of `[policy] checks` are asked in that order; the first that has an opinion answers, without any the answer is
//! DUNNO. A check is one file here with the trait [`check::Check`] and a line in [`check::build`]; its settings are a
//! structure in `mailsql_config::policy`.
//!
//! A check that cannot find out closes the connection (`on_trouble`): Postfix asks again on a new one and then does what
//! its smtpd_policy_service_default_action says, 451 unless it was changed. No answer of ours can say that.
//!
//! What is counted is kept in memory and written to `[state] dir`/policy.db twice a second ([`state`]).
#![forbid(unsafe_code)]

mod acl;
mod answer;
mod bucket;
pub mod check;
pub mod facts;
mod greylist;
mod memory;
mod quota;
mod rate;
mod rate_rule;
mod sender_login;
mod service;
pub mod state;
mod table;
mod usage;

pub use service::bind;
