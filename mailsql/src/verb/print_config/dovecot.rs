//! What Dovecot needs to know: 2.3 asks by checkpassword, 2.4, which has lost that, by PAM.

use crate::arguments::DovecotVersion;
use mailsql_config::{Config, Listen, ListenList};
use std::path::Path;

/// Where packages put the program.
const CHECKPASSWORD: &str = "/usr/bin/dovecot-checkpassword";
/// The socket that it asks unless told otherwise.
const ASK_SOCKET: &str = mailsql_ask::ASK_SOCKET;

/// dovecot.conf for that version.
pub(super) fn config(config: &Config, version: DovecotVersion) -> String {
    match version {
        DovecotVersion::V2_3 => version_2_3(config),
        DovecotVersion::V2_4 => version_2_4(config),
    }
}

fn socket(listen: Option<&ListenList>) -> Option<&Path> {
    listen?.0.iter().find_map(|listen| match listen {
        Listen::Unix(path, _) => Some(path.as_path()),
        Listen::Tcp(_) => None,
    })
}

fn version_2_3(config: &Config) -> String {
    let root = config.mail.root.display();
    let folder = config.mail.maildir.replace("{address}", "%u").replace("{local}", "%n").replace("{domain}", "%d");
    let folder = folder.trim_end_matches('/');
    let uid = config.mail.uid;
    let program = match socket(config.ask.as_ref().map(|ask| &ask.listen)) {
        Some(path) if path != Path::new(ASK_SOCKET) => format!("{CHECKPASSWORD} --socket {}", path.display()),
        _ => CHECKPASSWORD.to_owned(),
    };
    let mut text = format!(
        "\
# ---- /etc/dovecot/dovecot.conf (Dovecot 2.3) ----
# dovecot-checkpassword asks `mailsql serve` ([ask]); an outage is a temporary failure to the mail client. The user
# dovecot must be in group mailsql-auth: adduser dovecot mailsql-auth
mail_location = maildir:{root}/{folder}
first_valid_uid = {uid}
auth_mechanisms = plain login
passdb {{
  driver = checkpassword
  args = {program}
}}
# A login brings its user's fields along; delivery and doveadm look them up.
userdb {{
  driver = prefetch
}}
userdb {{
  driver = checkpassword
  args = {program}
}}
"
    );
    if let Some(path) = socket(config.auth.as_ref().map(|auth| &auth.userdb)) {
        let path = path.display();
        text.push_str(&format!(
            "\
# doveadm (also `doveadm user '*'` and -A, which checkpassword cannot do), dovecot-lmtp and dovecot-lda ask dovecot-auth.
protocol doveadm {{
  auth_socket_path = {path}
}}
protocol lmtp {{
  auth_socket_path = {path}
}}
protocol lda {{
  auth_socket_path = {path}
}}
"
        ));
    }
    text
}

fn version_2_4(config: &Config) -> String {
    let root = config.mail.root.display();
    let names = [("{address}", "%{user}"), ("{local}", "%{user | username}"), ("{domain}", "%{user | domain}")];
    let folder = names.iter().fold(config.mail.maildir.clone(), |folder, (ours, theirs)| folder.replace(ours, theirs));
    let folder = folder.trim_end_matches('/');
    let (uid, gid) = (config.mail.uid, config.mail.gid);
    format!(
        "\
# ---- /etc/dovecot/dovecot.conf (Dovecot 2.4) ----
# The PAM service of this name is what `mailsql print-config pam` prints. Dovecot takes all of PAM's trouble for a
# wrong password, so while the database is down its clients are told that their password is wrong.
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
mail_driver = maildir
mail_path = {root}/{folder}
first_valid_uid = {uid}
auth_mechanisms = plain login
passdb pam {{
  passdb_pam_service_name = mailsql
}}
userdb static {{
  # Without it dovecot-lda and dovecot-lmtp would ask PAM whether a user exists, which it cannot tell.
  userdb_static_allow_all_users = yes
  fields {{
    uid = {uid}
    gid = {gid}
    home = {root}/{folder}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(sections: &str) -> Config {
        let text = format!("[database]\nurl = \"sqlite:/x\"\n[mail]\nmaildir = \"{{domain}}/{{local}}/\"\n{sections}");
        Config::parse(&text, Path::new("/etc/mailsql/mailsql.toml")).unwrap()
    }

    #[test]
    fn checkpassword_is_told_a_socket_that_is_not_the_usual_one() {
        let usual = config(&parse("[ask]\n"), DovecotVersion::V2_3);
        assert!(usual.contains("  args = /usr/bin/dovecot-checkpassword\n") && !usual.contains("auth_socket_path"));
        assert!(usual.contains("mail_location = maildir:/var/spool/vmail/%d/%n\n"), "{usual}");
        let other = config(&parse("[ask]\nlisten = \"/run/x\"\n[auth]\nuserdb = \"/run/y\"\n"), DovecotVersion::V2_3);
        assert_eq!(other.matches("checkpassword --socket /run/x\n").count(), 2, "{other}");
        assert_eq!(other.matches("auth_socket_path = /run/y\n").count(), 3, "{other}");
    }

    #[test]
    fn dovecot_2_4_has_no_checkpassword() {
        let text = config(&parse(""), DovecotVersion::V2_4);
        assert!(!text.contains("checkpassword") && text.contains("passdb pam {"), "{text}");
        assert!(text.contains("mail_path = /var/spool/vmail/%{user | domain}/%{user | username}\n"), "{text}");
    }
}
