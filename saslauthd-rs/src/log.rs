//! The line that saslauthd writes for a refused login, word for word: filters such as fail2ban's look for it.

/// Longest value shown, in characters.
const MAX_SHOWN: usize = 256;

/// `do_auth         : auth failure: [user=U] [service=S] [realm=R] [mech=M] [reason=TEXT]`
#[must_use]
pub fn failure(user: &[u8], service: &[u8], realm: &[u8], mechanism: &str, reason: &str) -> String {
    let (user, service, realm) = (shown(user), shown(service), shown(realm));
    format!(
        "do_auth         : auth failure: [user={user}] [service={service}] [realm={realm}] [mech={mechanism}] [reason={reason}]"
    )
}

/// The client's words without what could begin another line or another field.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(MAX_SHOWN).map(|c| if c.is_control() || c == '[' || c == ']' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_stock_daemons_and_cannot_be_forged() {
        assert_eq!(
            failure(b"bob@example.org", b"smtp", b"", "pam", "PAM auth error"),
            "do_auth         : auth failure: [user=bob@example.org] [service=smtp] [realm=] [mech=pam] [reason=PAM auth error]"
        );
        let forged = failure(b"bob] [rip=1.2.3.4]\nx\xff", b"", b"", "pam", "-");
        assert!(forged.contains("[user=bob? ?rip=1.2.3.4??x\u{fffd}]"), "{forged}");
    }
}
