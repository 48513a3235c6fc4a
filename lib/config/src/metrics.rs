//! `[metrics]`: counts for Prometheus, and whether all is well.

use crate::listen::ListenList;
use serde::Deserialize;

/// `[metrics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Where `/metrics` and `/healthz` are answered. There is no password: leave it on this host.
    pub listen: ListenList,
    /// Connections at most.
    pub max_connections: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: ListenList(vec![crate::Listen::Tcp("127.0.0.1:9154".into())]), max_connections: 16 }
    }
}
