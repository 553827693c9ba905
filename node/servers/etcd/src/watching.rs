//! A watch that the server itself needs.

use std::time::Duration;

use starling_strong::api::{Event, Watch, WatchUpdate};
use tokio::sync::mpsc;
use tonic::Status;

use crate::keyspace::Keyspace;
use starling_service::WatchId;

/// Updates that may be pending. The keys of one lock or election have few.
const CREDIT: u32 = 4;
/// Pause after a watch was lost. A guess: the time of an election.
const LOST: Duration = Duration::from_millis(200);
/// Updates that need no credit: its beginning and its end.
const UNASKED: usize = 2;

/// A watch, which ends when it is dropped.
pub struct Watching {
    keyspace: Keyspace,
    id: WatchId,
    updates: mpsc::Receiver<(WatchId, WatchUpdate)>,
}

impl Watching {
    pub async fn start(keyspace: &Keyspace, watch: Watch) -> Result<Self, Status> {
        let (sender, updates) = mpsc::channel(CREDIT as usize + UNASKED);
        let id = WatchId::fresh();
        keyspace.watch(id, watch, CREDIT, sender).await?;
        Ok(Self { keyspace: keyspace.clone(), id, updates })
    }

    /// The next events; `None` after the watch has ended, when the keys have to be read again.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let events = match self.updates.recv().await {
                Some((_, WatchUpdate::Created { .. })) => continue,
                Some((_, WatchUpdate::Progress { .. })) => None,
                Some((_, WatchUpdate::Events { events, .. })) => Some(events),
                Some((_, WatchUpdate::Compacted { .. })) => return None,
                Some((_, WatchUpdate::Lost { .. })) | None => {
                    tokio::time::sleep(LOST).await;
                    return None;
                }
            };
            // The watch also ends when the node stops.
            self.keyspace.allow(self.id, 1).await.ok()?;
            if events.is_some() {
                return events;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.keyspace.abandon_watch(self.id);
    }
}
