//! Where a mailbox lies: always below `[mail] root`.
//!
//! Either the account's own `maildir`, or `[mail] maildir` filled in with the stored spelling of the address. Both come
//! from a database that more people write to than may write to this host's file system, and local parts may hold
//! almost anything (`"../x"@example.jp` is an address). A path that would leave the root, or name a hidden or a
//! nameless folder, is refused: mail for it is deferred and the log says which value to correct.

use mailsql_config::Mail;
use mailsql_core::Account;
use std::path::{Path, PathBuf};

/// Longest name of one folder, in bytes: what file systems take.
const MAX_COMPONENT: usize = 255;
/// Longest path below the root, in bytes.
const MAX_PATH: usize = 1024;

/// The folder of an account's mail.
///
/// # Errors
/// A line that says which value is wrong.
pub fn folder(mail: &Mail, account: &Account) -> Result<PathBuf, String> {
    let relative = match account.maildir.as_deref() {
        Some(maildir) => below(&mail.root, maildir)?,
        None => {
            let (local, domain) = (account.address.local(), account.address.domain());
            for part in [local, domain] {
                if part.starts_with('.') || part.contains(['/', '\0']) {
                    return Err(format!(
                        "the address {} holds {part:?}, which cannot name a folder; give the account a maildir of its own",
                        account.address
                    ));
                }
            }
            mail.maildir_of(local, domain)
        }
    };
    check(&relative).map_err(|wrong| format!("the maildir {relative:?} of {} {wrong}", account.address))?;
    // Collected component by component: doubled and final slashes go.
    Ok(mail.root.join(relative.split('/').filter(|part| !part.is_empty()).collect::<PathBuf>()))
}

/// An absolute path is good when it lies below the root.
fn below(root: &Path, maildir: &str) -> Result<String, String> {
    if !maildir.starts_with('/') {
        return Ok(maildir.to_owned());
    }
    let relative = Path::new(maildir).strip_prefix(root).ok().and_then(Path::to_str);
    relative.map(str::to_owned).ok_or_else(|| {
        format!("the maildir {maildir:?} lies outside of [mail] root {}; correct the row or the root", root.display())
    })
}

fn check(relative: &str) -> Result<(), &'static str> {
    let mut parts = relative.split('/').filter(|part| !part.is_empty()).peekable();
    if parts.peek().is_none() {
        return Err("is empty");
    }
    if relative.len() > MAX_PATH {
        return Err("is too long");
    }
    if relative.contains(|c: char| c.is_control()) {
        return Err("holds control characters");
    }
    for part in parts {
        match part {
            "." | ".." => return Err("would leave the mail root"),
            "tmp" | "new" | "cur" => return Err("uses tmp, new or cur, which belong to a Maildir itself"),
            _ if part.len() > MAX_COMPONENT => return Err("has a name that is too long"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailsql_core::Address;

    fn place(form: &str, address: (&str, &str), maildir: Option<&str>) -> Result<String, String> {
        let mail = Mail { root: "/srv/mail".into(), maildir: form.into(), ..Mail::default() };
        let mut account = Account::new(Address::new(address.0, address.1).unwrap(), None);
        account.maildir = maildir.map(Box::from);
        folder(&mail, &account).map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_mailbox_lies_where_the_form_or_the_row_says() {
        let info = ("Info", "Example.jp");
        for (form, address, maildir, want) in [
            ("{address}/", info, None, "/srv/mail/Info@Example.jp"),
            ("{domain}/{local}/Maildir/", info, None, "/srv/mail/Example.jp/Info/Maildir"),
            ("{address}/", info, Some("e/x/"), "/srv/mail/e/x"),
            ("{address}/", info, Some("/srv/mail//e/x//"), "/srv/mail/e/x"),
            ("{address}/", info, Some("e/.Maildir"), "/srv/mail/e/.Maildir"),
            ("{address}/", ("a..b", "x"), None, "/srv/mail/a..b@x"),
            ("{address}/", ("{domain}", "x"), None, "/srv/mail/{domain}@x"),
        ] {
            assert_eq!(place(form, address, maildir).as_deref(), Ok(want));
        }
    }

    #[test]
    fn nothing_leaves_the_root() {
        for (form, address, maildir, why) in [
            ("{local}", ("..", "x"), None, "cannot name a folder"),
            ("{address}", ("../../etc/x", "x"), None, "cannot name a folder"),
            ("{address}", ("a/b", "x"), None, "cannot name a folder"),
            ("{address}", (".a", "x"), None, "cannot name a folder"),
            ("{domain}/{local}", ("new", "x"), None, "belong to a Maildir"),
            ("{local}", ("a", "x"), Some("../x"), "would leave"),
            ("{local}", ("a", "x"), Some("x/../../y"), "would leave"),
            ("{local}", ("a", "x"), Some("x/."), "would leave"),
            ("{local}", ("a", "x"), Some(""), "is empty"),
            ("{local}", ("a", "x"), Some("//"), "outside"),
            ("{local}", ("a", "x"), Some("/etc/x"), "outside"),
            ("{local}", ("a", "x"), Some("/srv/mailx/y"), "outside"),
            ("{local}", ("a", "x"), Some("/srv/mail/../y"), "would leave"),
            ("{local}", ("a", "x"), Some("/srv/mail"), "is empty"),
            ("{local}", ("a", "x"), Some("a\0b"), "control"),
            ("{local}", ("a", "x"), Some("a\nb"), "control"),
            ("", ("a", "x"), None, "is empty"),
        ] {
            let error = place(form, address, maildir).unwrap_err();
            assert!(error.contains(why), "{form} {address:?} {maildir:?}: {error}");
        }
        let long = "l".repeat(255);
        assert!(place("{address}", (&long, "example.jp"), None).unwrap_err().contains("too long"));
    }
}
