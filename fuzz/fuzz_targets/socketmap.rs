//! A socketmap question that decodes is written again and decodes to the same; every reply we write, Postfix can read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::socketmap::{self, Reply};

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((request, used))) = socketmap::decode(input) {
        assert!(used <= input.len());
        let mut written = Vec::new();
        request.encode(&mut written).expect("it was within the limits");
        let (again, _) = socketmap::decode(&written).expect("reads back").expect("whole");
        assert_eq!(again, request);
    }
    for reply in [Reply::Ok(input), Reply::Temp(input), Reply::Perm(input), Reply::Timeout(input)] {
        let mut written = Vec::new();
        reply.encode(&mut written);
        let (again, used) = socketmap::decode_reply(&written).expect("reads back").expect("whole");
        assert_eq!(used, written.len());
        assert!(again != Reply::Ok(b""), "never an empty OK");
    }
    let _ = socketmap::decode_reply(input);
});
