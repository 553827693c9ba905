//! Writes: each becomes a batch.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use starling_api::{Batch, BatchResponse, Blob, Check, Error, NEW_KEYSPACE_HEADER, Op, Outcome, Write};
use starling_kv::{Limits, Range};

use super::problem::Problem;
use super::request::{JSON_EXPANSION, KeyPath, read_json};
use super::{App, Node};

/// What JSON adds to one write beside its bytes: names of fields, a version, numbers.
const JSON_WRITE_BYTES: usize = 256;

/// Largest JSON body that a batch within the limits can need.
pub fn json_bytes_max(limits: &Limits) -> usize {
    let per_write = JSON_WRITE_BYTES / Limits::WRITE_OVERHEAD_BYTES;
    limits.batch_bytes_max * (JSON_EXPANSION + per_write)
}

impl Node {
    /// Several writes, all or nothing.
    pub async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Outcome>, Problem> {
        Ok(self.write(Batch { writes }).await?)
    }

    /// One write.
    pub async fn write_one(
        &self,
        path: KeyPath,
        op: Op,
        ttl_ms: Option<u64>,
        check: Option<Check>,
    ) -> Result<Outcome, Problem> {
        let write = Write { keyspace: path.keyspace, key: path.key, op, ttl_ms, check };
        Ok(self.write_all(vec![write]).await?.pop().expect("one outcome per write"))
    }
}

/// Notes in the answer of a write whether it made its keyspace, for clients that want to know it: a person may have
/// misspelt the name.
pub async fn note_new_keyspace(
    State(app): State<Arc<App>>,
    path: Result<KeyPath, Problem>,
    request: Request,
    next: Next,
) -> Response {
    let asked = request.method() != Method::GET && request.headers().contains_key(NEW_KEYSPACE_HEADER);
    let keyspace = path.ok().filter(|_| asked).and_then(|path| app.unrestricted.eventual(path.keyspace).ok());
    let is_new = match keyspace {
        Some(keyspace) => keyspace
            .list(&Range::default(), 1, 0)
            .await
            .is_ok_and(|page| page.items.is_empty() && page.next.is_none()),
        None => false,
    };
    let mut response = next.run(request).await;
    if is_new && response.status().is_success() {
        response.headers_mut().insert(NEW_KEYSPACE_HEADER, HeaderValue::from_static("true"));
    }
    response
}

/// Members or names as the store takes them.
pub fn blobs(blobs: Vec<Blob>) -> Vec<bytes::Bytes> {
    blobs.into_iter().map(|blob| blob.0.into()).collect()
}

/// Several writes that happen together or not at all.
#[utoipa::path(post, path = "/v1/batch", tag = "keys", request_body = Batch,
    responses((status = 200, body = BatchResponse), (status = "4XX", body = Error), (status = 503, body = Error)))]
pub async fn batch(node: Node, body: Body) -> Result<Json<BatchResponse>, Problem> {
    let batch: Batch = read_json(body, json_bytes_max(node.limits())).await?;
    Ok(Json(BatchResponse { results: node.write_all(batch.writes).await? }))
}
