//! What the policy service asks: limits of users and domains, who is greylisted, and lists of rules.

use crate::Store;
use crate::directory::key;
use crate::query::Value;
use mailsql_core::{Address, Unavailable};

/// A limit of a user or domain for one rule; what is `None` is as the rule says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// What is allowed in a period: 0 for nothing, less for no limit.
    pub amount: Option<i64>,
    /// The period in seconds.
    pub per: Option<u64>,
    /// What may come at once.
    pub burst: Option<u64>,
}

/// A row of `policy_acl`; what is `None` matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclRow {
    /// Its number, for errors.
    pub id: i64,
    /// Address or network of the client.
    pub client: Option<String>,
    /// Name of the client.
    pub helo: Option<String>,
    /// Login.
    pub login: Option<String>,
    /// Sender.
    pub sender: Option<String>,
    /// Recipient.
    pub recipient: Option<String>,
    /// The answer.
    pub action: String,
}

impl Store {
    /// The limit that a rule has for `subject`, an address or `@domain`, or for `domain`, written `@domain`.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn rate_limit(&self, rule: &str, subject: &str, domain: &str) -> Result<Option<RateLimit>, Unavailable> {
        let given = [("rule", rule.into()), ("address", subject.into()), ("domain", domain.into())];
        let rows = self.ask("rate_limit", &given).await?.unwrap_or_default();
        let is =
            |row: &&crate::query::Row, who: &str| row.text("subject").is_some_and(|text| text.to_lowercase() == who);
        let row = rows.iter().find(|row| is(row, subject)).or_else(|| rows.iter().find(|row| is(row, domain)));
        let Some(row) = row else { return Ok(None) };
        let positive =
            |column| row.int(column).map(|number| number.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0));
        Ok(Some(RateLimit { amount: row.int("amount")?, per: positive("per_seconds")?, burst: positive("burst")? }))
    }

    /// Whether a recipient's user or else domain says anything about greylisting, and what.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn greylisted(&self, address: &Address) -> Result<Option<bool>, Unavailable> {
        let rows = self.ask("greylist", &key(address)).await?.unwrap_or_default();
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(row.int("greylist")?.map(|flag| flag != 0))
    }

    /// The table of rules, in order.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn policy_acl(&self) -> Result<Vec<AclRow>, Unavailable> {
        let rows = self.ask("policy_acl", &[] as &[(&str, Value)]).await?.unwrap_or_default();
        rows.iter()
            .map(|row| {
                let text = |column| row.text(column).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
                Ok(AclRow {
                    id: row.int("id")?.unwrap_or(0),
                    client: text("client"),
                    helo: text("helo"),
                    login: text("login"),
                    sender: text("sender"),
                    recipient: text("recipient"),
                    action: text("action").unwrap_or_default(),
                })
            })
            .collect()
    }
}
