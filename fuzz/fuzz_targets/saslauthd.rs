//! A saslauthd request that decodes is written again and decodes to the same; a prefix never decodes to another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::saslauthd;

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((request, used))) = saslauthd::decode(input) {
        assert!(used <= input.len() && used <= saslauthd::MAX_REQUEST);
        let _ = (request.user(true), request.user(false), request.refusal(), format!("{request:?}"));
        let mut written = Vec::new();
        request.encode(&mut written).expect("its fields fit");
        let (again, _) = saslauthd::decode(&written).expect("reads back").expect("whole");
        assert!(again == request);
    }
    let _ = saslauthd::decode_reply(input);
});
