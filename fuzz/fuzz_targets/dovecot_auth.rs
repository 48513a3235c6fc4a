//! Dovecot's auth protocol, both sockets, and the SASL exchanges.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::dovecot_auth::sasl::{Exchange, Mechanism};
use mailsql_proto::dovecot_auth::{client, master};

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((request, used))) = client::decode(input) {
        assert!(used <= input.len());
        let _ = format!("{request:?}");
    }
    let _ = client::decode_reply(input);
    if let Ok(Some((request, used))) = master::decode(input) {
        assert!(used <= input.len());
        let _ = format!("{request:?}");
    }
    let _ = master::decode_reply(input);
    for name in [&b"PLAIN"[..], b"LOGIN"] {
        let Some(mechanism) = Mechanism::find(name) else { continue };
        let (mut exchange, _) = Exchange::start(mechanism, None);
        for part in input.split(|byte| *byte == b'\n').take(4) {
            let _ = exchange.respond(part);
        }
        let _ = Exchange::start(mechanism, Some(input));
    }
});
