//! The search for peers: runs while the node has no neighbour, and hands over what it finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use starling_bootstrap::Finder;
use tokio::sync::Notify;

use super::command::Gossip;

/// Asks for rounds of the search, from the gossip loop.
#[derive(Clone, Default)]
pub struct Contacts {
    wanted: Arc<Notify>,
    succeeded: Arc<AtomicBool>,
}

impl Contacts {
    /// The node has no neighbour.
    pub fn look(&self) {
        self.wanted.notify_one();
    }

    /// The node has found one: the next search begins with short pauses again.
    pub fn succeeded(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Runs a round whenever one is asked for, until the gossip thread has stopped.
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
