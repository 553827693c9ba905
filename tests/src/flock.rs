//! A strong keyspace on some nodes, and one node that is no member.

use std::process::Command;

use starling_api::ErrorCode;
use starling_api::strong::{CreateKeyspace, StrongInfo};

use crate::network::joined;
use crate::node::Node;
use crate::wait::wait_until;

/// The strong keyspace of a [`flock`].
pub const KEYSPACE: &str = "orders";

/// Nodes a to d, joined, with [`KEYSPACE`] on a, b and c; d is no member. Each serves it to etcd clients.
pub async fn flock() -> Vec<Node> {
    let served = |name: &str| Node::up(name).set("etcd.listen", &format!("127.0.0.1:0={KEYSPACE}"));
    let mut nodes = vec![served("a").started().await];
    let ticket = nodes[0].ticket().await.to_string();
    for name in ["b", "c", "d"] {
        nodes.push(served(name).join(&ticket).started().await);
    }
    joined(&nodes.iter().collect::<Vec<_>>()).await;
    let on = vec!["a".into(), "b".into(), "c".into()];
    let create = CreateKeyspace { name: KEYSPACE.into(), voters: 3, on, manual: false };
    wait_until("the keyspace is made", async || match nodes[0].client().create_keyspace(&create).await {
        Ok(_) => Ok(()),
        Err(error) if error.code == ErrorCode::Conflict => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    for node in &nodes {
        heard_of(node, KEYSPACE).await;
    }
    led(&nodes[3]).await;
    nodes
}

/// Waits until a node has heard of a strong keyspace.
pub async fn heard_of(node: &Node, keyspace: &str) {
    wait_until(&format!("{} has heard of {keyspace}", node.name()), async || {
        let found = node.client().keyspaces().await.map_err(|error| error.to_string())?;
        let is_it = |name: &str, kind: &str| name == keyspace && kind == "strong";
        found.keyspaces.iter().any(|it| is_it(&it.name, &it.kind)).then_some(()).ok_or("not yet".into())
    })
    .await;
}

/// Waits until [`KEYSPACE`] has a leader, as this node sees it.
pub async fn led(node: &Node) -> StrongInfo {
    wait_until("somebody leads", async || {
        let info = node.client().strong_info(KEYSPACE).await.map_err(|error| error.to_string())?;
        info.filter(|info| info.leader.is_some()).ok_or_else(|| "nobody leads".into())
    })
    .await
}

/// Which of these nodes leads.
pub fn leader(nodes: &[Node], info: &StrongInfo) -> usize {
    let name = info.leader.as_deref().expect("somebody leads");
    nodes.iter().position(|node| node.name() == name).expect("one of them")
}

/// etcdctl, asking a node for [`KEYSPACE`].
pub fn etcdctl(node: &Node, args: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    let endpoint = format!("--endpoints=http://{}", node.etcd(KEYSPACE));
    command.env("ETCDCTL_API", "3").arg(endpoint).args(args);
    command
}
