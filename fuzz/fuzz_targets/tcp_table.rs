//! tcp_table lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::tcp_table;

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((request, used))) = tcp_table::decode(input) {
        assert!(used <= input.len());
        let _ = format!("{request:?}");
    }
    let _ = tcp_table::decode_reply(input);
});
