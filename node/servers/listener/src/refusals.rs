//! Callers that have not shown who they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::places::Origin;
use crate::seldom::Seldom;

/// How long a request without a token that counts waits for its answer: bounds how many can be tried. An estimate.
const WAIT: Duration = Duration::from_secs(1);

/// Counts requests without a token that counts, and logs them once a minute.
#[derive(Debug, Default)]
pub struct Refusals {
    count: AtomicU64,
    unlogged: Mutex<Seldom>,
}

impl Refusals {
    /// Requests without a token that counts, since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one, and completes when it may be answered.
    pub async fn refuse(&self, origin: Origin) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let due = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner).note();
        if let Some(count) = due {
            tracing::warn!(%origin, count, "requests without a valid token, the last one from here");
        }
        tokio::time::sleep(WAIT).await;
    }
}
