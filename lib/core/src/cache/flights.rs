//! Loads under way, one a key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Loads under way, one a key.
pub(crate) struct Flights<K, T>(Mutex<HashMap<K, Arc<OnceCell<T>>>>);

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Runs `load` unless one for this key is under way, and gives its outcome to all who wait. `settle` sees the
    /// outcome once, and only if the key was not forgotten meanwhile. If the caller that runs the load goes away,
    /// another that waits runs its own.
    pub(crate) async fn run<F: Future<Output = T>>(&self, key: &K, load: F, settle: impl FnOnce(&T)) -> T {
        let flight = Arc::clone(self.lock().entry(key.clone()).or_default());
        let outcome = flight
            .get_or_init(|| async {
                let outcome = load.await;
                let mut flights = self.lock();
                if flights.get(key).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
                    settle(&outcome);
                    flights.remove(key);
                }
                outcome
            })
            .await;
        outcome.clone()
    }

    /// Lets whatever is under way for this key end without being stored.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<OnceCell<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
