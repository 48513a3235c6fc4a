//! Where an account's mail is, and whose, as Dovecot's programs are told it.

use mailsql_config::Mail;
use mailsql_core::{Account, Quota, Unavailable};
use mailsql_daemon::mailbox;

/// Where an account's mail is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Owner of the mail files.
    pub uid: u32,
    /// Group of the mail files.
    pub gid: u32,
    /// Home folder, an absolute path.
    pub home: String,
    /// The Maildir, an absolute path.
    pub maildir: String,
    /// Limits.
    pub quota: Quota,
}

impl Place {
    /// The place of an account's mail under the rules of `[mail]`.
    ///
    /// # Errors
    /// A row that names a folder outside of the mail root: trouble that the administrator can mend, and no missing user.
    pub fn of(account: &Account, mail: &Mail) -> Result<Self, Unavailable> {
        let maildir = mailbox::folder(mail, account).map_err(Unavailable::new)?.display().to_string();
        Ok(Self {
            uid: account.uid.unwrap_or(mail.uid),
            gid: account.gid.unwrap_or(mail.gid),
            home: account.home.as_deref().map_or_else(|| maildir.clone(), str::to_owned),
            maildir,
            quota: account.quota,
        })
    }
}
