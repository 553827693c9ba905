//! The endpoint of queues: the recipe of `starling_client`, for clients that have none.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use starling_api::Error;
use starling_api::queue::{BATCH_MAX, QueueAnswer, QueueCall, QueueRequest};
use starling_api::strong::{TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX};
use starling_client::{Keyspace, Named, Queue, Under};
use starling_service::Handle;
use tokio::time::Instant;

use super::CALL_BYTES_MAX;
use crate::guard::Node;
use crate::problem::Problem;
use crate::request::read_json;

/// Sends a request to a work queue in a strong keyspace: push, reserve, acknowledge, return. A name of a queue that does not
/// exist is that of an empty one.
#[utoipa::path(post, path = "/v1/strong/{keyspace}/queue", tag = "strong", params(("keyspace" = String, Path)),
    request_body = QueueCall,
    responses((status = 200, body = QueueAnswer), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn queue(
    node: Node,
    Path(keyspace): Path<String>,
    body: Body,
) -> Result<Json<QueueAnswer>, Problem> {
    let QueueCall { queue, request, request_id, fence } = read_json(body, CALL_BYTES_MAX).await?;
    let queue = Queue::new(Keyspace::new(Handle::clone(&node), keyspace), queue.0);
    let patience = Duration::from_millis(TIMEOUT_MS_DEFAULT);
    let how = Named { request_id: request_id.map(|id| id.client), fence, patience };
    Ok(Json(answer(&queue, request, &how).await?))
}

async fn answer(queue: &Queue<Handle>, request: QueueRequest, how: &Named) -> Result<QueueAnswer, Error> {
    Ok(match request {
        QueueRequest::Push { mut items } => {
            let items = match (items.len(), items.pop()) {
                // One item can be a single write.
                (1, Some(item)) => vec![queue.push(item, how).await?],
                (_, last) => {
                    items.extend(last);
                    queue.push_all(items, how).await?
                }
            };
            QueueAnswer::Pushed { items }
        }
        QueueRequest::Reserve { max, visible_ms, wait_ms } => {
            let deadline = Instant::now() + Duration::from_millis(wait_ms.min(TIMEOUT_MS_MAX));
            let (max, under) = (within(max)?, Under::New(visible_ms));
            let mut taker = queue.taker();
            let items = if wait_ms == 0 {
                taker.reserve(max, under).await?.1
            } else {
                taker.reserve_by(max, under, Some(deadline)).await?
            };
            QueueAnswer::Reserved { items }
        }
        QueueRequest::Ack { receipts, then } => {
            QueueAnswer::Acknowledged { results: queue.acknowledge(&receipts, then, how).await? }
        }
        QueueRequest::Nack { receipts, delay_ms } => {
            let mut items = Vec::with_capacity(within(receipts.len())?);
            for receipt in &receipts {
                items.push(queue.release(receipt, delay_ms, how).await?);
            }
            QueueAnswer::Returned { items }
        }
        QueueRequest::Touch { receipt } => QueueAnswer::Touched { ms: queue.touch(&receipt).await? },
        QueueRequest::Peek { max } => QueueAnswer::Peeked { items: queue.peek(within(max)?).await? },
        QueueRequest::Stats => QueueAnswer::Stats(queue.stats().await?),
        QueueRequest::SetRules { rules } => {
            queue.set_rules(&rules, how).await?;
            QueueAnswer::RulesSet
        }
        QueueRequest::Retry { keys } => {
            within(keys.len())?;
            let mut count = 0;
            for key in &keys {
                count += u64::from(queue.revive(key, how).await?);
            }
            QueueAnswer::Revived { count }
        }
    })
}

/// A number of items, which is bounded.
fn within(count: usize) -> Result<usize, Error> {
    if (1..=BATCH_MAX).contains(&count) {
        return Ok(count);
    }
    Err(Error::invalid(format!("{count} items in one request"), format!("ask for 1 to {BATCH_MAX}")))
}
