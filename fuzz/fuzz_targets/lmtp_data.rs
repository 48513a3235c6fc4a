//! Message data: how it is cut into pieces does not matter, and what a client's encoder writes comes out as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailsql_proto::lmtp::{DataDecoder, DataEncoder};

fuzz_target!(|input: &[u8]| {
    let Some((&cut, message)) = input.split_first() else { return };
    let mut whole = Vec::new();
    let mut decoder = DataDecoder::new();
    let fed = decoder.feed(message, &mut whole);
    let mut pieces = Vec::new();
    let mut decoder = DataDecoder::new();
    let at = usize::from(cut).min(message.len());
    let first = decoder.feed(&message[..at], &mut pieces);
    if !first.done {
        let second = decoder.feed(&message[at..], &mut pieces);
        assert_eq!((first.used + second.used, second.done), (fed.used, fed.done));
    }
    if first.done {
        assert_eq!(first.used, fed.used);
    }
    assert_eq!(whole, pieces);

    // Text with LF line ends survives the way over the wire.
    let text: Vec<u8> = message.iter().copied().filter(|byte| *byte != b'\r').collect();
    let mut wire = Vec::new();
    let mut encoder = DataEncoder::new();
    encoder.feed(&text, &mut wire);
    encoder.finish(&mut wire);
    let mut back = Vec::new();
    let fed = DataDecoder::new().feed(&wire, &mut back);
    assert!(fed.done && fed.used == wire.len());
    let mut expected = text;
    if expected.last().is_some_and(|last| *last != b'\n') {
        expected.push(b'\n');
    }
    assert_eq!(back, expected);
});
