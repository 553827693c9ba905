//! The lease service.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::lease_server::Lease;
use starling_service::StrongError;
use starling_strong::api::{Body, Failure, LeaseId, Read, Refusal, Request as Asked, Write};
use tonic::{Request, Response, Status, Streaming};

use crate::convert::{unexpected, wire};
use crate::failure::{self, status};
use crate::keyspace::{Keyspace, Timing};

/// The longest lease, in seconds, as in etcd.
const TTL_S_MAX: i64 = 9_000_000_000;

/// Keep-alives of one stream that are under way, at most. A guess: 1,600 a second over a round trip of 40 ms.
const KEPT_ALIVE_MAX: usize = 64;

/// The service.
pub struct LeaseService(pub Keyspace);

#[tonic::async_trait]
impl Lease for LeaseService {
    /// Grants a lease of at least one second; the answer contains the actual time.
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let asked = request.into_inner();
        if asked.ttl > TTL_S_MAX {
            return Err(Status::out_of_range(failure::LEASE_TTL));
        }
        let ttl_ms = u64::try_from(asked.ttl).unwrap_or(0).max(1) * 1000;
        let write = Asked::Write(Write::LeaseGrant { id: asked.id, ttl_ms });
        let answer = self.0.ask(write, timing).await.map_err(|error| status(&error))?;
        let Body::LeaseGranted { id, ttl_ms } = answer.body else { return Err(unexpected()) };
        let header = self.0.header(answer.revision);
        Ok(Response::new(pb::LeaseGrantResponse { header, id, ttl: seconds(ttl_ms), error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let write = Asked::Write(Write::LeaseRevoke { id: request.into_inner().id });
        let answer = self.0.ask(write, timing).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.0.header(answer.revision) }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    /// Answers the requests of the stream in their order, several of them under way at a time: a client keeps all its
    /// leases alive over one stream.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let keyspace = self.0.clone();
        let answers = request.into_inner().map(move |asked| {
            let keyspace = keyspace.clone();
            async move { keep_alive(&keyspace, asked?.id).await }
        });
        Ok(Response::new(Box::pin(answers.buffered(KEPT_ALIVE_MAX))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let asked = request.into_inner();
        let answer = match self.0.ask(Asked::TimeToLive { id: asked.id, keys: asked.keys }, timing).await {
            Ok(answer) => answer,
            Err(StrongError::Failed(Failure::Refused(Refusal::LeaseNotFound(id)))) => {
                // As in etcd this is not an error, but a lease with a negative time left.
                let header = self.0.header(self.0.status().await?.revision);
                let gone = pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() };
                return Ok(Response::new(gone));
            }
            Err(error) => return Err(status(&error)),
        };
        let Body::TimeToLive { id, granted_ms, left_ms, keys } = answer.body else {
            return Err(unexpected());
        };
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header: self.0.header(answer.revision),
            id,
            ttl: seconds(left_ms),
            granted_ttl: seconds(granted_ms),
            keys,
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let answer = self.0.ask(Asked::Read(Read::Leases), timing).await.map_err(|error| status(&error))?;
        let Body::Leases { leases: ids } = answer.body else { return Err(unexpected()) };
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: self.0.header(answer.revision), leases }))
    }
}

async fn keep_alive(keyspace: &Keyspace, id: LeaseId) -> Result<pb::LeaseKeepAliveResponse, Status> {
    match keyspace.ask(Asked::KeepAlive { id }, Timing::default()).await {
        Ok(answer) => {
            let Body::KeptAlive { id, ttl_ms } = answer.body else { return Err(unexpected()) };
            let header = keyspace.header(answer.revision);
            Ok(pb::LeaseKeepAliveResponse { header, id, ttl: seconds(ttl_ms) })
        }
        // This is not an error of the stream, which serves other leases too.
        Err(StrongError::Failed(Failure::Refused(Refusal::LeaseNotFound(id)))) => {
            let header = keyspace.header(keyspace.status().await?.revision);
            Ok(pb::LeaseKeepAliveResponse { header, id, ttl: 0 })
        }
        Err(error) => Err(status(&error)),
    }
}

fn seconds(ms: u64) -> i64 {
    wire(ms / 1000)
}
