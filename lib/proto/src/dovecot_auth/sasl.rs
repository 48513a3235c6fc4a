//! SASL exchanges that end in a login and a password: PLAIN (RFC 4616) and LOGIN.
//!
//! ```text
//! PLAIN  client: [authzid] NUL authcid NUL password
//! LOGIN  server: "Username:"   client: login   server: "Password:"   client: password
//! ```
//!
//! Everything travels in base64. The first message may come with AUTH or after an empty challenge; LOGIN takes it as the login.
//! An authzid equal to the authcid is none, as in Dovecot.

use std::fmt;

use super::base64;

/// Longest message of a client, in bytes before base64: Postfix's smtpd_sasl_response_limit of 12288 in base64.
pub const MAX_MESSAGE: usize = 9216;

/// `Username:`
const USERNAME: &str = "VXNlcm5hbWU6";
/// `Password:`
const PASSWORD: &str = "UGFzc3dvcmQ6";

/// A mechanism we can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN.
    Plain,
    /// LOGIN.
    Login,
}

impl Mechanism {
    /// The mechanism of that name, in any case.
    pub fn find(name: &[u8]) -> Option<Mechanism> {
        [Mechanism::Plain, Mechanism::Login]
            .into_iter()
            .find(|known| name.eq_ignore_ascii_case(known.name().as_bytes()))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }
}

/// Who wants to log in, and with what. Overwritten when dropped; `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user to act as, when another than the one who logs in.
    pub authzid: Option<Vec<u8>>,
    /// The user who logs in.
    pub login: Vec<u8>,
    /// The password.
    pub password: Vec<u8>,
}

impl Credentials {
    /// PLAIN's one message in base64, for clients.
    pub fn plain(login: &[u8], password: &[u8]) -> Vec<u8> {
        let mut message = [b"\0", login, b"\0", password].concat();
        let mut out = Vec::new();
        base64::encode(&message, &mut out);
        wipe(&mut message);
        out
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("login", &self.login.escape_ascii().to_string()).finish_non_exhaustive()
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        wipe(&mut self.password);
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this, base64 already, as CONT, and give what comes back to [`Exchange::respond`].
    Challenge(&'static str),
    /// Check these.
    Credentials(Credentials),
    /// It cannot succeed any more.
    Failed(Fault),
}

/// Why an exchange cannot succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not base64: `code=invalid_base64`.
    Base64,
    /// Not what the mechanism says.
    Message,
    /// More than [`MAX_MESSAGE`] bytes.
    TooLong,
    /// A response after the end.
    Over,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Base64 => "not base64",
            Fault::Message => "not a message of this mechanism",
            Fault::TooLong => "the message is too long",
            Fault::Over => "the exchange is over",
        })
    }
}

impl std::error::Error for Fault {}

/// The server's side of one exchange.
pub struct Exchange {
    state: State,
}

enum State {
    Plain,
    LoginName,
    LoginPassword { login: Vec<u8> },
    Over,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Plain => "Exchange(PLAIN)",
            State::LoginName => "Exchange(LOGIN, name)",
            State::LoginPassword { .. } => "Exchange(LOGIN, password)",
            State::Over => "Exchange(over)",
        })
    }
}

impl Exchange {
    /// Begins: `initial` is the response that came with AUTH, in base64 ([`Auth::initial_response`](super::client::Auth::initial_response)).
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>) -> (Exchange, Step) {
        let (state, challenge) = match mechanism {
            Mechanism::Plain => (State::Plain, ""),
            Mechanism::Login => (State::LoginName, USERNAME),
        };
        let mut exchange = Exchange { state };
        let step = match (initial, mechanism) {
            (None, _) | (Some([]), Mechanism::Login) => Step::Challenge(challenge),
            (Some(initial), _) => exchange.respond(initial),
        };
        (exchange, step)
    }

    /// Takes the client's answer to a challenge, in base64.
    pub fn respond(&mut self, data: &[u8]) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        if data.len() > MAX_MESSAGE.div_ceil(3) * 4 {
            return Step::Failed(Fault::TooLong);
        }
        let Some(mut message) = base64::decode(data) else {
            return Step::Failed(Fault::Base64);
        };
        let step = match state {
            State::Over => Step::Failed(Fault::Over),
            _ if message.len() > MAX_MESSAGE => Step::Failed(Fault::TooLong),
            State::Plain => plain(&message),
            // A NUL would end the name or the password for every backend that keeps C strings.
            _ if message.contains(&0) => Step::Failed(Fault::Message),
            State::LoginName => {
                self.state = State::LoginPassword { login: message.clone() };
                Step::Challenge(PASSWORD)
            }
            State::LoginPassword { login } => {
                Step::Credentials(Credentials { authzid: None, login, password: message.clone() })
            }
        };
        wipe(&mut message);
        step
    }
}

fn plain(message: &[u8]) -> Step {
    let mut parts = message.split(|byte| *byte == 0);
    let (Some(authzid), Some(login), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Step::Failed(Fault::Message);
    };
    let authzid = (!authzid.is_empty() && authzid != login).then(|| authzid.to_vec());
    Step::Credentials(Credentials { authzid, login: login.to_vec(), password: password.to_vec() })
}

/// Overwrites a secret. Without `unsafe` this is a request to the compiler, which `black_box` makes it honour today.
fn wipe(secret: &mut [u8]) {
    secret.fill(0);
    std::hint::black_box(secret);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        base64::encode(bytes, &mut out);
        out
    }

    fn credentials(authzid: Option<&[u8]>, login: &[u8], password: &[u8]) -> Step {
        Step::Credentials(Credentials {
            authzid: authzid.map(<[u8]>::to_vec),
            login: login.to_vec(),
            password: password.to_vec(),
        })
    }

    #[test]
    fn plain_is_three_parts() {
        let table: [(&[u8], Step); 9] = [
            (b"\0bob\0s3cret", credentials(None, b"bob", b"s3cret")),
            (b"bob\0bob\0s3cret", credentials(None, b"bob", b"s3cret")),
            (b"eve\0bob\0s3cret", credentials(Some(b"eve"), b"bob", b"s3cret")),
            (b"\0bob\0", credentials(None, b"bob", b"")),
            (b"\0\0\xff", credentials(None, b"", b"\xff")),
            (b"bob\0s3cret", Step::Failed(Fault::Message)),
            (b"\0bob\0s3\0cret", Step::Failed(Fault::Message)),
            (b"bob", Step::Failed(Fault::Message)),
            (b"", Step::Failed(Fault::Message)),
        ];
        for (message, want) in table {
            let (_, step) = Exchange::start(Mechanism::Plain, Some(&text(message)));
            assert_eq!(step, want, "{}", message.escape_ascii());
            let (mut exchange, step) = Exchange::start(Mechanism::Plain, None);
            assert_eq!(step, Step::Challenge(""));
            assert_eq!(exchange.respond(&text(message)), want);
            assert!(matches!(exchange.respond(&text(message)), Step::Failed(Fault::Over)));
        }
        assert_eq!(Credentials::plain(b"bob", b"s3cret"), b"AGJvYgBzM2NyZXQ=");
    }

    #[test]
    fn login_asks_for_name_and_password() {
        for initial in [None, Some(&b""[..])] {
            let (mut exchange, step) = Exchange::start(Mechanism::Login, initial);
            assert_eq!(step, Step::Challenge("VXNlcm5hbWU6"));
            assert_eq!(exchange.respond(b"Ym9i"), Step::Challenge("UGFzc3dvcmQ6"));
            assert_eq!(exchange.respond(b"czNjcmV0"), credentials(None, b"bob", b"s3cret"));
        }
        let (mut exchange, step) = Exchange::start(Mechanism::Login, Some(b"Ym9i"));
        assert_eq!(step, Step::Challenge("UGFzc3dvcmQ6"));
        assert_eq!(exchange.respond(b""), credentials(None, b"bob", b""));
        let (mut exchange, _) = Exchange::start(Mechanism::Login, Some(b"Ym9i"));
        assert_eq!(exchange.respond(&text(b"a\0b")), Step::Failed(Fault::Message));
        let (_, step) = Exchange::start(Mechanism::Login, Some(&text(b"bob\0")));
        assert_eq!(step, Step::Failed(Fault::Message));
    }

    #[test]
    fn messages_have_a_limit_and_an_alphabet() {
        for mechanism in [Mechanism::Plain, Mechanism::Login] {
            for (bytes, want) in [
                (b"*".to_vec(), Fault::Base64),
                (text(&[b'x'; MAX_MESSAGE + 1]), Fault::TooLong),
                (b"*".repeat(20_000), Fault::TooLong),
            ] {
                let (mut exchange, step) = Exchange::start(mechanism, Some(&bytes));
                assert_eq!(step, Step::Failed(want));
                assert_eq!(exchange.respond(b""), Step::Failed(Fault::Over));
            }
        }
        let longest = [b"\0bob\0", &[b'x'; MAX_MESSAGE - 5][..]].concat();
        assert!(matches!(Exchange::start(Mechanism::Plain, Some(&text(&longest))).1, Step::Credentials(_)));
    }

    #[test]
    fn mechanisms_are_found_in_any_case() {
        assert_eq!(Mechanism::find(b"plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::find(b"LOGIN"), Some(Mechanism::Login));
        assert_eq!(Mechanism::find(b"CRAM-MD5"), None);
    }

    #[test]
    fn nothing_printed_shows_a_password() {
        let step = credentials(None, b"bob", b"s3cret");
        assert!(!format!("{step:?}").contains("s3cret"));
        let (exchange, _) = Exchange::start(Mechanism::Login, Some(b"Ym9i"));
        assert_eq!(format!("{exchange:?}"), "Exchange(LOGIN, password)");
    }

    proptest! {
        #[test]
        fn a_client_s_message_gives_its_credentials(login in proptest::collection::vec(1u8.., 0..20), password in proptest::collection::vec(1u8.., 0..20)) {
            let (_, step) = Exchange::start(Mechanism::Plain, Some(&Credentials::plain(&login, &password)));
            prop_assert_eq!(step, credentials(None, &login, &password));
        }

        #[test]
        fn any_bytes_step_without_panic(first in proptest::collection::vec(any::<u8>(), 0..40), second in "[A-Za-z0-9+/=]{0,12}") {
            for mechanism in [Mechanism::Plain, Mechanism::Login] {
                let (mut exchange, _) = Exchange::start(mechanism, Some(&first));
                exchange.respond(second.as_bytes());
                let (mut exchange, _) = Exchange::start(mechanism, None);
                exchange.respond(second.as_bytes());
            }
        }
    }
}
