//! The KV service.

use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::kv_server::Kv;
use starling_service::StrongError;
use starling_strong::api::{Answer, Body, Failure, Read, Request as Asked, Write};
use tonic::{Request, Response, Status};

use crate::convert::{self, unexpected, wire};
use crate::failure::{self, status};
use crate::keyspace::{Keyspace, Timing};
use crate::pages;

/// Largest write, in bytes, as in etcd (`--max-request-bytes`).
const REQUEST_BYTES_MAX: usize = 3 << 19;

/// The service.
pub struct KvService(pub Keyspace);

impl KvService {
    async fn ask(&self, asked: Asked, timing: Timing) -> Result<Answer, Status> {
        self.0.ask(asked, timing).await.map_err(|error| status(&error))
    }

    /// Reads. A stale read becomes a linearizable one on a node without a replica, and where the replica lacks writes
    /// that were acknowledged here.
    async fn read(&self, read: Read, timing: Timing) -> Result<Answer, StrongError> {
        if timing.stale {
            match self.0.ask(Asked::Read(read.clone()), timing).await {
                Err(StrongError::Failed(Failure::NoReplica(_))) => {}
                answered if self.0.shows_writes(&read, &answered) => return answered,
                _ => {}
            }
        }
        self.0.ask(Asked::Read(read), Timing { stale: false, ..timing }).await
    }
}

/// Rejects a message that is too large for an entry of the log.
fn check_size(message: &impl prost::Message) -> Result<(), Status> {
    if message.encoded_len() > REQUEST_BYTES_MAX {
        return Err(Status::invalid_argument(failure::TOO_LARGE));
    }
    Ok(())
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let mut timing = Timing::of(request.metadata());
        let asked = request.into_inner();
        timing.stale = asked.serializable;
        let range = convert::range(asked)?;
        let (revision, found) = pages::all(range, |range| self.read(Read::Range(range), timing)).await?;
        Ok(Response::new(convert::found(self.0.header(revision), found)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let asked = request.into_inner();
        check_size(&asked)?;
        let write = Write::Put(convert::put(asked)?);
        let answer = self.ask(Asked::Write(write), timing).await?;
        let Body::Put { prev } = answer.body else { return Err(unexpected()) };
        let header = self.0.header(answer.revision);
        Ok(Response::new(pb::PutResponse { header, prev_kv: prev.map(convert::key_value) }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let asked = request.into_inner();
        check_size(&asked)?;
        let write = Write::Delete(convert::delete(asked)?);
        let answer = self.ask(Asked::Write(write), timing).await?;
        let Body::Delete { deleted, prev } = answer.body else { return Err(unexpected()) };
        Ok(Response::new(pb::DeleteRangeResponse {
            header: self.0.header(answer.revision),
            deleted: wire(deleted),
            prev_kvs: convert::prev(prev),
        }))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let mut timing = Timing::of(request.metadata());
        let asked = request.into_inner();
        check_size(&asked)?;
        timing.stale = convert::is_serializable(&asked);
        let txn = convert::txn(asked)?;
        let answer = if txn.writes() {
            self.ask(Asked::Write(Write::Txn(txn)), timing).await?
        } else {
            self.read(Read::Txn(txn), timing).await.map_err(|error| status(&error))?
        };
        let header = self.0.header(answer.revision);
        convert::txn_answer(header, answer.body).map(Response::new)
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let revision = convert::unsigned(request.into_inner().revision);
        let answer = self.ask(Asked::Write(Write::Compact { revision }), timing).await?;
        Ok(Response::new(pb::CompactionResponse { header: self.0.header(answer.revision) }))
    }
}
