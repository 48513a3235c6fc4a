//! What all sessions of the service share, and the decision on a recipient.

use crate::deliver;
use crate::folder;
use crate::intake::Message;
use crate::maildir::Store;
use crate::memory::MAX_WINDOW;
use crate::name::Names;
use crate::quota::Quotas;
use crate::reply::{Outcome, Verdict};
use crate::transaction::{Target, Transaction};
use crate::trouble::Trouble;
use anyhow::{Context, Result};
use mailsql_config::{Config, Detail, Mail, OverQuota};
use mailsql_core::resolve::{Mailbox, Rules};
use mailsql_core::{Address, Directory, Network, Quota, Unavailable, resolve};
use mailsql_daemon::{Peer, mailbox};
use mailsql_proto::lmtp::{Offer, Path, Recipient};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// What all sessions share.
pub(crate) struct Site {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) rules: Rules,
    pub(crate) mail: Mail,
    pub(crate) store: Store,
    pub(crate) hostname: String,
    pub(crate) detect_loops: bool,
    pub(crate) detail: Detail,
    pub(crate) over_quota: OverQuota,
    pub(crate) idle: Duration,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) retry_window: Duration,
    /// When this process began to deliver.
    pub(crate) started: SystemTime,
    max_size: u64,
    max_recipients: usize,
    xforward_from: Vec<Network>,
    writers: Arc<Semaphore>,
    uid: u32,
    gid: u32,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("root", &self.store.root).finish_non_exhaustive()
    }
}

impl Site {
    /// Puts together what `[mail]` and `[lmtp]` say, for the user that this process runs as now.
    ///
    /// # Errors
    /// A line that names the setting which is wrong.
    pub(crate) fn new(config: &Config, directory: Arc<dyn Directory>, rules: Rules) -> Result<Self> {
        let (mail, lmtp) = (config.mail.clone(), config.lmtp.clone().unwrap_or_default());
        let hostname = hostname(&mail);
        let store = Store {
            root: mail.root.clone(),
            file_mode: lmtp.file_mode.0,
            dir_mode: lmtp.dir_mode.0,
            names: Names::new(&hostname, std::process::id()),
        };
        Ok(Self {
            directory,
            rules,
            store,
            hostname,
            detect_loops: lmtp.detect_loops,
            detail: lmtp.detail,
            over_quota: lmtp.over_quota,
            idle: lmtp.idle_timeout.0,
            quotas: Arc::default(),
            retry_window: lmtp.retry_window.0.min(MAX_WINDOW),
            started: SystemTime::now(),
            max_size: lmtp.max_message_size.0,
            max_recipients: lmtp.max_recipients,
            xforward_from: networks(&lmtp.xforward_from)?,
            writers: Arc::new(Semaphore::new(lmtp.writers.clamp(1, Semaphore::MAX_PERMITS))),
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            mail,
        })
    }

    /// What a client is offered.
    pub(crate) fn offer(&self, peer: Peer) -> Offer {
        let xforward = match peer {
            Peer::Local { .. } => true,
            Peer::Remote(address) => self.xforward_from.iter().any(|network| network.contains(address)),
            Peer::Unknown => false,
        };
        Offer {
            hostname: self.hostname.clone(),
            max_size: Some(self.max_size),
            max_recipients: self.max_recipients,
            xforward,
            dsn: false,
        }
    }

    /// Whether a recipient is one of ours, and where its mail goes.
    ///
    /// `size` is what the client announced, 0 if nothing: a mailbox that cannot take it is full already here.
    pub(crate) async fn find(self: &Arc<Self>, recipient: &Recipient, size: u64) -> Result<Target, (Verdict, String)> {
        let Some(address) = self.address(&recipient.address) else {
            return Err((Verdict::Unknown, String::new()));
        };
        let found = resolve::mailbox(&*self.directory, &address, &self.rules).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mailbox = judge(found, now.try_into().unwrap_or(i64::MAX), self.uid, self.gid)?;
        let dir = mailbox::folder(&self.mail, &mailbox.account).map_err(|wrong| (Verdict::Misconfigured, wrong))?;
        let folder = match self.detail {
            Detail::Inbox => None,
            Detail::Folder | Detail::Create => mailbox.detail.as_deref().and_then(folder::directory),
        };
        let original = recipient.original.as_ref().map(|original| original.address.clone());
        let target = Target { address: recipient.address.clone(), original, account: mailbox.account, dir, folder };
        if self.has_room(&target, size).await { Ok(target) } else { Err((Verdict::Full, String::new())) }
    }

    /// Whether a message of this size would fit now. Trouble is left for the delivery to meet again.
    async fn has_room(self: &Arc<Self>, target: &Target, size: u64) -> bool {
        let quota = target.account.quota;
        if quota == Quota::default() {
            return true;
        }
        let (site, dir) = (Arc::clone(self), target.dir.clone());
        self.work(move || site.quotas.has_room(&site.store, &dir, quota, size)).await.unwrap_or(true)
    }

    /// A bare local part is taken to be in the default domain.
    fn address(&self, text: &str) -> Option<Address> {
        let path = Path::parse(text)?;
        let domain = path.domain().or(self.mail.default_domain.as_deref())?;
        Address::new(&path.local(), domain).ok()
    }

    /// Delivers to one recipient, as soon as a worker is free; says how long the delivery itself took.
    pub(crate) async fn deliver(
        self: Arc<Self>,
        transaction: Arc<Transaction>,
        message: Arc<Message>,
        index: usize,
    ) -> (Outcome, Duration) {
        let site = Arc::clone(&self);
        let work = self.work(move || {
            let begun = Instant::now();
            let outcome = deliver::deliver(&site, &transaction, &message, index);
            Ok((outcome, begun.elapsed()))
        });
        work.await.unwrap_or_else(|trouble| (Outcome::Failed(trouble), Duration::ZERO))
    }

    /// What a recipient hears whose delivery broke off.
    pub(crate) fn broken(&self) -> Outcome {
        Outcome::Failed(Trouble::broken(&self.store.root))
    }

    /// Runs something that waits for the disk on a worker; `[lmtp] writers` of them at once.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let broken = || Trouble::broken(&self.store.root);
        let slot = Arc::clone(&self.writers).acquire_owned().await.map_err(|_| broken())?;
        let job = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        job.await.unwrap_or_else(|_| Err(broken()))
    }
}

/// The networks of `[lmtp] xforward_from`.
///
/// # Errors
/// A line that names the one which is none.
pub(crate) fn networks(list: &[String]) -> Result<Vec<Network>> {
    let parse = |text: &String| text.parse::<Network>().map_err(anyhow::Error::msg);
    list.iter().map(parse).collect::<Result<_>>().context("[lmtp] xforward_from")
}

/// `[mail] hostname`, or the system's own.
fn hostname(mail: &Mail) -> String {
    let own = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    mail.hostname.clone().or_else(own).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// The verdict on what the directory said.
fn judge(
    found: Result<Option<Mailbox>, Unavailable>,
    now: i64,
    uid: u32,
    gid: u32,
) -> Result<Mailbox, (Verdict, String)> {
    let mailbox = match found {
        Ok(Some(mailbox)) => mailbox,
        Ok(None) => return Err((Verdict::Unknown, String::new())),
        Err(trouble) => return Err((Verdict::Unavailable, trouble.reason().to_owned())),
    };
    if mailbox.account.closed(now) {
        return Err((Verdict::Closed, String::new()));
    }
    let (wants_uid, wants_gid) = (mailbox.account.uid.unwrap_or(uid), mailbox.account.gid.unwrap_or(gid));
    if (wants_uid, wants_gid) != (uid, gid) {
        let reason = format!(
            "the row of {} asks for uid {wants_uid} gid {wants_gid}, lmtpd runs as uid {uid} gid {gid}; correct the row or \
             [mail] uid and gid",
            mailbox.account.address
        );
        return Err((Verdict::Misconfigured, reason));
    }
    Ok(mailbox)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailsql_core::Account;

    #[test]
    fn verdicts_follow_the_row() {
        let account = |change: &dyn Fn(&mut Account)| {
            let mut account = Account::new(Address::parse("info@example.jp").unwrap(), None);
            change(&mut account);
            Ok(Some(Mailbox { account: Arc::new(account), detail: None }))
        };
        for (found, want) in [
            (account(&|_| ()), None),
            (account(&|account| account.expires_at = Some(101)), None),
            (account(&|account| account.password_expires_at = Some(1)), None),
            (account(&|account| account.uid = Some(5000)), None),
            (account(&|account| account.gid = Some(5001)), None),
            (account(&|account| account.enabled = false), Some(Verdict::Closed)),
            (account(&|account| account.expires_at = Some(100)), Some(Verdict::Closed)),
            (account(&|account| account.uid = Some(0)), Some(Verdict::Misconfigured)),
            (account(&|account| account.gid = Some(5000)), Some(Verdict::Misconfigured)),
            (Ok(None), Some(Verdict::Unknown)),
            (Err(Unavailable::new("down")), Some(Verdict::Unavailable)),
        ] {
            let verdict = judge(found, 100, 5000, 5001).err().map(|(verdict, _)| verdict);
            assert_eq!(verdict, want);
        }
    }
}
