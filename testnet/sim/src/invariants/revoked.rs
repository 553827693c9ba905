//! A node that has the statement that another one is revoked has no link to it.

use crate::world::World;

/// Judges every node.
pub fn check(world: &World) -> Result<(), String> {
    for (node, state) in world.nodes.iter().enumerate() {
        let Some(core) = &state.core else { continue };
        if let Some(lost) = core.trust().revoked().find(|lost| core.is_linked(lost)) {
            return Err(format!("node {node} knows that {} is revoked, and has a link to it", lost.short()));
        }
    }
    Ok(())
}

/// Judges every node once statements have had time to spread: every replica has all of them.
pub fn check_spread(world: &World) -> Result<(), String> {
    let known = |node: usize| world.trust_of(node).map_or(0, |trust| trust.revoked().count());
    let live = || (0..world.nodes.len()).filter(|node| world.nodes[*node].store().is_some());
    let most = live().map(known).max().unwrap_or(0);
    match live().find(|node| known(*node) < most) {
        Some(node) => Err(format!("node {node} has {} of {most} revocations", known(node))),
        None => Ok(()),
    }
}
