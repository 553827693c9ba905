//! Watches: changes of keys under a prefix, as server-sent events.

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use starling_api::{Error, Eventual, WATCH_KEEP_ALIVE, WatchEvent};
use std::convert::Infallible;

use super::Node;
use super::problem::Problem;
use super::request::{KeyPath, Query};

/// Watches keys that begin with `prefix`.
///
/// Events: `ready` once at the start, then `put` and `delete`; `lagged` is the last one of a reader
/// that fell behind. Changes in quick succession may be reported as one: each event shows the key as it
/// is, not each step it took.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/watch", tag = "keys",
    params(("keyspace" = String, Path),
        ("prefix" = Option<String>, Query, description = "only keys that begin with this")),
    responses((status = 200, body = WatchEvent, content_type = "text/event-stream"),
        (status = "4XX", body = Error)))]
pub async fn watch(
    node: Node,
    path: KeyPath,
    mut query: Query,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let prefix = query.bytes("prefix").unwrap_or_default();
    query.finish()?;
    let events =
        node.watch(&path.keyspace, &prefix).await?.filter_map(async |event| event.ok()).map(|event| {
            let data = serde_json::to_string(&event).expect("the API's types serialize");
            Ok(Event::default().event(event.name()).data(data))
        });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(WATCH_KEEP_ALIVE)))
}
