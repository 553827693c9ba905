//! The members of the group that owns the keyspace.

use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use crate::failure::unsupported;
use crate::keyspace::Keyspace;

const VOTERS: &str = "members are changed with `starling keyspace voters add|remove|replace`";

/// The service.
pub struct ClusterService(pub Keyspace);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        _: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let group = self.0.status().await?;
        let header = self.0.header(group.revision);
        let members = group.members.into_iter().map(|member| pb::Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: member.learner,
        });
        Ok(Response::new(pb::MemberListResponse { header, members: members.collect() }))
    }

    async fn member_add(&self, _: Request<pb::Unsupported>) -> Result<Response<pb::Unsupported>, Status> {
        Err(unsupported(VOTERS))
    }

    async fn member_remove(&self, _: Request<pb::Unsupported>) -> Result<Response<pb::Unsupported>, Status> {
        Err(unsupported(VOTERS))
    }

    async fn member_update(&self, _: Request<pb::Unsupported>) -> Result<Response<pb::Unsupported>, Status> {
        Err(unsupported("a node announces its addresses automatically"))
    }

    async fn member_promote(&self, _: Request<pb::Unsupported>) -> Result<Response<pb::Unsupported>, Status> {
        Err(unsupported("a learner becomes a voter automatically, once it has caught up"))
    }
}
