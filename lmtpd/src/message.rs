//! Headers: what a received message says of its way, and what a final delivery puts before it.
//!
//! ```text
//! Return-Path: <sender>
//! Delivered-To: recipient
//! X-Original-To: address before aliases          where the client sent ORCPT
//! Received: from CLIENT by HOST with LMTP id ID for <recipient>; date
//! ```
//!
//! Return-Path lines that the message already has are taken out (RFC 5321 §4.4: the final delivery writes the only
//! one). The header section ends at an empty line or at a line that is no field; only what the first
//! [`MEMORY_MAX`](crate::intake::MEMORY_MAX) bytes of a message hold of it is looked at, more than the 100 KiB that
//! Postfix lets through (`header_size_limit`).

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::SystemTime;

/// Received lines from which on a message is taken to be in a loop: Postfix's `hopcount_limit`.
pub(crate) const MAX_HOPS: usize = 50;
/// Delivered-To lines that are kept for the comparison; a message with more of them is in a loop.
const MAX_DELIVERED_TO: usize = 100;
/// Longest queue id that is believed, in bytes.
const MAX_QUEUE_ID: usize = 64;

/// What the header section told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Values of Delivered-To, in lower case.
    delivered_to: Vec<String>,
    /// Number of Received lines.
    received: usize,
    /// Queue id in the topmost Received line: the client's own.
    pub(crate) queue_id: Option<String>,
    /// SHA-256 of the header section.
    pub(crate) digest: [u8; 32],
    /// Whether the message begins with neither a field nor an empty line, so that one must stand before it.
    headless: bool,
}

impl Scan {
    /// Looks at the header section at the front of `message` and takes the Return-Path lines out of it.
    pub(crate) fn take(message: &mut Vec<u8>) -> Self {
        let mut scan = Self::default();
        let (mut from, mut to) = (0, 0);
        while let Some((name, length)) = field(&message[from..]) {
            let text = &message[from..from + length];
            let value = &text[name + 1..];
            match &text[..name] {
                name if name.eq_ignore_ascii_case(b"Return-Path") => {
                    from += length;
                    continue;
                }
                name if name.eq_ignore_ascii_case(b"Delivered-To") => {
                    let value = String::from_utf8_lossy(value.trim_ascii()).to_lowercase();
                    if scan.delivered_to.len() < MAX_DELIVERED_TO {
                        scan.delivered_to.push(value);
                    } else {
                        scan.received = usize::MAX / 2;
                    }
                }
                name if name.eq_ignore_ascii_case(b"Received") => {
                    if scan.received == 0 {
                        scan.queue_id = queue_id(value);
                    }
                    scan.received += 1;
                }
                _ => {}
            }
            if from != to {
                message.copy_within(from..from + length, to);
            }
            (from, to) = (from + length, to + length);
        }
        scan.digest = Sha256::digest(&message[..to]).into();
        scan.headless = to == 0 && !message[from..].is_empty() && message[from] != b'\n';
        message.drain(to..from);
        scan
    }

    /// Whether the message has been delivered to `recipient` before, or has come too long a way.
    pub(crate) fn loops(&self, recipient: &str) -> bool {
        self.received >= MAX_HOPS || self.delivered_to.iter().any(|seen| *seen == recipient.to_lowercase())
    }
}

/// A field at the front of `text`: the length of its name, and its own with all continuation lines.
fn field(text: &[u8]) -> Option<(usize, usize)> {
    let name = text.iter().position(|byte| matches!(byte, b':' | b'\n' | b' ' | b'\t'))?;
    // Space before the colon is obsolete syntax (RFC 5322 §4.5), but still a field.
    let colon = name + text[name..].iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    if name == 0 || text[colon] != b':' || text[..name].iter().any(|byte| !byte.is_ascii_graphic()) {
        return None;
    }
    let mut end = colon;
    loop {
        end += text[end..].iter().position(|byte| *byte == b'\n')? + 1;
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return Some((name, end));
        }
    }
}

/// What follows `id` in a Received line: `… (Postfix) with ESMTPS id 4bN2xT0Zz1z3vF for <…>; …`.
fn queue_id(value: &[u8]) -> Option<String> {
    let before_date = value.split(|byte| *byte == b';').next()?;
    let mut words = before_date.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.find(|word| word.eq_ignore_ascii_case(b"id"))?;
    let id = words.next()?;
    let usable =
        id.len() <= MAX_QUEUE_ID && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte));
    usable.then(|| String::from_utf8_lossy(id).into_owned())
}

/// What a delivery writes before the message.
#[derive(Debug)]
pub(crate) struct Trace<'a> {
    /// Envelope sender, empty for the null sender.
    pub(crate) sender: &'a str,
    /// The recipient as the client named it.
    pub(crate) recipient: &'a str,
    /// The address before aliases.
    pub(crate) original: Option<&'a str>,
    /// What the client called itself.
    pub(crate) client: &'a str,
    /// Where it connected from, if by TCP.
    pub(crate) address: Option<IpAddr>,
    /// This host.
    pub(crate) host: &'a str,
    /// The transaction.
    pub(crate) id: &'a str,
    /// Whether the transaction was a SMTPUTF8 one.
    pub(crate) utf8: bool,
    /// As [`date`] writes it.
    pub(crate) date: &'a str,
}

impl Trace<'_> {
    /// The header lines, LF ended, and the empty line that a message without header section needs.
    pub(crate) fn header(&self, scan: &Scan) -> Vec<u8> {
        let mut text = format!("Return-Path: <{}>\nDelivered-To: {}\n", self.sender, self.recipient);
        if let Some(original) = self.original {
            text.push_str(&format!("X-Original-To: {original}\n"));
        }
        let address = match self.address {
            Some(IpAddr::V4(address)) => format!(" ([{address}])"),
            Some(IpAddr::V6(address)) => format!(" ([IPv6:{address}])"),
            None => String::new(),
        };
        let with = if self.utf8 { "UTF8LMTP" } else { "LMTP" };
        text.push_str(&format!(
            "Received: from {}{address}\n\tby {} (mailsql) with {with} id {}\n\tfor <{}>; {}\n",
            self.client, self.host, self.id, self.recipient, self.date
        ));
        if scan.headless {
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// `now` as mail headers write it (RFC 5322 §3.3), in UTC.
pub(crate) fn date(now: SystemTime) -> String {
    let now = Timestamp::try_from(now).unwrap_or_default().to_zoned(TimeZone::UTC);
    jiff::fmt::rfc2822::to_string(&now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn scan(text: &str) -> (String, Scan) {
        let mut message = text.as_bytes().to_vec();
        let scan = Scan::take(&mut message);
        (String::from_utf8(message).unwrap(), scan)
    }

    #[test]
    fn return_path_lines_go_and_all_else_stays() {
        for (text, want) in [
            ("Return-Path: <a@b>\nSubject: x\n\nbody\n", "Subject: x\n\nbody\n"),
            ("Subject: x\nreturn-path: <a@b>\n\tfolded\nTo: y\n\nbody\n", "Subject: x\nTo: y\n\nbody\n"),
            ("Return-Path : <a@b>\n\nReturn-Path: body\n", "\nReturn-Path: body\n"),
            ("Subject: x\n\nReturn-Path: body\n", "Subject: x\n\nReturn-Path: body\n"),
            ("Subject: x\nno field\nReturn-Path: body\n", "Subject: x\nno field\nReturn-Path: body\n"),
            ("\nbody\n", "\nbody\n"),
            ("", ""),
            ("Return-Path: <unfinished", "Return-Path: <unfinished"),
            ("Return-Path: <a@b>\n", ""),
        ] {
            assert_eq!(scan(text).0, want, "{text:?}");
        }
    }

    #[test]
    fn a_message_without_header_section_gets_an_empty_line() {
        for (text, headless) in [
            ("body\n", true),
            ("\nbody\n", false),
            ("A: b\n\n", false),
            ("", false),
            (" x: y\n", true),
            ("From x\n", true),
        ] {
            assert_eq!(scan(text).1.headless, headless, "{text:?}");
        }
    }

    #[test]
    fn loops_are_seen_whatever_the_case_and_only_in_the_header() {
        let (_, seen) = scan("DELIVERED-TO: Info@Example.jp \nSubject: x\n\nDelivered-To: b@c\n");
        assert!(seen.loops("info@example.JP"));
        assert!(!seen.loops("b@c"));
        assert!(!seen.loops("info+x@example.jp"));
        let hops = |count| scan(&"Received: from x\n\tby y\n".repeat(count)).1;
        assert!(!hops(MAX_HOPS - 1).loops("a@b"));
        assert!(hops(MAX_HOPS).loops("a@b"));
        assert!(scan(&"Delivered-To: x@y\n".repeat(MAX_DELIVERED_TO + 1)).1.loops("a@b"));
    }

    #[test]
    fn the_queue_id_is_the_topmost_hops() {
        for (text, want) in [
            (
                "Received: from a (b [1.2.3.4])\n\tby c (Postfix) with ESMTPS id 4bN2xT0Zz1z3vF\n\tfor <x@y>; d\n",
                Some("4bN2xT0Zz1z3vF"),
            ),
            ("Subject: x\nReceived: by c (Postfix, from userid 0)\n\tid 9A1; d\nReceived: by e id 7; d\n", Some("9A1")),
            ("Received: by c; date id 5\nReceived: by e id 7; d\n", None),
            ("Received: by c id <evil>; d\n", None),
            ("Subject: x\n", None),
        ] {
            assert_eq!(scan(text).1.queue_id.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn a_delivery_writes_its_trace() {
        let date = date(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let mut trace = Trace {
            sender: "",
            recipient: "info+x@example.jp",
            original: Some("sales@example.jp"),
            client: "mx.example.jp",
            address: None,
            host: "store.example.jp",
            id: "6553F100.1.2.3",
            utf8: false,
            date: &date,
        };
        let header = |trace: &Trace<'_>, text| String::from_utf8(trace.header(&scan(text).1)).unwrap();
        assert_eq!(
            header(&trace, "A: b\n\n"),
            "Return-Path: <>\nDelivered-To: info+x@example.jp\nX-Original-To: sales@example.jp\n\
             Received: from mx.example.jp\n\tby store.example.jp (mailsql) with LMTP id 6553F100.1.2.3\n\
             \tfor <info+x@example.jp>; Tue, 14 Nov 2023 22:13:20 +0000\n"
        );
        trace.sender = "a@b";
        trace.utf8 = true;
        for (address, want) in [("192.0.2.7", "([192.0.2.7])"), ("2001:db8::1", "([IPv6:2001:db8::1])")] {
            trace.address = Some(address.parse().unwrap());
            let header = header(&trace, "no header\n");
            assert!(header.starts_with("Return-Path: <a@b>\n") && header.ends_with("+0000\n\n"), "{header}");
            assert!(header.contains(&format!("from mx.example.jp {want}\n")) && header.contains("with UTF8LMTP id"));
        }
    }
}
