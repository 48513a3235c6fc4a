//! The questions that a schema answers: which parameters each is asked with, and which columns its rows have.
//!
//! | question | asked with | rows |
//! | --- | --- | --- |
//! | `domains` | nothing | every domain: `domain` |
//! | `domain` | `:domain` | the same, for one |
//! | `alias_domains` | nothing | every second name: `domain`, and `target`, the domain it stands for |
//! | `account` | `:address :local :domain` | one: `password`, `address` (or `local` and `domain`); see [`ACCOUNT`] |
//! | `app_passwords` | `:address :local :domain` | one each: `id`, `label`, `password`; see [`APP_PASSWORD`] |
//! | `alias` | `:address :local :domain` | one a target, or a comma list: `destination`; `source` or `local`, `domain` |
//! | `catch_all` | `:domain` | likewise |
//! | `grants` | `:address` (or `@domain`) `:local :domain` | `login`, `allowed` (1 or 0, absent for 1); `source` |
//! | `transport` | `:key` (address, domain, `.domain`, `*`) | `transport`; `source` |
//! | `relay_domains` | nothing | every domain that is taken for another host: `domain` |
//! | `relay_recipient` | `:key` (address or `@domain`) `:local :domain` | `recipient` |
//! | `rate_limit` | `:rule`, `:address` (or `@domain`), `:domain` (as `@domain`) | `subject`, `amount`, `per_seconds`, `burst` |
//! | `greylist` | `:address :local :domain` | `greylist`: 1 or 0, absent for the default |
//! | `policy_acl` | nothing | `client`, `helo`, `login`, `sender`, `recipient`, `action` |
//!
//! `source` is the database's spelling of what was asked for. Where it is given, a row that a collation took for equal
//! (accents, trailing spaces) is left out.

/// A question.
#[derive(Debug)]
pub struct Question {
    /// Its name in a schema.
    pub name: &'static str,
    /// What it is asked with.
    pub given: &'static [&'static str],
    /// Columns that its rows must have.
    pub needs: &'static [&'static str],
    /// Columns that they may have.
    pub may: &'static [&'static str],
    /// Whether it brings a whole table, so that reading one is no fault.
    pub list: bool,
}

/// Columns of an account beyond its address and password: `enabled` (0 or 1), `receives` (0: mail is refused, logins go
/// on), `expires_at` and `password_expires_at` (seconds since 1970), `services` and `allow_nets` (lists by commas; a
/// service with `!` is the only one, or one of those, that is shut), `app_passwords` (not 0: `app_passwords` has some),
/// `maildir` (below the mail root, or absolute),
/// `home`, `uid`, `gid`, `quota_bytes` and `quota_messages` (0 or less for none).
pub const ACCOUNT: &[&str] = &[
    "address",
    "local",
    "domain",
    "enabled",
    "receives",
    "expires_at",
    "password_expires_at",
    "services",
    "allow_nets",
    "app_passwords",
    "maildir",
    "home",
    "uid",
    "gid",
    "quota_bytes",
    "quota_messages",
];

/// Columns of an app password beyond its number, label and password: `services`, `allow_nets` and `expires_at` as an
/// account's; `created_at`, `last_used_at` (seconds since 1970), `last_used_from`.
pub const APP_PASSWORD: &[&str] =
    &["services", "allow_nets", "expires_at", "created_at", "last_used_at", "last_used_from"];

const ADDRESS: &[&str] = &["address", "local", "domain", "key", "detail", "service", "client_ip"];

/// Every question that is not a change.
pub const QUESTIONS: &[Question] = &[
    Question { name: "domains", given: &[], needs: &["domain"], may: &[], list: true },
    Question { name: "domain", given: &["domain", "key"], needs: &["domain"], may: &[], list: false },
    Question { name: "alias_domains", given: &[], needs: &["domain", "target"], may: &[], list: true },
    Question { name: "account", given: ADDRESS, needs: &["password"], may: ACCOUNT, list: false },
    Question {
        name: "app_passwords",
        given: ADDRESS,
        needs: &["id", "label", "password"],
        may: APP_PASSWORD,
        list: false,
    },
    Question {
        name: "alias",
        given: ADDRESS,
        needs: &["destination"],
        may: &["source", "local", "domain"],
        list: false,
    },
    Question { name: "catch_all", given: &["domain", "key"], needs: &["destination"], may: &["source"], list: false },
    Question { name: "grants", given: ADDRESS, needs: &["login"], may: &["allowed", "source"], list: false },
    Question { name: "transport", given: ADDRESS, needs: &["transport"], may: &["source"], list: false },
    Question { name: "relay_domains", given: &[], needs: &["domain"], may: &[], list: true },
    Question { name: "relay_recipient", given: ADDRESS, needs: &["recipient"], may: &[], list: false },
    Question {
        name: "rate_limit",
        given: &["address", "domain", "rule"],
        needs: &["subject", "amount"],
        may: &["per_seconds", "burst"],
        list: false,
    },
    Question { name: "greylist", given: ADDRESS, needs: &["greylist"], may: &[], list: false },
    Question {
        name: "policy_acl",
        given: &[],
        needs: &["action"],
        may: &["id", "client", "helo", "login", "sender", "recipient"],
        list: true,
    },
    Question { name: "list_domains", given: &[], needs: &["domain"], may: &["enabled", "users"], list: true },
    Question { name: "list_users", given: &[], needs: &["password"], may: ACCOUNT, list: true },
    Question {
        name: "list_aliases",
        given: &[],
        needs: &["destination"],
        may: &["source", "local", "domain", "enabled"],
        list: true,
    },
    Question { name: "list_grants", given: ADDRESS, needs: &["login", "source"], may: &["allowed"], list: true },
];

/// The question of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Question> {
    QUESTIONS.iter().find(|question| question.name == name)
}
