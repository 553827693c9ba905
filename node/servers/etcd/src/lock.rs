//! The lock service.

use starling_etcd_proto::v3lockpb as pb;
use starling_etcd_proto::v3lockpb::lock_server::Lock;
use starling_strong::api::{Delete, Keys, Request as Asked, Write};
use tonic::{Request, Response, Status};

use crate::claim::Claim;
use crate::failure::status;
use crate::keyspace::{Keyspace, Timing};

/// The service.
pub struct LockService(pub Keyspace);

#[tonic::async_trait]
impl Lock for LockService {
    /// Waits until the lock is held, or the client disconnects. The key's create revision is the fencing token.
    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>, Status> {
        let asked = request.into_inner();
        let mut claim = Claim::make(&self.0, &asked.name, asked.lease, Vec::new()).await?;
        let revision = claim.turn().await?;
        Ok(Response::new(pb::LockResponse { header: self.0.header(revision), key: claim.key.clone() }))
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let keys = Keys::One(request.into_inner().key);
        let write = Asked::Write(Write::Delete(Delete { keys, prev: false }));
        let answer = self.0.ask(write, timing).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::UnlockResponse { header: self.0.header(answer.revision) }))
    }
}
