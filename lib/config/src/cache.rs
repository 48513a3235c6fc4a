//! `[cache]`: how long answers are good.

use crate::value::{Bytes, Span};
use serde::Deserialize;
use std::time::Duration;

/// `[cache]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Something that exists. A change made by somebody else is honoured within this time.
    pub positive_ttl: Span,
    /// Something that does not exist.
    pub negative_ttl: Span,
    /// How much longer an old answer serves while the database cannot be asked.
    pub stale_ttl: Span,
    /// Entries of each kind at most.
    pub entries: usize,
    /// Memory that all entries together take at most, about: half of it for accounts, a quarter for aliases.
    pub bytes: Bytes,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            positive_ttl: Span(Duration::from_secs(60)),
            negative_ttl: Span(Duration::from_secs(10)),
            stale_ttl: Span(Duration::from_secs(3600)),
            entries: 100_000,
            bytes: Bytes(64 << 20),
        }
    }
}
