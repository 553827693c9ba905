//! Watches of eventual keyspaces: which keys have changed, and what they hold now.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use starling_kv::Contents;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::access::{TOKEN_OVER, WatchPlace};
use crate::command::ChangeSet;
use crate::eventual::EventualKeyspace;

/// Members and fields of a changed key that an event carries.
const FIELDS_MAX: usize = starling_api::PAGE_KEYS_DEFAULT;

/// A key changed. Changes in quick succession may be reported as one: an event shows the key as it is, not
/// each step it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// The key holds this now.
    Put {
        /// The key.
        key: Vec<u8>,
        /// What it holds, of every type.
        held: Contents,
    },
    /// The key holds nothing any more.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// The last event: changes were left out.
    Lagged {
        /// What to do next, one line.
        hint: &'static str,
    },
}

/// A watch: [`EventualKeyspace::watch`]. Its queue of changes is bounded by the node: a watcher that falls behind by
/// more than 1,024 commits gets [`KeyEvent::Lagged`], and the watch ends. Dropping it ends it as well.
pub struct EventualWatch {
    keyspace: EventualKeyspace,
    changes: broadcast::Receiver<Arc<ChangeSet>>,
    prefix: Vec<u8>,
    /// Keys of the change set at hand that have not been reported.
    keys: VecDeque<Vec<u8>>,
    /// Completes when the caller's token counts no more.
    over: BoxFuture<'static, ()>,
    _place: WatchPlace,
    ended: bool,
}

impl EventualWatch {
    pub(crate) fn new(
        keyspace: EventualKeyspace,
        changes: broadcast::Receiver<Arc<ChangeSet>>,
        prefix: Vec<u8>,
        place: WatchPlace,
    ) -> Self {
        let over = keyspace.node.caller().over();
        Self { keyspace, changes, prefix, keys: VecDeque::new(), over, _place: place, ended: false }
    }

    /// The keyspace that is watched.
    pub fn keyspace(&self) -> &str {
        &self.keyspace.keyspace
    }

    /// The next event; `None` after the last one, and once the node has stopped.
    pub async fn next(&mut self) -> Option<KeyEvent> {
        while !self.ended {
            if let Some(key) = self.keys.pop_front() {
                return Some(self.look_up(key));
            }
            let changes = tokio::select! {
                changes = self.changes.recv() => changes,
                () = &mut self.over => return Some(self.end(TOKEN_OVER)),
            };
            match changes {
                Ok(changes) => self.keys.extend(self.matching(&changes)),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => {
                    return Some(self.end("list the keys to see where they are, then watch again"));
                }
            }
        }
        None
    }

    fn matching(&self, changes: &ChangeSet) -> Vec<Vec<u8>> {
        let wanted = changes.iter().filter(|change| {
            change.keyspace == self.keyspace.keyspace && change.key.starts_with(&self.prefix)
        });
        wanted.map(|change| change.key.clone()).collect()
    }

    fn look_up(&mut self, key: Vec<u8>) -> KeyEvent {
        match self.keyspace.held(&key, FIELDS_MAX) {
            // What only a newer version can read is not shown.
            Ok(Some(held)) if !held.kinds().is_empty() => KeyEvent::Put { key, held },
            Ok(_) => KeyEvent::Delete { key },
            Err(_) => self.end("the store cannot be read: `starling doctor` checks it"),
        }
    }

    fn end(&mut self, hint: &'static str) -> KeyEvent {
        self.ended = true;
        KeyEvent::Lagged { hint }
    }
}
