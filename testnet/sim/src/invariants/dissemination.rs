//! Rumors work again after healing: in a calm network a write is on every live replica long before the
//! next periodic session would bring it.

use starling_kv::{Dot, DotRange};

use crate::world::World;

/// Time that a rumor may take through a calm network, seconds: announcements, grafts and gaps that are
/// noticed have long had their turn, and the session that a node has every minute has not.
pub const CALM_S: f64 = 12.0;

/// Writes that some live replica lacks, if they are more than `may_miss`.
pub fn check(world: &World, dots: &[Dot], may_miss: usize) -> Result<(), String> {
    let lack = |dot: &Dot| {
        let stores = world.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node.store()?)));
        let lacking: Vec<usize> = stores
            .filter(|(_, store)| !store.contains(&DotRange::one(*dot)))
            .map(|(index, _)| index)
            .collect();
        (!lacking.is_empty()).then(|| format!("{dot:?} on nodes {lacking:?}"))
    };
    let missing: Vec<String> = dots.iter().filter_map(lack).collect();
    if missing.len() <= may_miss {
        return Ok(());
    }
    Err(format!("written in the calm, and still missing: {}", missing.join(", ")))
}
