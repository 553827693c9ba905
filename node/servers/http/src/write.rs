//! Writes: every door's write becomes a batch for the gossip thread.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use starling_api::{
    BatchRequest, BatchResponse, Blob, Count, ErrorBody, Operation, WriteRequest, WriteResult,
};
use starling_kv::{Batch, Check, Limits, Op, Outcome, Write};

use super::App;
use super::problem::Problem;
use super::request::{JSON_EXPANSION, KeyPath, check, read_json};

/// What JSON adds to one write beside its bytes: names of fields, a version, numbers.
const JSON_WRITE_BYTES: usize = 256;

/// Largest JSON body that a batch within the limits can need.
pub fn json_bytes_max(limits: &Limits) -> usize {
    let per_write = JSON_WRITE_BYTES / Limits::WRITE_OVERHEAD_BYTES;
    limits.batch_bytes_max * (JSON_EXPANSION + per_write)
}

impl App {
    /// Several writes, all or nothing.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteResult>, Problem> {
        for write in &writes {
            self.check_eventual(&write.keyspace)?;
        }
        let outcomes = self.gossip.write(Batch { writes }).await.ok_or_else(Problem::stopping)??;
        Ok(outcomes.into_iter().map(result).collect())
    }

    /// One write.
    pub async fn write_one(
        &self,
        path: KeyPath,
        op: Op,
        ttl_ms: Option<u64>,
        check: Option<Check>,
    ) -> Result<WriteResult, Problem> {
        let write = Write { keyspace: path.keyspace, key: path.key, op, ttl_ms, check };
        Ok(self.write(vec![write]).await?.pop().expect("one outcome per write"))
    }
}

fn result(outcome: Outcome) -> WriteResult {
    match outcome {
        Outcome::Put { version } => WriteResult::Put { version: version.to_string() },
        Outcome::Deleted { places, more } => WriteResult::Deleted { places, more },
        Outcome::Counter { value } => WriteResult::Counter { value: Count(value) },
        Outcome::Changed { fields } => WriteResult::Changed { fields },
        Outcome::Flag => WriteResult::Flag,
    }
}

/// Members or names as the store takes them.
pub fn blobs(blobs: Vec<Blob>) -> Vec<bytes::Bytes> {
    blobs.into_iter().map(|blob| blob.0.into()).collect()
}

fn operation(operation: Operation) -> Op {
    match operation {
        Operation::Put { value } => Op::Put(value.0.into()),
        Operation::Delete => Op::Delete,
        Operation::DeletePrefix => Op::DeletePrefix,
        Operation::Incr { by } => Op::Incr(by),
        Operation::SetAdd { members } => Op::SetAdd(blobs(members)),
        Operation::SetRemove { members } => Op::SetRemove(blobs(members)),
        Operation::MapPut { fields } => {
            Op::MapPut(fields.into_iter().map(|field| (field.name.0.into(), field.value.0.into())).collect())
        }
        Operation::MapDelete { names } => Op::MapDelete(blobs(names)),
        Operation::Flag { enabled } => Op::Flag(enabled),
    }
}

fn write(request: WriteRequest) -> Result<Write, Problem> {
    Ok(Write {
        keyspace: request.keyspace,
        key: request.key.0,
        op: operation(request.operation),
        ttl_ms: request.ttl_ms,
        check: request.if_version.as_deref().map(check).transpose()?,
    })
}

/// Several writes that happen together or not at all.
#[utoipa::path(post, path = "/v1/batch", tag = "keys", request_body = BatchRequest,
    responses((status = 200, body = BatchResponse), (status = "4XX", body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn batch(State(app): State<Arc<App>>, body: Body) -> Result<Json<BatchResponse>, Problem> {
    let request: BatchRequest = read_json(body, json_bytes_max(&app.limits)).await?;
    let writes = request.ops.into_iter().map(write).collect::<Result<_, _>>()?;
    Ok(Json(BatchResponse { results: app.write(writes).await? }))
}
