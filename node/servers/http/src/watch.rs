//! Watches: changes of keys under a prefix, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream;
use starling_api::{Blob, ErrorBody, WatchEvent};
use starling_kv::Reader;
use starling_rocks::RocksEngine;
use tokio::sync::broadcast::{self, error::RecvError};

use super::App;
use super::problem::Problem;
use super::read;
use super::request::{KeyPath, Query};
use starling_service::ChangeSet;

/// One watcher. Its queue of changes is bounded by the broadcast channel: whoever falls behind by
/// more is told so, and the watch ends.
struct Watcher {
    reader: Reader<RocksEngine>,
    changes: broadcast::Receiver<Arc<ChangeSet>>,
    keyspace: String,
    prefix: Vec<u8>,
    /// Keys of the change set at hand that are still to be told.
    keys: VecDeque<Vec<u8>>,
    begun: bool,
    ended: bool,
}

/// Watches keys that begin with `prefix`.
///
/// Events: `ready` once at the start, then `put` and `delete`; `lagged` is the last one of a reader
/// that fell behind. Changes in quick succession may be told as one: each event shows the key as it
/// is, not each step it took.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/watch", tag = "keys",
    params(("keyspace" = String, Path),
        ("prefix" = Option<String>, Query, description = "only keys that begin with this")),
    responses((status = 200, body = WatchEvent, content_type = "text/event-stream"),
        (status = "4XX", body = ErrorBody)))]
pub async fn watch(
    State(app): State<Arc<App>>,
    path: KeyPath,
    mut query: Query,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let watcher = Watcher {
        reader: app.reader()?.clone(),
        changes: app.changes.subscribe(),
        keyspace: path.keyspace,
        prefix: query.bytes("prefix").unwrap_or_default(),
        keys: VecDeque::new(),
        begun: false,
        ended: false,
    };
    query.finish()?;
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        let data = serde_json::to_string(&event).expect("the API's types serialize");
        Some((Ok(Event::default().event(event.name()).data(data)), watcher))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

impl Watcher {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<WatchEvent> {
        if self.ended {
            return None;
        }
        if !self.begun {
            self.begun = true;
            return Some(WatchEvent::Ready);
        }
        loop {
            if let Some(key) = self.keys.pop_front() {
                return Some(self.look_up(key));
            }
            match self.changes.recv().await {
                Ok(changes) => self.keys.extend(self.matching(&changes)),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => {
                    return Some(self.end("list the keys to see where they are, then watch again"));
                }
            }
        }
    }

    fn matching(&self, changes: &ChangeSet) -> Vec<Vec<u8>> {
        let wanted = changes
            .iter()
            .filter(|change| change.keyspace == self.keyspace && change.key.starts_with(&self.prefix));
        wanted.map(|change| change.key.clone()).collect()
    }

    fn look_up(&mut self, key: Vec<u8>) -> WatchEvent {
        match read::entry(&self.reader, &self.keyspace, &key) {
            Ok(Some(entry)) => WatchEvent::Put(entry),
            Ok(None) => WatchEvent::Delete { keyspace: self.keyspace.clone(), key: Blob(key) },
            Err(_) => self.end("the store cannot be read: `starling doctor` checks it"),
        }
    }

    fn end(&mut self, hint: &str) -> WatchEvent {
        self.ended = true;
        WatchEvent::Lagged { hint: hint.into() }
    }
}
