//! A request or reply of the ask protocol that decodes is written again and decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::ask::{BULK_LINE_MAX, LINE_MAX, Reply, Request, line};

fuzz_target!(|input: &[u8]| {
    let _ = line(input, LINE_MAX);
    let mut copy = input.to_vec();
    if let Ok(request) = Request::decode(&mut copy) {
        let mut written = Vec::new();
        if request.encode(&mut written).is_ok() {
            let whole = line(&written, LINE_MAX).expect("within the limit").expect("a whole line");
            assert_eq!(whole, written.len(), "one line");
            assert_eq!(Request::decode(&mut written.clone()).expect("reads back"), request);
        }
    }
    let mut copy = input.to_vec();
    if let Ok(reply) = Reply::decode(&mut copy) {
        let mut written = Vec::new();
        if reply.encode(BULK_LINE_MAX, &mut written).is_ok() {
            assert_eq!(Reply::decode(&mut written).expect("reads back"), reply);
        }
    }
});
