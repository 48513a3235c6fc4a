//! One event a recipient, target `delivery`, with fixed fields: `from`, `to`, `size`, `result`, `path`, `queue_id`, `id`,
//! `micros`; `reason` where something failed. What a client sent is made printable first.

use crate::intake::Message;
use crate::reply::{Outcome, Verdict};
use crate::transaction::{Target, Transaction};
use std::time::Duration;

/// Longest text of a client's that goes into a log line, in characters.
const MAX_TEXT: usize = 256;

/// `text` with all that could disturb a log or a terminal as `?`, and no longer than a line should have.
pub(crate) fn printable(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() { c } else { '?' };
    text.chars().take(MAX_TEXT).map(safe).collect()
}

/// A recipient that RCPT refused.
pub(crate) fn refused(from: &str, to: &str, verdict: Verdict, reason: &str, ident: Option<&str>) {
    let (from, to, queue_id) = (printable(from), printable(to), printable(ident.unwrap_or_default()));
    match verdict {
        Verdict::Unavailable | Verdict::Misconfigured => {
            tracing::warn!(target: "delivery", from, to, result = verdict.word(), queue_id, reason);
        }
        _ => tracing::info!(target: "delivery", from, to, result = verdict.word(), queue_id),
    }
}

/// A recipient after the end of the message.
pub(crate) fn delivered(
    transaction: &Transaction,
    message: Option<&Message>,
    target: &Target,
    outcome: &Outcome,
    took: Duration,
) {
    let (from, to) = (printable(&transaction.sender), printable(&target.address));
    let queue_id = transaction.queue_id(message.map(|message| &message.scan)).unwrap_or_default();
    let size = message.map_or(0, |message| message.size);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let (id, result) = (&transaction.id[..], outcome.word());
    match outcome {
        Outcome::Stored(path) => {
            let path = path.display();
            tracing::info!(target: "delivery", from, to, size, result, %path, queue_id, id, micros);
        }
        Outcome::Failed(trouble) => {
            let path = target.dir.display();
            let (reason, advice) = (trouble.to_string(), trouble.advice());
            tracing::error!(target: "delivery", from, to, size, result, %path, queue_id, id, micros, reason, advice);
        }
        _ => {
            let path = target.dir.display();
            tracing::info!(target: "delivery", from, to, size, result, %path, queue_id, id, micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_text_cannot_disturb_a_log() {
        for (text, want) in [
            ("info@example.jp", "info@example.jp"),
            ("用户@例え.jp", "用户@例え.jp"),
            ("a\r\nb\0\u{1b}[31m\u{202e}c\u{85}", "a??b??[31m?c?"),
        ] {
            assert_eq!(printable(text), want);
        }
        assert_eq!(printable(&"x".repeat(MAX_TEXT + 1)).len(), MAX_TEXT);
    }
}
