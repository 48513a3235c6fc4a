//! The way to a server's connections: as many at a time as there are connections, and a bounded queue before them.
//!
//! The driver's own queue has no bound; behind this one it is never used.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// See above.
pub(super) struct Gate {
    slots: Semaphore,
    limit: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Counts an asker for as long as he waits, whatever ends the wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(limit: usize, waiting_max: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { slots: Semaphore::new(limit), limit, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// A place, at once or after those who came before; `None` when the queue is full.
    pub(super) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.slots.try_acquire() {
            return Some(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            return None;
        }
        // Never closed, so this is never an error.
        self.slots.acquire().await.ok()
    }

    pub(super) fn in_use(&self) -> usize {
        self.limit.saturating_sub(self.slots.available_permits())
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn beyond_the_places_some_wait_and_beyond_those_nobody() {
        let gate = Arc::new(Gate::new(1, 1));
        let first = gate.enter().await.unwrap();
        let second = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.enter().await.is_some() })
        };
        while gate.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(gate.enter().await.is_none(), "the queue is full");
        assert_eq!((gate.in_use(), gate.waiting()), (1, 1));
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_queue() {
        let gate = Gate::new(1, 1);
        let _first = gate.enter().await.unwrap();
        let wait = tokio::time::timeout(std::time::Duration::from_millis(5), gate.enter());
        assert!(wait.await.is_err());
        assert_eq!(gate.waiting(), 0);
    }
}
