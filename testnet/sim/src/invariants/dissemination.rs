//! Rumors work again after healing: in a calm network a write is on every live replica long before the
//! next periodic session would bring it, even where some messages are lost.

use starling_kv::{Dot, DotRange};

use crate::world::World;

/// Time that a rumor may take through a calm network, seconds: announcements, grafts and gaps that are
/// noticed have long had their turn, and the session that a node has every minute has not.
pub const CALM_S: f64 = 12.0;

/// Live replicas that lack a write.
pub fn check(world: &World, dot: Dot) -> Result<(), String> {
    let lacks =
        |node: &crate::world::Node| node.store().is_some_and(|store| !store.contains(&DotRange::one(dot)));
    let lacking: Vec<usize> =
        world.nodes.iter().enumerate().filter(|(_, node)| lacks(node)).map(|(index, _)| index).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(format!("{dot:?}, written in the calm, is missing on nodes {lacking:?} after {CALM_S} s"))
}
