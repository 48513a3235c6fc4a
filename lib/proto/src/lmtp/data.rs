//! The message: dot-stuffed DATA, counted BDAT chunks, and the way back to LF lines.
//!
//! All three types are fed pieces of any size and give the same result however the bytes were cut.
//!
//! CRLF becomes LF. A bare LF or a bare CR is data and stays as it is; in particular neither begins a line for the purposes of dots
//! and of the end. A bare LF cannot be told from a line end afterwards, which does no harm where the message is stored.

/// What one `feed` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Bytes taken from the input. Less than all of it only when done: the rest is the next command.
    pub used: usize,
    /// Whether the message, or the chunk, is complete.
    pub done: bool,
}

/// Counts that a delivery needs: SIZE to compare with its limit, bytes and lines for quota and file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    size: u64,
    written: u64,
    line_feeds: u64,
}

impl Counts {
    /// Appends bytes that have no line end among them.
    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.size += bytes.len() as u64;
        self.written += bytes.len() as u64;
        out.extend_from_slice(bytes);
    }

    /// Appends a line end that took `wire` bytes.
    fn end_line(&mut self, wire: u64, out: &mut Vec<u8>) {
        self.size += wire;
        self.written += 1;
        self.line_feeds += 1;
        out.push(b'\n');
    }
}

/// Where a decoder stands between two bytes. What was read and not yet written out is in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind CRLF, or before the first byte.
    LineStart,
    /// Behind a dot at the start of a line.
    Dot,
    /// Behind dot CR at the start of a line.
    DotCr,
    /// Inside a line.
    Text,
    /// Behind a CR inside a line.
    Cr,
    /// Behind the end.
    Done,
}

/// Reads the data behind DATA: undoes dot-stuffing, ends at CRLF `.` CRLF and there only, writes LF lines.
///
/// Holds no bytes of the message: `out` may be emptied between two feeds, to a file or to nowhere.
#[derive(Debug, Clone)]
pub struct DataDecoder {
    state: State,
    counts: Counts,
}

impl Default for DataDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataDecoder {
    /// A decoder before the first byte of a message.
    pub fn new() -> Self {
        DataDecoder { state: State::LineStart, counts: Counts::default() }
    }

    /// Takes the next piece and appends what it says to `out`: never more bytes than `input` has, plus two held back before.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        let counts = &mut self.counts;
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            let state = self.state;
            self.state = match (state, byte) {
                (State::Done, _) => break,
                (State::LineStart, b'.') => State::Dot,
                (State::Dot, b'\r') => State::DotCr,
                (State::DotCr, b'\n') => State::Done,
                (State::Cr, b'\n') => {
                    counts.end_line(2, out);
                    State::LineStart
                }
                (State::Cr | State::DotCr, b'\r') => {
                    counts.put(b"\r", out);
                    State::Cr
                }
                (State::LineStart | State::Text, b'\r') => State::Cr,
                _ => {
                    if matches!(state, State::Cr | State::DotCr) {
                        counts.put(b"\r", out);
                    }
                    // A bare LF, or a run of bytes up to the next CR or LF.
                    if byte == b'\n' {
                        counts.end_line(1, out);
                    } else {
                        let run = run_length(&input[used..]);
                        counts.put(&input[used..used + run], out);
                        used += run - 1;
                    }
                    State::Text
                }
            };
            used += 1;
        }
        Fed { used, done: self.state == State::Done }
    }

    /// Size of the message so far as RFC 1870 counts it: line ends as they came, no stuffed dots, no end mark.
    pub fn size(&self) -> u64 {
        self.counts.size
    }

    /// Bytes written out so far.
    pub fn written(&self) -> u64 {
        self.counts.written
    }

    /// LFs among them: `written` plus this is the size with CRLF line ends.
    pub fn line_feeds(&self) -> u64 {
        self.counts.line_feeds
    }
}

/// Reads the octets of BDAT chunks, one chunk after the other, and writes LF lines. A CRLF may lie across two chunks.
#[derive(Debug, Clone, Default)]
pub struct ChunkDecoder {
    left: u64,
    after_cr: bool,
    counts: Counts,
}

impl ChunkDecoder {
    /// A decoder before the first chunk of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces a chunk of `size` octets, before its first one is fed. A chunk of none is done at once: feed it nothing.
    pub fn begin(&mut self, size: u64) {
        self.left = size;
    }

    /// Takes the next piece of the chunk.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        let used = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        self.left -= used as u64;
        let mut rest = &input[..used];
        while let Some(&byte) = rest.first() {
            let mut step = 1;
            match (self.after_cr, byte) {
                (true, b'\n') => self.counts.end_line(2, out),
                (true, _) => self.counts.put(b"\r", out),
                (false, b'\n') => self.counts.end_line(1, out),
                (false, b'\r') => {}
                (false, _) => {
                    step = run_length(rest);
                    self.counts.put(&rest[..step], out);
                }
            }
            if self.after_cr && byte != b'\n' {
                // The CR was bare; its successor is looked at again on its own.
                self.after_cr = false;
                continue;
            }
            self.after_cr = byte == b'\r';
            rest = &rest[step..];
        }
        Fed { used, done: self.left == 0 }
    }

    /// Writes the CR that a message may end in. Call once, after the last chunk.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) {
            self.counts.put(b"\r", out);
        }
    }

    /// As [`DataDecoder::size`].
    pub fn size(&self) -> u64 {
        self.counts.size
    }

    /// As [`DataDecoder::written`].
    pub fn written(&self) -> u64 {
        self.counts.written
    }

    /// As [`DataDecoder::line_feeds`].
    pub fn line_feeds(&self) -> u64 {
        self.counts.line_feeds
    }
}

/// Writes a message for DATA: LF and CRLF become CRLF, dots at the start of a line are doubled.
#[derive(Debug, Clone)]
pub struct DataEncoder {
    line_start: bool,
    after_cr: bool,
}

impl Default for DataEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataEncoder {
    /// An encoder before the first byte of a message.
    pub fn new() -> Self {
        DataEncoder { line_start: true, after_cr: false }
    }

    /// Appends the wire form of the next piece.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for line in input.split_inclusive(|byte| *byte == b'\n') {
            if self.line_start && line.first() == Some(&b'.') {
                out.push(b'.');
            }
            let body = line.strip_suffix(b"\n").unwrap_or(line);
            out.extend_from_slice(body);
            self.line_start = body.len() < line.len();
            let after_cr = if body.is_empty() { self.after_cr } else { body.ends_with(b"\r") };
            if self.line_start && !after_cr {
                out.push(b'\r');
            }
            if self.line_start {
                out.push(b'\n');
            }
            self.after_cr = after_cr && !self.line_start;
        }
    }

    /// Appends the end: a line end if the last line has none, then the dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        if !self.line_start {
            // Behind a CR too: the message's own bare CR stays bare.
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Bytes before the first CR or LF.
fn run_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len())
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "tables of bytes and the values expected of them")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `wire` in pieces of `step` bytes: the message, the bytes used, whether it ended.
    fn decoded(wire: &[u8], step: usize) -> (Vec<u8>, usize, bool, DataDecoder) {
        let (mut out, mut used) = (Vec::new(), 0);
        let mut decoder = DataDecoder::new();
        for piece in wire.chunks(step) {
            let fed = decoder.feed(piece, &mut out);
            used += fed.used;
            if fed.done {
                return (out, used, true, decoder);
            }
        }
        (out, used, false, decoder)
    }

    fn encoded(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = DataEncoder::new();
        encoder.feed(message, &mut out);
        encoder.finish(&mut out);
        out
    }

    #[test]
    fn a_message_ends_at_crlf_dot_crlf() {
        let table: &[(&[u8], &[u8], usize)] = &[
            (b".\r\n", b"", 3),
            (b"a\r\n.\r\nQUIT\r\n", b"a\n", 6),
            (b"a\r\n..\r\n.\r\n", b"a\n.\n", 10),
            (b"..a\r\n...b\r\n.\r\n", b".a\n..b\n", 14),
            (b".a\r\n.\r\n", b"a\n", 7),
            (b"\r\n\r\n.\r\n", b"\n\n", 7),
            (b"a\r\r\n.\r\n", b"a\r\n", 7),
            (b"a\0\xff\r\n.\r\n", b"a\0\xff\n", 8),
        ];
        for (wire, message, used) in table {
            for step in 1..=wire.len() {
                let (out, taken, done, _) = decoded(wire, step);
                assert_eq!((&out[..], taken, done), (*message, *used, true), "{} by {step}", wire.escape_ascii());
            }
        }
    }

    #[test]
    fn nothing_else_ends_a_message() {
        // The forms of CVE-2023-51764 (Postfix), CVE-2023-51766 (Exim) and their kin.
        let table: &[(&[u8], &[u8])] = &[
            (b"a\n.\n", b"a\n.\n"),
            (b"a\n.\r\n", b"a\n.\n"),
            (b"a\r\n.\n", b"a\n\n"),
            (b"a\r.\r\n", b"a\r.\n"),
            (b"a\r\n.\rb", b"a\n\rb"),
            (b"a\r\n.\r\r\n", b"a\n\r\n"),
            (b"a\r\n.\0\r\n", b"a\n\0\n"),
            (b"a\r\n\0.\r\n", b"a\n\0.\n"),
            (b"a\r\n. \r\n", b"a\n \n"),
            (b"a\r\n .\r\n", b"a\n .\n"),
            (b"a\n\r.\r\n", b"a\n\r.\n"),
            (b"a.\r\n", b"a.\n"),
            (b"\n.\r\n", b"\n.\n"),
        ];
        for (wire, message) in table {
            for step in 1..=wire.len() {
                let (out, used, done, _) = decoded(wire, step);
                assert_eq!((&out[..], used, done), (*message, wire.len(), false), "{} by {step}", wire.escape_ascii());
            }
            // And the true end still does.
            let closed = [wire, &b"\r\n.\r\n"[..]].concat();
            assert!(decoded(&closed, 1).2, "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn sizes_are_those_of_rfc_1870() {
        let (_, _, done, decoder) = decoded(b"ab\r\n..c\r\nd\ne\rf\r\n.\r\n", 4);
        assert!(done);
        assert_eq!(decoder.size(), "ab\r\n.c\r\nd\ne\rf\r\n".len() as u64);
        assert_eq!(decoder.written(), "ab\n.c\nd\ne\rf\n".len() as u64);
        assert_eq!(decoder.line_feeds(), 4);
    }

    #[test]
    fn a_decoder_that_is_done_takes_no_more() {
        let (mut decoder, mut out) = (DataDecoder::new(), Vec::new());
        assert_eq!(decoder.feed(b".\r\nx", &mut out), Fed { used: 3, done: true });
        assert_eq!(decoder.feed(b"x", &mut out), Fed { used: 0, done: true });
        assert_eq!(out, b"");
    }

    #[test]
    fn a_client_doubles_dots_and_ends_every_line() {
        let table: &[(&[u8], &[u8])] = &[
            (b"", b".\r\n"),
            (b"a\n", b"a\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b".\n", b"..\r\n.\r\n"),
            (b"a\n.b\n", b"a\r\n..b\r\n.\r\n"),
            (b"a\r\nb\n", b"a\r\nb\r\n.\r\n"),
            (b"a\r", b"a\r\r\n.\r\n"),
            (b"a\r.\n", b"a\r.\r\n.\r\n"),
        ];
        for (message, wire) in table {
            assert_eq!(encoded(message), *wire, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn chunks_join_into_lf_lines() {
        let (mut decoder, mut out) = (ChunkDecoder::new(), Vec::new());
        decoder.begin(3);
        assert_eq!(decoder.feed(b"a\r", &mut out), Fed { used: 2, done: false });
        assert_eq!(decoder.feed(b"\nBDAT", &mut out), Fed { used: 1, done: true });
        decoder.begin(2);
        assert_eq!(decoder.feed(b".\r", &mut out), Fed { used: 2, done: true });
        decoder.begin(0);
        assert_eq!(decoder.feed(b"", &mut out), Fed { used: 0, done: true });
        decoder.begin(5);
        assert_eq!(decoder.feed(b"\n\n\r\r\n", &mut out), Fed { used: 5, done: true });
        decoder.begin(1);
        assert_eq!(decoder.feed(b"\r", &mut out), Fed { used: 1, done: true });
        decoder.finish(&mut out);
        assert_eq!(out, b"a\n.\n\n\r\n\r");
        assert_eq!((decoder.size(), decoder.written(), decoder.line_feeds()), (11, 8, 4));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..60)
    }

    proptest! {
        #[test]
        fn a_sent_message_is_the_received_one(message in bytes()) {
            let wire = encoded(&message);
            let (out, used, done, decoder) = decoded(&wire, wire.len());
            let mut want = Vec::new();
            let mut plain = ChunkDecoder::new();
            plain.begin(message.len() as u64);
            plain.feed(&message, &mut want);
            plain.finish(&mut want);
            if !want.is_empty() && !want.ends_with(b"\n") {
                want.push(b'\n');
            }
            prop_assert_eq!(&out, &want);
            prop_assert_eq!((used, done, decoder.written()), (wire.len(), true, want.len() as u64));
        }

        #[test]
        fn pieces_make_no_difference(message in bytes(), step in 1usize..20) {
            let whole = decoded(&message, message.len().max(1));
            let pieces = decoded(&message, step);
            prop_assert_eq!((&whole.0, whole.1, whole.2, whole.3.counts), (&pieces.0, pieces.1, pieces.2, pieces.3.counts));

            let wire = encoded(&message);
            let (mut again, mut encoder) = (Vec::new(), DataEncoder::new());
            message.chunks(step).for_each(|piece| encoder.feed(piece, &mut again));
            encoder.finish(&mut again);
            prop_assert_eq!(again, wire);
        }

        #[test]
        fn only_the_true_end_ends(message in bytes()) {
            let end = if message.starts_with(b".\r\n") {
                Some(3)
            } else {
                message.windows(5).position(|window| window == b"\r\n.\r\n").map(|at| at + 5)
            };
            let (_, used, done, _) = decoded(&message, 1);
            prop_assert_eq!(done.then_some(used), end);
        }

        #[test]
        fn chunks_of_any_size_make_no_difference(message in bytes(), step in 1usize..20, chunk in 1usize..20) {
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            let mut decoder = ChunkDecoder::new();
            decoder.begin(message.len() as u64);
            decoder.feed(&message, &mut whole);
            decoder.finish(&mut whole);
            let mut cut = ChunkDecoder::new();
            for octets in message.chunks(chunk) {
                cut.begin(octets.len() as u64);
                octets.chunks(step).for_each(|piece| {
                    cut.feed(piece, &mut pieces);
                });
            }
            cut.finish(&mut pieces);
            prop_assert_eq!(pieces, whole);
            prop_assert_eq!(cut.counts, decoder.counts);
            prop_assert_eq!(cut.size(), message.len() as u64);
        }
    }
}
