//! Several nodes.

use crate::node::Node;
use crate::wait::wait_until;

/// Waits until every one of these nodes has a neighbour.
pub async fn joined(nodes: &[&Node]) {
    for node in nodes {
        wait_until(&format!("{} has joined", node.name()), async || match node.status().await {
            status if status.joined && status.active > 0 => Ok(()),
            status => Err(format!("{} active, {} passive peers", status.active, status.passive)),
        })
        .await;
    }
}

/// Waits until each of these nodes is a neighbour of all others, by what the others report: a node that was stopped reports
/// the neighbours that it had, until it notices that they have closed its links.
pub async fn linked(nodes: &[&Node]) {
    for node in nodes {
        let others: Vec<&str> = nodes.iter().map(|other| other.id()).filter(|id| *id != node.id()).collect();
        wait_until(&format!("{} is linked with the others", node.name()), async || {
            let peers = node.client().peers().await.expect("the node answers").peers;
            let is_linked = |id: &&str| peers.iter().any(|peer| peer.id == *id && peer.view == "active");
            if others.iter().all(is_linked) { Ok(()) } else { Err(format!("{peers:?}")) }
        })
        .await;
    }
}

/// Waits until these nodes hold the same.
pub async fn equal(nodes: &[&Node]) {
    wait_until("all replicas are equal", async || {
        let mut roots = Vec::new();
        for node in nodes {
            roots.push(node.status().await.root.ok_or(format!("{} has no root yet", node.name()))?);
        }
        if roots.windows(2).all(|pair| pair[0] == pair[1]) { Ok(()) } else { Err(roots.join(" ")) }
    })
    .await;
}

/// Two nodes that are neighbours.
pub async fn pair() -> (Node, Node) {
    let a = Node::up("a").started().await;
    let b = Node::up("b").join(&a.ticket().await.to_string()).started().await;
    joined(&[&a, &b]).await;
    (a, b)
}

/// Two nodes of one network that do not know of each other, until they [`meet`].
pub async fn strangers() -> (Node, Node) {
    let a = Node::up("a").started().await;
    let mut ticket = a.ticket().await;
    ticket.addresses.clear();
    let b = Node::up("b").join(&ticket.to_string()).started().await;
    (a, b)
}

/// Starts `b` again so that it joins `a`, and waits until they are equal.
pub async fn meet(a: &Node, b: &mut Node) {
    b.stop().await;
    b.also_join(a.address());
    b.start().await;
    joined(&[a, b]).await;
    equal(&[a, b]).await;
}
