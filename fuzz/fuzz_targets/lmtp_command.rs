//! An LMTP dialogue: whatever a client sends, the session answers, and never more than one reply a command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::lmtp::{self, Action, Offer, Session};

fuzz_target!(|input: &[u8]| {
    let offer = Offer {
        hostname: "mail.example.jp".into(),
        max_size: Some(1 << 20),
        max_recipients: 10,
        xforward: true,
        dsn: false,
    };
    let mut session = Session::new(offer);
    let mut rest = input;
    while let Ok(Some((decoded, used))) = lmtp::decode(rest) {
        assert!(used > 0 && used <= rest.len());
        let action = session.step(decoded);
        rest = &rest[used..];
        match action {
            Action::Find(recipient) => session.accept(recipient),
            Action::Close(_) => break,
            _ => {}
        }
    }
    let _ = session.finish();
    let _ = lmtp::decode_reply(input);
});
