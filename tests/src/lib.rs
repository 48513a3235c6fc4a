//! The whole against real peers: `tests/peer_*.rs` holds one peer each, `tests/story_*.rs` one story each.
//!
//! Run them by `tests/run`, which installs the peers and builds our programs first. A peer or program that is missing
//! fails the test that needs it; nothing is skipped. Slow tests stand behind `#[cfg(feature = "slow")]`.
#![forbid(unsafe_code)]
