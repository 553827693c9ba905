//! The members of the group that owns the keyspace, and the nodes outside of it that serve the keyspace.

use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::cluster_server::Cluster;
use starling_service::EtcdServer;
use starling_strong::api::Member;
use tonic::{Request, Response, Status};

use crate::failure::unsupported;
use crate::keyspace::{Keyspace, outside_id};

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
        let servers = self.0.etcd_servers().await?;
        let header = self.0.header(group.revision);
        Ok(Response::new(pb::MemberListResponse { header, members: members(group.members, servers) }))
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

/// The group's members, and then the other servers, as etcd's own proxies list themselves: with neither of them a client
/// of such a server that synchronizes its endpoints would be left without any.
fn members(group: Vec<Member>, mut servers: Vec<EtcdServer>) -> Vec<pb::Member> {
    let mut members = Vec::new();
    for member in group {
        let server =
            servers.iter().position(|server| server.node == member.node).map(|at| servers.remove(at));
        members.push(pb::Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls.iter().filter_map(|address| url(address)).collect(),
            client_ur_ls: server.map_or(member.client_urls, |server| server.urls),
            is_learner: member.learner,
        });
    }
    members.extend(servers.into_iter().map(|server| pb::Member {
        id: outside_id(server.node),
        name: server.name,
        peer_ur_ls: Vec::new(),
        client_ur_ls: server.urls,
        is_learner: false,
    }));
    members
}

/// A multiaddress of a node as a URL: `tcp` or `quic`.
fn url(address: &str) -> Option<String> {
    let mut parts = address.strip_prefix('/')?.split('/');
    let (kind, host, transport, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let scheme = match transport {
        "tcp" => "tcp",
        "udp" => "quic",
        _ => return None,
    };
    Some(if kind == "ip6" {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nodes_are_urls() {
        for (address, expected) in [
            ("/ip4/192.0.2.1/tcp/7400", "tcp://192.0.2.1:7400"),
            ("/ip4/192.0.2.1/udp/7400/quic-v1", "quic://192.0.2.1:7400"),
            ("/ip6/2001:db8::1/tcp/7400", "tcp://[2001:db8::1]:7400"),
            ("/dns4/node.example.org/tcp/7400", "tcp://node.example.org:7400"),
        ] {
            assert_eq!(url(address).as_deref(), Some(expected));
        }
        assert_eq!(url("/unix/x"), None);
    }

    #[test]
    fn members_have_the_urls_of_their_nodes_and_other_servers_come_behind() {
        let member = |id: u64, node: u8, client_urls: &[&str]| Member {
            id,
            node: [node; 32],
            name: format!("n{node}"),
            learner: false,
            behind: None,
            restoring: false,
            silent_ms: None,
            peer_urls: vec!["/ip4/192.0.2.1/tcp/1".into()],
            client_urls: client_urls.iter().map(|&url| url.to_owned()).collect(),
        };
        let server = |node: u8, url: &str| EtcdServer {
            node: [node; 32],
            name: format!("n{node}"),
            urls: vec![url.into()],
        };
        let group = vec![member(1, 1, &["http://old:1"]), member(2, 2, &["http://b:1"]), member(3, 3, &[])];
        let listed = members(group, vec![server(1, "http://a:1"), server(9, "http://z:1")]);
        let shown: Vec<_> = listed
            .iter()
            .map(|member| (member.id, member.name.as_str(), member.client_ur_ls.join(",")))
            .collect();
        let outside = outside_id([9; 32]);
        assert_eq!(
            shown,
            [
                (1, "n1", "http://a:1".to_owned()),
                (2, "n2", "http://b:1".to_owned()),
                (3, "n3", String::new()),
                (outside, "n9", "http://z:1".to_owned()),
            ]
        );
        assert!(listed[0].peer_ur_ls == ["tcp://192.0.2.1:1"] && listed[3].peer_ur_ls.is_empty());
    }
}
