//! The maintenance service.

use std::pin::Pin;

use futures::Stream;
use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::maintenance_server::Maintenance;
use starling_strong::api::{Body, Read, Request as Asked, Revision};
use tonic::{Request, Response, Status};

use crate::convert::{unexpected, unsigned, wire};
use crate::failure::{status, unsupported};
use crate::keyspace::{Keyspace, Timing};

/// The version of etcd's API, by which some clients choose their calls. From 3.5.13 on the progress that a client requests
/// follows all events up to its revision, on all watches of the stream, also on those that never get an event: a
/// kube-apiserver needs that to serve lists from its cache.
pub const API_VERSION: &str = "3.5.13";

/// The service.
pub struct MaintenanceService(pub Keyspace);

impl MaintenanceService {
    /// Four bytes of this replica's hash, its revision, and the oldest revision that is kept. The bits are inverted:
    /// clients take 0, which an empty keyspace would have, for no hash.
    async fn hash_here(&self) -> Result<(u32, Revision, Revision), Status> {
        let timing = Timing { stale: true, ..Timing::default() };
        let answer = self.0.ask(Asked::Read(Read::Hash), timing).await.map_err(|error| status(&error))?;
        let Body::Hash { hash, compacted } = answer.body else { return Err(unexpected()) };
        Ok((!u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]), answer.revision, compacted))
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let group = self.0.status().await?;
        let own = self.0.member_id(&group);
        let learner = group.members.iter().any(|member| member.id == own && member.learner);
        let errors =
            if group.leader.is_none() { vec!["etcdserver: no leader".to_owned()] } else { Vec::new() };
        Ok(Response::new(pb::StatusResponse {
            header: self.0.header(group.revision),
            version: API_VERSION.to_owned(),
            db_size: wire(group.bytes),
            leader: group.leader.unwrap_or(0),
            raft_index: group.log_index,
            raft_term: group.term,
            raft_applied_index: group.applied_index,
            errors,
            db_size_in_use: wire(group.bytes),
            is_learner: learner,
        }))
    }

    /// There are no alarms: a full keyspace rejects each write with its own error, and accepts writes again as soon as
    /// there is space.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        use pb::alarm_request::AlarmAction;
        if request.into_inner().action() == AlarmAction::Activate {
            return Err(unsupported("Starling has no alarms: a keyspace is full, or it is not"));
        }
        let group = self.0.status().await?;
        Ok(Response::new(pb::AlarmResponse { header: self.0.header(group.revision), alarms: Vec::new() }))
    }

    /// Does nothing: the store frees space automatically. As in etcd, the answer has no header.
    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let (hash, revision, _) = self.hash_here().await?;
        Ok(Response::new(pb::HashResponse { header: self.0.header(revision), hash }))
    }

    /// Returns the hash of the newest revision only, because it is a rolling hash.
    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let asked = unsigned(request.into_inner().revision);
        let (hash, revision, compacted) = self.hash_here().await?;
        if asked != 0 && asked != revision {
            return Err(unsupported("only the newest revision has a hash: ask for revision 0"));
        }
        Ok(Response::new(pb::HashKvResponse {
            header: self.0.header(revision),
            hash,
            compact_revision: wire(compacted),
            hash_revision: wire(revision),
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::Unsupported, Status>> + Send>>;

    async fn snapshot(&self, _: Request<pb::Unsupported>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(unsupported("a keyspace is no file of etcd's: read it with a range at one revision"))
    }

    async fn move_leader(&self, _: Request<pb::Unsupported>) -> Result<Response<pb::Unsupported>, Status> {
        Err(unsupported("the leader is moved with `starling keyspace transfer-leader`"))
    }

    async fn downgrade(&self, _: Request<pb::Unsupported>) -> Result<Response<pb::Unsupported>, Status> {
        Err(unsupported("Starling has no cluster version"))
    }
}
