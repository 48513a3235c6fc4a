//! One login of one exchange, decided beside the connection that asked.

use crate::reply::{Trouble, reply};
use mailsql_config::Outage;
use mailsql_core::{Login, Verdict};
use mailsql_daemon::Shared;
use mailsql_proto::dovecot_auth::client::{Auth, Reply};
use mailsql_proto::dovecot_auth::sasl::Credentials;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What AUTH says beside mechanism and response.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    service: Box<str>,
    /// Address of the mail client.
    client: Option<IpAddr>,
    /// The address it reached.
    local: Option<IpAddr>,
    secured: bool,
    trouble: Trouble,
}

impl Asked {
    pub(crate) fn of(auth: &Auth<'_>, outage: Outage) -> Self {
        let address = |name| auth.params.find_text(name).and_then(|text| text.parse::<IpAddr>().ok());
        let trouble = match outage {
            Outage::Close => Trouble::Closes,
            Outage::Fail => Trouble::Tells,
            Outage::Auto if auth.params.has("nologin") => Trouble::Closes,
            Outage::Auto => Trouble::Tells,
        };
        Self {
            service: String::from_utf8_lossy(auth.service()).into(),
            client: address("rip"),
            local: address("lip"),
            secured: auth.is_secured(),
            trouble,
        }
    }

    /// Whether a password may be looked at: the client vouches for its transport, or it never left the host.
    pub(crate) fn is_safe(&self) -> bool {
        self.secured
            || (self.client.is_some() && self.client == self.local)
            || self.client.is_some_and(|ip| ip.is_loopback())
    }
}

/// The line that answers; `None` closes the connection. A refusal is held back for `delay`.
pub(crate) async fn decide(
    shared: Arc<Shared>,
    asked: Asked,
    id: u32,
    credentials: Credentials,
    delay: Duration,
) -> Option<Vec<u8>> {
    let begun = Instant::now();
    let mut out = Vec::new();
    // The same words for a name that is no text as for one that nobody has.
    let user = String::from_utf8_lossy(&credentials.login);
    let login = Login { user: &user, password: &credentials.password, service: &asked.service, client: asked.client };
    let decision = shared.authenticator.login(&login).await;
    mailsql_daemon::log::login("dovecot-auth", &login, &decision, begun);
    tracing::debug!(id, lip = asked.local.map(tracing::field::display), secured = asked.secured, "login decided");
    let other = credentials.authzid.as_deref().is_some_and(|other| !same(other, &user, &shared));
    let answer = reply(id, &decision, other, asked.trouble)?;
    let refused = decision.is_ok_and(|decision| !matches!(decision.verdict, Verdict::Yes(_))) || other;
    answer.encode(&mut out);
    drop(credentials);
    if refused {
        tokio::time::sleep(delay).await;
    }
    Some(out)
}

/// Whether both names stand for one address, in whatever spelling.
fn same(other: &[u8], user: &str, shared: &Shared) -> bool {
    let other = std::str::from_utf8(other).ok().and_then(|other| shared.authenticator.address(other));
    other.is_some() && other == shared.authenticator.address(user)
}

/// A refusal that no password was looked at for, held back as long as the others.
pub(crate) async fn refuse(reply: Reply<'static>, delay: Duration) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    reply.encode(&mut out);
    tokio::time::sleep(delay).await;
    Some(out)
}
