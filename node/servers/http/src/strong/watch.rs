//! Watches of strong keyspaces as server-sent events: every change, in order.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use starling_api::strong::{Keys, StrongEvent};
use starling_api::{Blob, ErrorBody};
use starling_service::{Call, Calls, WatchId};
use starling_strong::api::{Event as Change, EventKind, Watch, WatchUpdate};
use tokio::sync::mpsc;

use super::super::App;
use super::super::request::Query;
use super::{Problem, convert};

/// Updates asked for at a time. A guess: one is read while the next are on their way.
const CREDIT: u32 = 4;
/// Those, that the watch stands, and that it has ended.
const UPDATES_MAX: usize = CREDIT as usize + 2;

/// Watches keys of a strong keyspace that begin with `prefix`, from a revision on or from now on.
///
/// Events: `ready` once at the start, then `put` and `delete` for every change, in order and none left
/// out; `compacted` or `lost` is the last one.
#[utoipa::path(get, path = "/v1/strong/{keyspace}/watch", tag = "strong",
    params(("keyspace" = String, Path),
        ("prefix" = Option<String>, Query, description = "only keys that begin with this"),
        ("from_revision" = Option<u64>, Query, description = "the first revision to be told"),
        ("if_strong" = Option<bool>, Query,
            description = "answer `other_keyspace` at once where this node knows no strong keyspace of the name")),
    responses((status = 200, body = StrongEvent, content_type = "text/event-stream"),
        (status = "4XX", body = ErrorBody)))]
pub async fn watch(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
    mut query: Query,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    app.reader()?;
    let keys = convert::keys(Keys::Prefix(Blob(query.bytes("prefix").unwrap_or_default())));
    let from_revision = query.number("from_revision")?.unwrap_or(0);
    app.check_if_strong(&mut query, &keyspace)?;
    query.finish()?;
    // Whether there is such a keyspace is said at once, and not by a watch that is lost later.
    app.gossip.group(&keyspace, false).await.ok_or_else(Problem::stopping)??;
    let (sender, updates) = mpsc::channel(UPDATES_MAX);
    let (id, calls) = (WatchId::fresh(), app.gossip.calls().clone());
    let watch = Watch { keys, from_revision, prev: false, only: None };
    let call = Call::Watch { keyspace: keyspace.into(), id, watch, credit: CREDIT, updates: sender };
    calls.send(call).await.map_err(|_| Problem::stopping())?;
    let watcher = Watcher { id, calls, updates, taken: 0, events: VecDeque::new(), ended: false };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        let data = serde_json::to_string(&event).expect("the API's types serialize");
        Some((Ok(Event::default().event(event.name()).data(data)), watcher))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

struct Watcher {
    id: WatchId,
    calls: Calls,
    updates: mpsc::Receiver<(WatchId, WatchUpdate)>,
    /// Since more were asked for.
    taken: u32,
    /// Of the update at hand, still to be told.
    events: VecDeque<StrongEvent>,
    ended: bool,
}

impl Watcher {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<StrongEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let (_, update) = self.updates.recv().await?;
            self.take(update).await;
        }
    }

    async fn take(&mut self, update: WatchUpdate) {
        let event = match update {
            WatchUpdate::Created { revision } => StrongEvent::Ready { revision },
            WatchUpdate::Events { events, .. } => {
                self.events.extend(events.into_iter().map(changed));
                return self.ask_more().await;
            }
            WatchUpdate::Progress { .. } => return self.ask_more().await,
            WatchUpdate::Compacted { oldest } => StrongEvent::Compacted { oldest },
            WatchUpdate::Lost { reason } => StrongEvent::Lost { reason },
        };
        self.ended = !matches!(event, StrongEvent::Ready { .. });
        self.events.push_back(event);
    }

    async fn ask_more(&mut self) {
        self.taken += 1;
        if self.taken >= CREDIT / 2 {
            let credit = std::mem::take(&mut self.taken);
            // A node that has gone ends the watch by itself.
            drop(self.calls.send(Call::More { id: self.id, credit }).await);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // If it is lost, the node ends the watch when it has something to tell and nobody reads.
        drop(self.calls.try_send(Call::Unwatch { id: self.id }));
    }
}

fn changed(change: Change) -> StrongEvent {
    match change.kind {
        EventKind::Put => StrongEvent::Put { kv: convert::kv(change.kv) },
        EventKind::Delete => {
            StrongEvent::Delete { key: Blob(change.kv.key), revision: change.kv.mod_revision }
        }
    }
}
