//! Watches of strong keyspaces as server-sent events: every change, in order.

use std::convert::Infallible;

use axum::extract::Path;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use starling_api::strong::StrongEvent;
use starling_api::{Error, Strong, WATCH_KEEP_ALIVE};

use super::super::Node;
use super::super::request::Query;
use super::Problem;

/// Watches keys of a strong keyspace that begin with `prefix`, from a revision on or from now on.
///
/// Events: `ready` once at the start, then `put` and `delete` for every change, in order and none left
/// out; `compacted` or `lost` is the last one.
#[utoipa::path(get, path = "/v1/strong/{keyspace}/watch", tag = "strong",
    params(("keyspace" = String, Path),
        ("prefix" = Option<String>, Query, description = "only keys that begin with this"),
        ("from_revision" = Option<u64>, Query, description = "the first revision whose events are sent"),
        ("if_strong" = Option<bool>, Query,
            description = "answer `other_keyspace` at once where this node knows no strong keyspace of the name")),
    responses((status = 200, body = StrongEvent, content_type = "text/event-stream"),
        (status = "4XX", body = Error)))]
pub async fn watch(
    node: Node,
    Path(keyspace): Path<String>,
    mut query: Query,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let prefix = query.bytes("prefix").unwrap_or_default();
    let from_revision = query.number("from_revision")?.unwrap_or(0);
    node.check_if_strong(&mut query, &keyspace)?;
    query.finish()?;
    let changes = node.changes(&keyspace, &prefix, from_revision).await?;
    let events = changes.filter_map(async |event| event.ok()).map(|event| {
        let data = serde_json::to_string(&event).expect("the API's types serialize");
        Ok(Event::default().event(event.name()).data(data))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(WATCH_KEEP_ALIVE)))
}
