//! What Dovecot asks: descriptor 3 and the environment.
//!
//! ```text
//! fd 3 = user NUL password NUL timestamp NUL      at most 512 bytes; a lookup's password is empty
//! AUTHORIZED=1            a lookup without a login
//! CREDENTIALS_LOOKUP=1    a passdb lookup; SCHEME names the stored form that is wanted, empty to learn of the user only
//! SERVICE, TCPREMOTEIP, TCPLOCALIP
//! ```
//!
//! Source: Dovecot 2.3.19 `auth/db-checkpassword.c`, `auth/passdb-checkpassword.c`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Longest request, in bytes; Dovecot sends no longer one.
pub(crate) const MAX_REQUEST: usize = 512;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Verify the password.
    Login,
    /// Find the user.
    Lookup,
    /// Hand out the stored password in this scheme.
    Credentials(String),
}

/// A request.
#[derive(PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) task: Task,
    pub(crate) user: &'a [u8],
    pub(crate) password: &'a [u8],
    pub(crate) service: Vec<u8>,
    pub(crate) remote: Vec<u8>,
    pub(crate) local: Vec<u8>,
}

impl<'a> Request<'a> {
    /// Puts a request together; `None` when the bytes are none.
    pub(crate) fn read(bytes: &'a [u8], variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let mut parts = bytes.split(|byte| *byte == 0);
        let (user, password) = (parts.next()?, parts.next()?);
        // The NUL behind the password must be there, or part of the password may be missing.
        parts.next()?;
        if user.is_empty() || bytes.len() > MAX_REQUEST {
            return None;
        }
        let text = |name: &str| variable(name).map(|value: OsString| value.as_bytes().to_vec()).unwrap_or_default();
        let is_one = |name: &str| text(name) == b"1";
        let task = match (is_one("AUTHORIZED"), is_one("CREDENTIALS_LOOKUP")) {
            (true, true) if !text("SCHEME").is_empty() => Task::Credentials(text("SCHEME").escape_ascii().to_string()),
            (true, _) => Task::Lookup,
            (false, _) => Task::Login,
        };
        let first = |name: &str, older: &str| match text(name) {
            value if value.is_empty() => text(older),
            value => value,
        };
        Some(Self {
            task,
            user,
            password,
            service: text("SERVICE"),
            remote: first("TCPREMOTEIP", "REMOTE_IP"),
            local: first("TCPLOCALIP", "LOCAL_IP"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(bytes: &'a [u8], variables: &[(&str, &str)]) -> Option<Request<'a>> {
        Request::read(bytes, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn a_login_is_user_password_and_two_nuls() {
        let request = read(
            b"bob@example.org\0s3cret\0\0",
            &[("SERVICE", "imap"), ("TCPREMOTEIP", "192.0.2.1"), ("LOCAL_IP", "192.0.2.2")],
        )
        .unwrap();
        assert_eq!(request.task, Task::Login);
        assert_eq!((request.user, request.password), (&b"bob@example.org"[..], &b"s3cret"[..]));
        assert_eq!(
            (&request.service[..], &request.remote[..], &request.local[..]),
            (&b"imap"[..], &b"192.0.2.1"[..], &b"192.0.2.2"[..])
        );
    }

    #[test]
    fn what_is_no_request_is_none() {
        for bytes in [&b""[..], b"bob", b"bob\0s3cret", b"\0s3cret\0\0", &[b'x'; 513]] {
            assert!(read(bytes, &[]).is_none(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_environment_tells_the_task() {
        let credentials = |scheme: &str| Task::Credentials(scheme.to_owned());
        let table: [(&[(&str, &str)], Task); 5] = [
            (&[], Task::Login),
            (&[("AUTHORIZED", "2")], Task::Login),
            (&[("AUTHORIZED", "1")], Task::Lookup),
            (&[("AUTHORIZED", "1"), ("CREDENTIALS_LOOKUP", "1"), ("SCHEME", "")], Task::Lookup),
            (&[("AUTHORIZED", "1"), ("CREDENTIALS_LOOKUP", "1"), ("SCHEME", "CRAM-MD5")], credentials("CRAM-MD5")),
        ];
        for (variables, expected) in table {
            assert_eq!(read(b"bob\0\0\0", variables).unwrap().task, expected, "{variables:?}");
        }
    }
}
