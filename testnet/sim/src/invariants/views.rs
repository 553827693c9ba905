//! After healing the views are connected and symmetrical: a neighbour's neighbour is oneself.

use crate::measure::components;
use crate::world::World;

/// The overlay now.
pub fn check(world: &World, need_symmetry: bool) -> Result<(), String> {
    let components = components(world);
    if components > 1 {
        return Err(format!("the live replicas are {components} components"));
    }
    for (index, node) in world.nodes.iter().enumerate().filter(|_| need_symmetry) {
        let Some(core) = &node.core else { continue };
        for peer in core.active() {
            let peer = world.process_of(&peer);
            let other = &world.nodes[peer];
            let is_mutual =
                other.core.as_ref().is_some_and(|other| other.active().any(|id| id == node.record.id));
            if !is_mutual {
                return Err(format!("node {index} has {peer} as a neighbour, not the other way round"));
            }
        }
    }
    Ok(())
}
