//! The search for peers: runs when the node has no neighbour, and hands over what it finds.

use std::sync::Arc;

use tokio::sync::Notify;

use super::command::Gossip;

/// Starts a round of the search whenever the node asks for one.
pub struct Contacts {
    wanted: Arc<Notify>,
}

impl Contacts {
    /// Starts the task on the current runtime.
    pub fn start(seeds: Vec<String>, gossip: Gossip) -> Self {
        let wanted = Arc::new(Notify::new());
        let asked = Arc::clone(&wanted);
        tokio::spawn(async move {
            loop {
                asked.notified().await;
                if gossip.contact(seeds.clone()).await.is_none() {
                    return;
                }
            }
        });
        Self { wanted }
    }

    /// A node without a neighbour asks for contacts.
    pub fn look(&self) {
        self.wanted.notify_one();
    }
}
