//! `mailsql print-config`: what to put into a peer's configuration, with the sockets and paths of this one's.

mod dovecot;

use crate::arguments::{Peer, PrintConfig, Sasl};
use crate::outcome::Outcome;
use crate::print;
use mailsql_config::{Config, Listen, ListenList};
use std::path::Path;

/// Where a chrooted Postfix sees the host's file system from.
const CHROOT: &str = "/var/spool/postfix";

pub(crate) fn run(path: &Path, what: &PrintConfig) -> Result<(), Outcome> {
    let config = Config::load(path)?;
    let text = match what.peer {
        Peer::Postfix => postfix(&config, what.chroot, what.sasl)?,
        Peer::Dovecot => dovecot::config(&config, what.dovecot),
        Peer::Pam => PAM.to_owned(),
    };
    print::line(text.trim_end())
}

/// A socket as Postfix names it. A chrooted daemon sees only what lies below its queue directory.
fn endpoint(listen: &ListenList, chroot: bool, section: &str) -> Result<String, Outcome> {
    let named = |listen: &Listen| match listen {
        Listen::Tcp(host_port) => Some(format!("inet:{host_port}")),
        Listen::Unix(path, _) if chroot => {
            path.strip_prefix(CHROOT).ok().map(|inside| format!("unix:/{}", inside.display()))
        }
        Listen::Unix(path, _) => Some(format!("unix:{}", path.display())),
    };
    listen.0.iter().find_map(named).ok_or_else(|| {
        Outcome::usage(format!(
            "no socket of [{section}] lies below {CHROOT}; add one there, or a TCP address, to listen"
        ))
    })
}

/// How smtpd asks for logins: the lines of main.cf, and what else is to be done.
fn sasl(config: &Config, chroot: bool, sasl: Sasl) -> Result<(String, String), Outcome> {
    if sasl == Sasl::Dovecot {
        let socket = endpoint(&config.auth.clone().unwrap_or_default().listen, chroot, "auth")?;
        // Every smtpd stands in its queue directory, so a path that begins without / is right in the chroot and outside.
        let socket = socket.replacen("unix:/", if chroot { "" } else { "/" }, 1);
        let main = format!(
            "# Logins: smtpd asks dovecot-auth.\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {socket}\n\
             # Start dovecot-auth before Postfix: without its socket smtpd refuses every session."
        );
        return Ok((main, String::new()));
    }
    let mux = match config.saslauthd.clone().unwrap_or_default().listen.0.first() {
        Some(Listen::Unix(path, _)) => path.display().to_string(),
        _ => "/run/saslauthd/mux".to_owned(),
    };
    let mux = if chroot { mux.strip_prefix(CHROOT).map_or(mux.clone(), str::to_owned) } else { mux };
    let main = "# Logins: libsasl2 asks saslauthd-rs.\nsmtpd_sasl_type = cyrus\nsmtpd_sasl_path = smtpd\n\
                cyrus_sasl_config_path = /etc/postfix/sasl"
        .to_owned();
    let more = format!(
        "\n# ---- /etc/postfix/sasl/smtpd.conf ----\n# pwcheck_method: saslauthd\n# saslauthd_path: {mux}\n\
         # mech_list: PLAIN LOGIN\n#\n# Then: adduser postfix sasl && systemctl restart postfix\n"
    );
    Ok((main, more))
}

fn postfix(config: &Config, chroot: bool, flavour: Sasl) -> Result<String, Outcome> {
    let maps = endpoint(&config.maps.clone().unwrap_or_default().listen, chroot, "maps")?;
    let lmtp = endpoint(&config.lmtp.clone().unwrap_or_default().listen, chroot, "lmtp")?;
    let (logins, more) = sasl(config, chroot, flavour)?;
    let policy = match &config.policy {
        Some(policy) => policy_lines(&endpoint(&policy.listen, chroot, "policy")?),
        None => String::new(),
    };
    let root = config.mail.root.display();
    let delimiter = &config.mail.recipient_delimiter;
    let chrooted = if chroot { "y" } else { "n" };
    Ok(format!(
        "\
# ---- /etc/postfix/main.cf ----
# Domains and mailboxes. A domain listed here must not stand in mydestination.
virtual_mailbox_domains = socketmap:{maps}:domains
virtual_mailbox_maps = socketmap:{maps}:mailboxes
virtual_alias_domains =
virtual_alias_maps = socketmap:{maps}:aliases
# virtual(8) refuses socketmaps; delivery is by LMTP, into {root}.
virtual_transport = lmtp:{lmtp}
lmtp_destination_recipient_limit = 50
lmtp_send_xforward_command = yes
recipient_delimiter = {delimiter}

{logins}
smtpd_sasl_auth_enable = yes
smtpd_sasl_security_options = noanonymous
smtpd_sasl_local_domain =
smtpd_tls_auth_only = yes

# Who may send as whom, asked before a login permits anything.
smtpd_sender_login_maps = socketmap:{maps}:senders
smtpd_sender_restrictions = reject_sender_login_mismatch
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
{policy}
# ---- /etc/postfix/master.cf: port 587 ----
submission inet n       -       {chrooted}       -       -       smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
# ---- and port 465, where TLS begins with the first byte ----
smtps      inet n       -       {chrooted}       -       -       smtpd
  -o syslog_name=postfix/smtps
  -o smtpd_tls_wrappermode=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
{more}"
    ))
}

/// Where Postfix asks the policy service: in a list of its own, before anything in it permits.
fn policy_lines(policy: &str) -> String {
    format!(
        "
# Policy, asked for each recipient and once more when the message is complete. It stands before
# permit_sasl_authenticated: what permits ends the list, and a policy behind it would never see a submission. It stands
# behind smtpd_relay_restrictions, which are a list of their own: whatever it answers, nobody can relay.
# In master.cf no service may replace these two lists by its own (-o smtpd_recipient_restrictions=...).
smtpd_recipient_restrictions =
    check_policy_service {policy},
    permit_sasl_authenticated, reject_unauth_destination
smtpd_end_of_data_restrictions = check_policy_service {policy}
# While the policy service cannot tell, Postfix answers 451 and the mail comes again. To let it in instead:
#   check_policy_service {{ {policy}, default_action=DUNNO }}
"
    )
}

const PAM: &str = "\
# ---- /etc/pam.d/mailsql (and /etc/pam.d/smtp for saslauthd -a pam) ----
# Asks `mailsql serve` by its socket; the program that uses PAM must be root or in group mailsql-auth.
auth    required   pam_mailsql.so
account required   pam_mailsql.so
password required  pam_mailsql.so
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postfix_asks_the_policy_before_anything_permits() {
        let text = "[database]\nurl = \"sqlite:/x\"\n";
        let without = postfix(&Config::parse(text, Path::new("x")).unwrap(), false, Sasl::Cyrus).unwrap();
        assert!(!without.contains("check_policy_service"));
        let config = Config::parse(&format!("{text}[policy]\nlisten = \"/run/p.sock\"\n"), Path::new("x")).unwrap();
        let with = postfix(&config, false, Sasl::Cyrus).unwrap();
        let list = with.split_once("smtpd_recipient_restrictions =").unwrap().1;
        let (asked, permits) = (list.find("check_policy_service unix:/run/p.sock,"), list.find("permit_"));
        assert!(asked.unwrap() < permits.unwrap(), "{list}");
        assert!(postfix(&config, true, Sasl::Cyrus).is_err(), "no socket in the chroot");
    }

    #[test]
    fn postfix_asks_who_it_is_told_to_ask_for_logins() {
        let text = "[database]\nurl = \"sqlite:/x\"\n";
        let below = "[maps]\nlisten = \"inet:127.0.0.1:1\"\n[lmtp]\nlisten = \"inet:127.0.0.1:2\"\n\
                     [auth]\nlisten = \"/var/spool/postfix/private/mailsql\"\n";
        let config = |sections: &str| Config::parse(&format!("{text}{sections}"), Path::new("x")).unwrap();
        let cyrus = postfix(&config(""), false, Sasl::Cyrus).unwrap();
        assert!(
            cyrus.contains("smtpd_sasl_type = cyrus\n") && cyrus.contains("\n# saslauthd_path: /run/saslauthd/mux\n")
        );
        for (sections, chroot, path) in [
            ("", false, "/run/mailsql/auth-client"),
            (below, false, "/var/spool/postfix/private/mailsql"),
            (below, true, "private/mailsql"),
            ("[auth]\nlisten = \"127.0.0.1:12345\"\n", false, "inet:127.0.0.1:12345"),
        ] {
            let dovecot = postfix(&config(sections), chroot, Sasl::Dovecot).unwrap();
            assert!(dovecot.contains(&format!("smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {path}\n")), "{dovecot}");
            assert!(!dovecot.contains("saslauthd"), "{dovecot}");
        }
    }
}
