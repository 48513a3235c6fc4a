//! From root to an ordinary user, for good.

use crate::listen::{group, user};
use anyhow::{Context, Result, bail};
use mailsql_config::Config;
use nix::unistd::{Gid, Uid, getgroups, setgroups, setresgid, setresuid};

/// Who a daemon becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
    /// Supplementary groups.
    pub groups: Vec<Gid>,
}

impl Identity {
    /// The user of `[serve]`; with delivery among the services, the owner of the mail files, with `[serve] group` as
    /// the supplementary group that lets it into the database's folder.
    ///
    /// # Errors
    /// A line that names a user or group which does not exist.
    pub fn of(config: &Config, delivers: bool) -> Result<Self> {
        let own_group = group(&config.serve.group).context("[serve] group")?;
        if delivers {
            let (uid, gid) = (Uid::from_raw(config.mail.uid), Gid::from_raw(config.mail.gid));
            return Ok(Self { uid, gid, groups: vec![own_group] });
        }
        let advice = "[serve] user; make it with `adduser --system --group mailsql`, or name another";
        Ok(Self { uid: user(&config.serve.user).context(advice)?, gid: own_group, groups: Vec::new() })
    }
}

/// Becomes `identity`, when root; nothing otherwise. Must run before there is a second thread.
///
/// # Errors
/// When the kernel refuses, or when root would be kept.
pub fn drop_to(identity: &Identity) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    if identity.uid.is_root() || identity.gid.as_raw() == 0 || identity.groups.iter().any(|gid| gid.as_raw() == 0) {
        bail!("a daemon does not run as root; name an ordinary user in [serve] and an ordinary owner in [mail]");
    }
    setgroups(&identity.groups).context("setgroups")?;
    setresgid(identity.gid, identity.gid, identity.gid).context("setresgid")?;
    setresuid(identity.uid, identity.uid, identity.uid).context("setresuid")?;
    // Proof, not trust: there must be no way back.
    if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        bail!("privileges could be taken back after they were dropped");
    }
    if getgroups().context("getgroups")?.iter().any(|gid| gid.as_raw() == 0) {
        bail!("a group of root was kept");
    }
    Ok(())
}
