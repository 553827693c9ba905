//! Rumors work again after healing: in a calm network a write is on every live replica long before the
//! next periodic session would bring it, and on most even where some messages are lost.

use starling_kv::{Dot, DotRange};

use crate::world::World;

/// Time that a rumor may take through a calm network, seconds: announcements, grafts and gaps that are
/// noticed have long had their turn, and the session that a node has every minute has not.
pub const CALM_S: f64 = 12.0;

/// Live replicas that lack a write, if they are more than this part of them.
pub fn check(world: &World, dot: Dot, may_lack: f64) -> Result<(), String> {
    let live: Vec<_> =
        world.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node.store()?))).collect();
    let lacking: Vec<usize> = live
        .iter()
        .filter(|(_, store)| !store.contains(&DotRange::one(dot)))
        .map(|(index, _)| *index)
        .collect();
    if lacking.len() as f64 <= may_lack * live.len() as f64 {
        return Ok(());
    }
    Err(format!("{dot:?}, written in the calm, is missing on nodes {lacking:?} after {CALM_S} s"))
}
