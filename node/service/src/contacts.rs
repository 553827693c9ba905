//! The search for peers, which runs while the node has no neighbour, and passes the addresses to the gossip thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use starling_bootstrap::Finder;
use tokio::sync::Notify;

use super::command::Gossip;

/// The gossip loop's control of the search.
#[derive(Clone, Default)]
pub struct Contacts {
    wanted: Arc<Notify>,
    succeeded: Arc<AtomicBool>,
}

impl Contacts {
    /// Requests a round, because the node has no neighbour.
    pub fn look(&self) {
        self.wanted.notify_one();
    }

    /// Resets the pauses between rounds, because the node has found a neighbour.
    pub fn succeeded(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Runs a round whenever one is requested, until the gossip thread has stopped.
    pub async fn search(self, mut finder: Finder, gossip: Gossip) {
        loop {
            self.wanted.notified().await;
            if self.succeeded.swap(false, Ordering::Relaxed) {
                finder.succeeded();
            }
            let found = finder.next_round().await;
            if !found.is_empty() && gossip.contact(found).await.is_none() {
                return;
            }
        }
    }
}
