//! Upgrades of the network: which nodes can read the newest version of data, and its being switched on.

use starling_api::admin::{Node, Nodes, Upgrade};
use starling_core::WriteFailure;
use starling_core::upgrade::{DATA_FIRST, DATA_NEWEST, finalize};

use crate::Gossip;

/// Why the newest version of data was not switched on.
#[derive(Debug, thiserror::Error)]
pub enum FinalizeError {
    /// A node cannot read it, or did not answer.
    #[error("data version {newest} cannot be switched on: {}", obstacles.join("; "))]
    Obstacles {
        /// The version.
        newest: u16,
        /// One reason for each node.
        obstacles: Vec<String>,
    },
    /// The write failed.
    #[error(transparent)]
    Write(#[from] WriteFailure),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// How far the network is, as a crawl that began at this node found it.
pub fn assess(found: Nodes) -> Upgrade {
    let abilities = |node: &Node| node.abilities.unwrap_or_default();
    let in_force = found.nodes.iter().map(|node| abilities(node).data_in_force).max().unwrap_or_default();
    let in_force = in_force.max(DATA_FIRST);
    let mut obstacles = Vec::new();
    if in_force < DATA_NEWEST {
        // A seed keeps no data: whether it can read any does not matter.
        let keeps = found.nodes.iter().filter(|node| node.role != "seed");
        obstacles.extend(keeps.filter_map(|node| {
            let name = label(&node.name, &node.id);
            match node.abilities {
                None => Some(format!("{name} runs {} and does not say what it reads", node.version)),
                Some(it) if it.data_newest < DATA_NEWEST => Some(format!(
                    "{name} runs {} and reads data up to version {}",
                    node.version, it.data_newest
                )),
                Some(_) => None,
            }
        }));
        let silent = found.unreachable.iter().map(|node| label(&node.name, &node.id));
        obstacles.extend(silent.map(|name| format!("{name} did not answer")));
    }
    let Nodes { nodes, unreachable, .. } = found;
    Upgrade { in_force, newest: DATA_NEWEST, obstacles, nodes, unreachable }
}

fn label(name: &str, id: &str) -> String {
    format!("{name} ({})", id.get(..8).unwrap_or(id))
}

impl Gossip {
    /// How far the network is in an upgrade; `None`: the node is stopping.
    pub async fn upgrade(&self) -> Option<Upgrade> {
        self.crawl().await.map(assess)
    }

    /// Switches the newest version of data on, for ever; with `force` although there are obstacles.
    ///
    /// # Errors
    /// There are obstacles, or the write failed; nothing was changed.
    pub async fn finalize_upgrade(&self, force: bool) -> Result<Upgrade, FinalizeError> {
        let found = self.upgrade().await.ok_or(FinalizeError::Stopping)?;
        if !found.obstacles.is_empty() && !force {
            return Err(FinalizeError::Obstacles { newest: found.newest, obstacles: found.obstacles });
        }
        if found.in_force < found.newest {
            let switch = finalize(found.newest, env!("CARGO_PKG_VERSION"));
            self.write(switch).await.ok_or(FinalizeError::Stopping)??;
        }
        Ok(Upgrade { in_force: found.in_force.max(found.newest), obstacles: Vec::new(), ..found })
    }
}

#[cfg(test)]
mod tests {
    use starling_api::admin::{Abilities, Unreachable};

    use super::*;

    fn node(name: &str, role: &str, reads: Option<u16>) -> Node {
        let abilities =
            reads.map(|data_newest| Abilities { data_newest, data_in_force: 1, ..Abilities::default() });
        let (id, version) = ("0123456789".into(), "0.0.9".into());
        Node { name: name.into(), role: role.into(), id, version, abilities, ..Node::default() }
    }

    #[test]
    fn a_node_that_cannot_read_it_or_did_not_answer_is_an_obstacle_and_a_seed_is_none() {
        let ready = || node("a", "replica", Some(DATA_NEWEST));
        let nodes = vec![
            ready(),
            node("b", "replica", Some(DATA_NEWEST - 1)),
            node("c", "replica", None),
            node("s", "seed", None),
        ];
        let unreachable = vec![Unreachable { name: "d".into(), id: "ab".into(), ..Unreachable::default() }];
        let found = assess(Nodes { nodes, unreachable, ..Nodes::default() });
        assert_eq!((found.in_force, found.newest), (1, DATA_NEWEST));
        assert_eq!(
            found.obstacles,
            [
                "b (01234567) runs 0.0.9 and reads data up to version 1",
                "c (01234567) runs 0.0.9 and does not say what it reads",
                "d (ab) did not answer",
            ]
        );
        assert!(assess(Nodes { nodes: vec![ready()], ..Nodes::default() }).obstacles.is_empty());
    }

    #[test]
    fn what_is_in_force_has_no_obstacles() {
        let mut ahead = node("a", "replica", Some(DATA_NEWEST));
        ahead.abilities = ahead.abilities.map(|it| Abilities { data_in_force: DATA_NEWEST, ..it });
        let found = assess(Nodes { nodes: vec![ahead, node("c", "replica", None)], ..Nodes::default() });
        assert_eq!((found.in_force, found.obstacles.len()), (DATA_NEWEST, 0));
    }
}
