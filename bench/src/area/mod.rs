//! The areas, one file each.

mod policy;
mod saslauthd;
mod scale;
mod socketmap;

use crate::figures::Figures;
use crate::plan::Plan;
use anyhow::Result;

/// A field of work with its peer.
pub(crate) struct Area {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it compares.
    pub(crate) about: &'static str,
    /// Packages of this workspace that it starts.
    pub(crate) packages: &'static [&'static str],
    /// Measures it.
    pub(crate) measure: fn(&Plan) -> Result<Figures>,
}

/// All areas.
pub(crate) const AREAS: [Area; 4] = [saslauthd::AREA, socketmap::AREA, policy::AREA, scale::AREA];
