//! Policy requests: whatever decodes can be asked for everything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::policy::{self, Action};

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((request, used))) = policy::decode(input) {
        assert!(used <= input.len());
        let _ = (request.is_access_policy(), request.protocol_state(), request.client_ip(), request.find(b"sender"));
    }
    let _ = policy::decode_reply(input);
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = Action::parse(text);
    }
});
