//! Looks at the servers in the background: at each of a cluster regularly, at any after a failure, and at one that is
//! left alone as soon as its rest is over, so that no asker has to find out that it is back.
//!
//! The watch of a server keeps one connection of its own. It ends with the [`super::Mysql`] it belongs to.

use super::Cluster;
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
        let Some((look, pause, alone)) = cluster.upgrade().and_then(|cluster| pause(&cluster, at, first)) else {
            return;
        };
        let told = tokio::time::timeout(pause, look.notified()).await.is_ok();
        let Some(cluster) = cluster.upgrade() else { return };
        let Some(host) = cluster.hosts.get(at) else { return };
        let now = Instant::now();
        let shut = host.shut_until(now);
        if shut.is_some_and(|until| until > now) || (alone && !told && shut.is_none()) {
            continue;
        }
        if host.admit(now) {
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

/// Who calls for a look, how long to wait for that, and whether the server stands alone.
fn pause(cluster: &Cluster, at: usize, first: bool) -> Option<(Arc<tokio::sync::Notify>, Duration, bool)> {
    let host = cluster.hosts.get(at)?;
    let now = Instant::now();
    let alone = cluster.hosts.len() == 1;
    let pause = match host.shut_until(now) {
        Some(until) => until.saturating_duration_since(now).max(Duration::from_millis(1)),
        None if alone => ALONE,
        None if first => Duration::ZERO,
        None => cluster.limits.health,
    };
    Some((Arc::clone(&host.look), pause, alone))
}
