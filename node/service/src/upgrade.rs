//! Upgrades of the network: the versions of data that its nodes can read, and the switch to the newest one.

use starling_api::admin::{Node, Nodes, Upgrade};
use starling_api::{Error, ErrorCode};
use starling_core::upgrade::{DATA_FIRST, DATA_NEWEST, finalize};

use crate::admin::Admin;

/// The progress of the upgrade, from the result of a crawl.
fn assess(found: Nodes) -> Upgrade {
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
                None => Some(format!("{name} runs {} and does not report what it reads", node.version)),
                Some(it) if it.data_newest < DATA_NEWEST => Some(format!(
                    "{name} runs {} and reads data up to version {}",
                    node.version, it.data_newest
                )),
                Some(_) => None,
            }
        }));
        obstacles.extend(found.unreachable.iter().map(|node| {
            let why = if node.left {
                "has left, and may come back with the software that it had"
            } else {
                "did not answer"
            };
            format!("{} {why}", label(&node.name, &node.id))
        }));
    }
    let Nodes { nodes, unreachable, .. } = found;
    Upgrade { in_force, newest: DATA_NEWEST, obstacles, nodes, unreachable }
}

fn label(name: &str, id: &str) -> String {
    format!("{name} ({})", id.get(..8).unwrap_or(id))
}

impl Admin {
    /// The progress of an upgrade, by a crawl. Takes seconds if nodes do not answer.
    pub async fn upgrade(&self) -> Result<Upgrade, Error> {
        self.nodes().await.map(assess)
    }

    /// Switches the newest version of data on, permanently; with `force` despite obstacles.
    ///
    /// # Errors
    /// `conflict`: a node cannot read it, or did not answer. Nothing was changed.
    pub async fn finalize_upgrade(&self, force: bool) -> Result<Upgrade, Error> {
        self.administer("upgrade finalize", "", self.finalize(force)).await
    }

    async fn finalize(&self, force: bool) -> Result<Upgrade, Error> {
        let found = self.upgrade().await?;
        if !found.obstacles.is_empty() && !force {
            let reasons = found.obstacles.join("; ");
            let message = format!("data version {} cannot be switched on: {reasons}", found.newest);
            let hint = "upgrade or start these nodes; with --force they keep and forward what they cannot read, \
                        and do not show it";
            return Err(Error::new(ErrorCode::Conflict, message, hint));
        }
        if found.in_force < found.newest {
            let switch = finalize(found.newest, env!("CARGO_PKG_VERSION"));
            self.0.parts.write_unchecked(switch).await?;
        }
        Ok(Upgrade { in_force: found.in_force.max(found.newest), obstacles: Vec::new(), ..found })
    }
}
