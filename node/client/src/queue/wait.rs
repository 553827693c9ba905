//! Waiting for items.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use starling_api::strong::StrongEvent;
use starling_api::{Error, Strong};
use starling_strong::queue::{Change, change};
use tokio::time::{Instant, sleep};

use super::Queue;
use crate::keyspace::AGAIN;

/// Time over which the clients that wait for an item spread their attempts at first, and at most, so that those whose turn
/// comes after the item is gone need not try. Estimates: some times as long as a reservation takes on a local network.
const SPREAD: Duration = Duration::from_millis(50);
const SPREAD_MAX: Duration = Duration::from_millis(400);

impl<N: Strong + Sync> Queue<N> {
    /// Completes once an item became free at this revision or later and no other client has taken it when this one's turn
    /// has come, or the watch has ended.
    pub async fn until_free(&self, from: u64, turns: &mut Turns) -> Result<(), Error> {
        let mut events =
            self.keyspace.node().changes(self.keyspace.name(), &self.keys.prefix(), from).await?;
        let mut free = BTreeSet::new();
        // The items that were deleted at the revision of the last event.
        let (mut gone, mut at) = (BTreeSet::new(), 0);
        let turn = sleep(Duration::ZERO);
        tokio::pin!(turn);
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = &mut turn, if !free.is_empty() => return Ok(()),
            };
            let (key, revision, is_put) = match event.transpose()? {
                Some(StrongEvent::Put { kv }) => (kv.key, kv.mod_revision, true),
                Some(StrongEvent::Delete { key, revision }) => (key.0, revision, false),
                Some(StrongEvent::Ready { .. }) => continue,
                None | Some(StrongEvent::Compacted { .. } | StrongEvent::Lost { .. }) => break,
            };
            if revision != at {
                (gone, at) = (BTreeSet::new(), revision);
            }
            match change(&self.keys, &key, is_put) {
                Some(Change::Freed(item)) if !gone.contains(&item) => {
                    if free.is_empty() {
                        turn.as_mut().reset(Instant::now() + turns.draw());
                    }
                    free.insert(item);
                }
                Some(Change::Taken(item)) => drop(free.remove(&item)),
                Some(Change::Gone(item)) => {
                    free.remove(&item);
                    gone.insert(item);
                }
                Some(Change::Freed(_)) | None => {}
            }
        }
        sleep(AGAIN).await;
        Ok(())
    }
}

impl<N: Strong + Sync> Queue<N> {
    /// Completes once anything in the queue has changed at this revision or later, or the watch has ended.
    pub async fn until_changed(&self, from: u64) -> Result<(), Error> {
        let mut events =
            self.keyspace.node().changes(self.keyspace.name(), &self.keys.prefix(), from).await?;
        loop {
            match events.next().await.transpose()? {
                Some(StrongEvent::Ready { .. }) => {}
                Some(StrongEvent::Put { .. } | StrongEvent::Delete { .. }) => return Ok(()),
                None | Some(StrongEvent::Compacted { .. } | StrongEvent::Lost { .. }) => break,
            }
        }
        sleep(AGAIN).await;
        Ok(())
    }
}

/// When a client that waits for items tries to take one: after a random time, which grows with each attempt.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    spread: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { spread: SPREAD }
    }
}

impl Turns {
    /// How long to wait after an item became free.
    fn draw(&mut self) -> Duration {
        let pause = self.spread.mul_f64(rand::random());
        self.spread = (self.spread * 2).min(SPREAD_MAX);
        pause
    }
}
