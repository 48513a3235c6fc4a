//! The whole against real peers: `tests/peer_*.rs` holds one peer each, `tests/story_*.rs` one story each.
//!
//! Run them by `tests/run`, which installs the peers and builds our programs first. A peer or program that is missing
//! fails the test that needs it; nothing is skipped. Slow tests stand behind `#[cfg(feature = "slow")]`.
//!
//! Here lie the roles that either side can play: [`Module`], [`Sasl`], [`Maps`]. A test written on them runs against our
//! program and against the one it stands in for.
#![forbid(unsafe_code)]

mod ask;
mod load;
mod policed;
mod roles;
mod site;

pub use ask::{Ask, stats};
pub use load::{Counts, Doors, Load};
pub use policed::Policed;
pub use roles::{Maps, Module, Sasl};
pub use site::Site;
