//! The ask socket: logins, account states, password changes and lookups for PAM, checkpassword and the command.
//!
//! Who may connect is the socket's matter (0660 mailsql:mailsql-auth); who asks is taken from the kernel all the same:
//! only root may change a password without knowing the old one.

use anyhow::Result;
use mailsql_config::{Ask, Config, Permissions};
use mailsql_core::{Account, Address, Login, Unavailable, Verdict};
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Peer, Shared, Shutdown, Stream, listen, serve};
use mailsql_proto::ask::{self, LINE_MAX, LIST_PAGE_MAX, Reply, Request, Secret};
use mailsql_store::WriteError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

/// Longest silence of a client.
const IDLE: Duration = Duration::from_secs(30);
/// Longest wait for a client to take its answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// Room for a request at first; it grows to [`LINE_MAX`].
const READ_SIZE: usize = 1024;

struct Service {
    section: Ask,
    listeners: Vec<Listener>,
}

/// Binds the ask socket, if the configuration has an `[ask]` section.
pub(super) fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.ask else { return Ok(None) };
    let default =
        Permissions { mode: Some(0o660), user: Some(config.serve.user.clone()), group: Some("mailsql-auth".into()) };
    let listeners = listen::bind("ask", &section.listen, &default, activation)?;
    Ok(Some(Box::new(Service { section: section.clone(), listeners })))
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "ask"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        let limits = Limits { connections: self.section.max_connections };
        Box::pin(serve(self.listeners, limits, shutdown, move |stream, shutdown| {
            connection(stream, Arc::clone(&shared), shutdown, None)
        }))
    }
}

/// What the NSS socket, which is open to everybody, tells.
pub(super) struct Public {
    /// The domain whose users are known by bare names, too, in lower case.
    pub(super) short_names: Option<String>,
    /// Whether all accounts are listed.
    pub(super) enumerate: bool,
}

impl Public {
    fn allows(&self, request: &Request<'_>) -> bool {
        request.is_public() || (self.enumerate && matches!(request, Request::List { .. }))
    }
}

/// Answers one client; with `public`, the verbs of the NSS socket only.
pub(super) async fn connection(
    mut stream: Stream,
    shared: Arc<Shared>,
    mut shutdown: Shutdown,
    public: Option<Arc<Public>>,
) {
    let peer = stream.peer();
    let mut buffer = Zeroizing::new(Vec::with_capacity(READ_SIZE));
    loop {
        let end = loop {
            match ask::line(&buffer, LINE_MAX) {
                Ok(Some(end)) => break end,
                Ok(None) => {}
                Err(_) => return,
            }
            // A buffer that grows leaves a copy of what it held; so it grows once, to all it can need.
            if buffer.len() == buffer.capacity() {
                let mut larger = Zeroizing::new(Vec::with_capacity(LINE_MAX + 1));
                larger.extend_from_slice(&buffer);
                buffer = larger;
            }
            let read = tokio::select! {
                biased;
                read = tokio::time::timeout(IDLE, stream.read_buf(&mut *buffer)) => read,
                () = shutdown.wait() => return,
            };
            if !matches!(read, Ok(Ok(1..))) {
                return;
            }
        };
        let mut out = Vec::new();
        {
            let decoded = Request::decode(&mut buffer[..end]);
            let (reply, limit) = match &decoded {
                Ok(request)
                    if request.is_control() || public.as_ref().is_some_and(|public| !public.allows(request)) =>
                {
                    (Reply::Refused { reason: b"not on this socket".to_vec() }, LINE_MAX)
                }
                Ok(request) => (answer(request, &shared, peer, public.as_deref()).await, request.reply_max()),
                Err(error) => (Reply::Refused { reason: error.to_string().into_bytes() }, LINE_MAX),
            };
            if reply.encode(limit, &mut out).is_err() {
                return;
            }
        }
        buffer[..end].zeroize();
        buffer.drain(..end);
        if !matches!(tokio::time::timeout(WRITE_DEADLINE, stream.write_all(&out)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer(request: &Request<'_>, shared: &Shared, peer: Peer, public: Option<&Public>) -> Reply {
    match *request {
        Request::Login { user, password, service, rip, .. } => {
            let begun = Instant::now();
            let (user, service) = (String::from_utf8_lossy(user), String::from_utf8_lossy(service));
            let client = std::str::from_utf8(rip).ok().and_then(|text| text.parse().ok());
            let login = Login { user: &user, password: password.0, service: &service, client };
            let decision = shared.authenticator.login(&login).await;
            mailsql_daemon::log::login("ask", &login, &decision, begun);
            verdict(decision.map(|decision| decision.verdict), shared)
        }
        Request::Account { user, service, rip } => {
            let (user, service) = (String::from_utf8_lossy(user), String::from_utf8_lossy(service));
            let client = std::str::from_utf8(rip).ok().and_then(|text| text.parse().ok());
            verdict(shared.authenticator.account_from(&user, &service, client).await, shared)
        }
        Request::Passwd { user, old, new } => change_password(user, old, new, shared, peer).await,
        Request::User { name } => match find(name, shared, public).await {
            Ok(Some((account, short))) => {
                let mut told = told(&account, shared);
                if short {
                    told.user = account.address.local().as_bytes().to_vec();
                }
                Reply::Account(told)
            }
            Ok(None) => Reply::Unknown,
            Err(trouble) => unavailable(&trouble),
        },
        Request::Groups { name } => match find(name, shared, public).await {
            Ok(Some(_)) => Reply::Groups(Vec::new()),
            Ok(None) => Reply::Unknown,
            Err(trouble) => unavailable(&trouble),
        },
        // All accounts share one number, so a number names none of them; and no group is ours alone.
        Request::Uid { .. } | Request::Group { .. } | Request::Gid { .. } => Reply::Unknown,
        Request::List { after } => list(after, shared).await,
        Request::Flush { .. } | Request::Limits { .. } | Request::Explain { .. } | Request::Stats => {
            Reply::Refused { reason: b"not on this socket".to_vec() }
        }
    }
}

fn verdict(outcome: Result<Verdict, Unavailable>, shared: &Shared) -> Reply {
    match outcome {
        Ok(Verdict::Yes(account)) => Reply::Account(told(&account, shared)),
        Ok(Verdict::Unknown) => Reply::Unknown,
        Ok(Verdict::Wrong) => Reply::Wrong,
        Ok(Verdict::PasswordExpired(_)) => Reply::PasswordExpired,
        Ok(Verdict::Disabled(_)) => Reply::Disabled,
        Ok(Verdict::Expired(_)) => Reply::Expired,
        Ok(Verdict::Throttled) => Reply::Throttled,
        Err(trouble) => unavailable(&trouble),
    }
}

fn unavailable(trouble: &Unavailable) -> Reply {
    Reply::Unavailable { reason: trouble.reason().as_bytes().to_vec() }
}

/// The account of a name, and whether it was asked for by a bare one.
async fn find(
    name: &[u8],
    shared: &Shared,
    public: Option<&Public>,
) -> Result<Option<(Arc<Account>, bool)>, Unavailable> {
    let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
    let domain = public.and_then(|public| public.short_names.as_deref()).filter(|_| !name.contains('@'));
    let address = match domain {
        Some(domain) if !super::nss::is_local(name) => Address::new(name, domain).ok().map(|address| address.folded()),
        Some(_) => None,
        None => shared.authenticator.address(name),
    };
    let Some(address) = address else { return Ok(None) };
    let account = mailsql_core::Directory::account(&*shared.directory, &address).await?;
    Ok(account.filter(|account| account.enabled).map(|account| (account, domain.is_some())))
}

/// An account as other programs need it.
fn told(account: &Account, shared: &Shared) -> ask::Account {
    let mail = &shared.config.mail;
    let folder = match &account.maildir {
        Some(maildir) => maildir.to_string(),
        None => mail.maildir_of(account.address.local(), account.address.domain()),
    };
    let maildir = mail.root.join(folder.trim_end_matches('/')).display().to_string();
    let home = account.home.as_deref().unwrap_or(&maildir);
    ask::Account {
        user: account.address.as_str().as_bytes().to_vec(),
        home: home.as_bytes().to_vec(),
        uid: account.uid.unwrap_or(mail.uid),
        gid: account.gid.unwrap_or(mail.gid),
        quota: account.quota.bytes,
        maildir: maildir.into_bytes(),
    }
}

async fn change_password(user: &[u8], old: Option<Secret<'_>>, new: Secret<'_>, shared: &Shared, peer: Peer) -> Reply {
    let user = String::from_utf8_lossy(user);
    let Some(address) = shared.authenticator.address(&user) else { return Reply::Unknown };
    match (old, peer) {
        (Some(old), _) => {
            let login = Login { user: &user, password: old.0, service: "", client: None };
            match shared.authenticator.login(&login).await.map(|decision| decision.verdict) {
                Ok(Verdict::Yes(_) | Verdict::PasswordExpired(_)) => {}
                other => return verdict(other, shared),
            }
        }
        (None, Peer::Local { uid: 0, .. }) => {}
        (None, _) => return Reply::Refused { reason: b"only root may leave out the old password".to_vec() },
    }
    let hash = match shared.authenticator.verifier().create(new.0, &shared.new_hash).await {
        Ok(Ok(hash)) => hash,
        Ok(Err(refused)) => return Reply::Refused { reason: refused.to_string().into_bytes() },
        Err(trouble) => return unavailable(&trouble),
    };
    match shared.store.set_password(&address, &hash).await {
        Ok(()) => {
            shared.forget(&address);
            tracing::info!(target: "passwd", login = ?address, "password changed");
            Reply::Done
        }
        Err(WriteError::Unavailable(trouble)) => unavailable(&trouble),
        Err(WriteError::Missing(..)) => Reply::Unknown,
        Err(error) => {
            tracing::warn!(target: "passwd", login = ?address, %error, "password not changed");
            Reply::ReadOnly
        }
    }
}

/// A page of accounts in the order of their addresses.
async fn list(after: Option<&[u8]>, shared: &Shared) -> Reply {
    let mut accounts = match shared.store.list_users().await {
        Ok(accounts) => accounts,
        Err(trouble) => return unavailable(&trouble),
    };
    accounts.retain(|account| account.enabled && after.is_none_or(|after| account.address.as_str().as_bytes() > after));
    accounts.sort_by(|a, b| a.address.as_str().as_bytes().cmp(b.address.as_str().as_bytes()));
    let more = accounts.len() > LIST_PAGE_MAX;
    let page = accounts.iter().take(LIST_PAGE_MAX).map(|account| told(account, shared));
    Reply::List { accounts: page.collect(), more }
}
