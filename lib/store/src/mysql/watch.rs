//! Looks at the servers in the background: at each of a cluster regularly, at any after a failure or while it does not
//! serve everything, and at one that is left alone as soon as its rest is over, so that no asker has to find out that it
//! is back.
//!
//! The watch of a server keeps one connection of its own. It ends with the [`super::Mysql`] it belongs to.

use super::Cluster;
use super::health::Role;
use super::host::Host;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Shortest pause between two looks.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);
/// Between two looks at a server that stands alone: only to notice that nobody asks any more.
const ALONE: Duration = Duration::from_secs(30);

/// Begins to watch all servers.
pub(super) fn begin(cluster: &Arc<Cluster>) {
    for at in 0..cluster.hosts.len() {
        tokio::spawn(watch(Arc::downgrade(cluster), at));
    }
}

async fn watch(cluster: Weak<Cluster>, at: usize) {
    let mut kept = None;
    let mut first = true;
    loop {
        let Some((look, pause)) = cluster.upgrade().and_then(|cluster| pause(&cluster, at, first)) else {
            return;
        };
        let told = tokio::time::timeout(pause, look.notified()).await.is_ok();
        let Some(cluster) = cluster.upgrade() else { return };
        let Some(host) = cluster.hosts.get(at) else { return };
        let now = Instant::now();
        let idle = !told && shut_or_limited(host, now).is_none() && cluster.hosts.len() == 1;
        if !idle && host.admit(now) {
            // The outcome is what is thought of the host from now on.
            let _ = host.examine(&mut kept).await;
            first = false;
        }
        if told {
            // Not more often than this, however many failures call for it.
            tokio::time::sleep(SHORTEST).await;
        }
    }
}

/// Who calls for a look, and how long to wait for that.
fn pause(cluster: &Cluster, at: usize, first: bool) -> Option<(Arc<tokio::sync::Notify>, Duration)> {
    let host = cluster.hosts.get(at)?;
    let now = Instant::now();
    let pause = match shut_or_limited(host, now) {
        Some(Some(until)) => until.saturating_duration_since(now).max(Duration::from_millis(1)),
        Some(None) => cluster.limits.health,
        None if cluster.hosts.len() == 1 => ALONE,
        None if first => Duration::ZERO,
        None => cluster.limits.health,
    };
    Some((Arc::clone(&host.look), pause))
}

/// Whether a server is left alone, and until when, or serves only some questions, or none.
fn shut_or_limited(host: &Host, now: Instant) -> Option<Option<Instant>> {
    match (host.shut_until(now), host.role()) {
        (Some(until), _) => Some(Some(until)),
        (None, Some(Role::Reader(_) | Role::Nothing(_))) => Some(None),
        (None, Some(Role::Writer) | None) => None,
    }
}
