//! The overlay of active views at one instant.

use starling_core::Now;
use starling_proto::Millis;
use starling_report::{Overlay, Topology, TopologyLink, TopologyNode, Views};

use crate::world::{Node, World};

/// Positions of the replicas among themselves: in the report's part seeds do not appear.
fn replicas(world: &World) -> (Vec<usize>, Vec<Option<usize>>) {
    let replicas: Vec<usize> =
        (0..world.nodes.len()).filter(|&node| world.nodes[node].is_replica()).collect();
    let mut positions = vec![None; world.nodes.len()];
    replicas.iter().enumerate().for_each(|(position, &node)| positions[node] = Some(position));
    (replicas, positions)
}

fn active<'w>(world: &'w World, node: &'w Node) -> impl Iterator<Item = usize> + 'w {
    node.core.iter().flat_map(|core| core.active().map(|id| world.process_of(&id)))
}

/// Who stands for the component of a node; paths to it are halved on the way (union-find).
fn root(parents: &mut [usize], mut node: usize) -> usize {
    while parents[node] != node {
        parents[node] = parents[parents[node]];
        node = parents[node];
    }
    node
}

/// Connected components among the live replicas, by links that either end has in its view.
pub fn components(world: &World) -> usize {
    let mut parents: Vec<usize> = (0..world.nodes.len()).collect();
    let lives = |node: usize| world.nodes[node].is_up() && world.nodes[node].is_replica();
    let mut components = (0..world.nodes.len()).filter(|&node| lives(node)).count();
    for (index, node) in world.nodes.iter().enumerate().filter(|(index, _)| lives(*index)) {
        for peer in active(world, node).filter(|&peer| lives(peer)) {
            let (a, b) = (root(&mut parents, index), root(&mut parents, peer));
            if a != b {
                parents[a] = b;
                components -= 1;
            }
        }
    }
    components
}

/// The report's part on the views.
pub fn views(world: &World) -> Views {
    let (replicas, positions) = replicas(world);
    let live: Vec<bool> = replicas.iter().map(|&node| world.nodes[node].is_up()).collect();
    let nodes = || replicas.iter().map(|&node| &world.nodes[node]);
    let position = |node: usize| positions.get(node).copied().flatten();
    let active: Vec<Vec<usize>> =
        nodes().map(|node| active(world, node).filter_map(position).collect()).collect();
    let passive: Vec<Vec<usize>> = nodes()
        .map(|node| {
            let core = node.core.iter();
            core.flat_map(|core| core.passive().map(|record| world.process_of(&record.id)))
                .filter_map(position)
                .collect()
        })
        .collect();
    Overlay { live: &live, active: &active, passive: &passive }.views()
}

/// The report's drawing.
pub fn topology(world: &World, regions: &[String]) -> Topology {
    let (replicas, positions) = replicas(world);
    let node = |&index: &usize| {
        let node = &world.nodes[index];
        let region = node.region.and_then(|region| regions.get(region)).cloned();
        TopologyNode { name: node.record.name.clone(), region, up: node.is_up() }
    };
    let mut links = Vec::new();
    let now = Now { mono: Millis(world.now_us() / 1000), wall_ms: 0 };
    for &index in &replicas {
        let Some(core) = &world.nodes[index].core else { continue };
        for peer in core.peers(now).into_iter().filter(|peer| peer.active) {
            let other = world.process_of(&peer.record.id);
            // Each link once; eager if the lower end pushes over it.
            let is_mutual = world.nodes[other]
                .core
                .as_ref()
                .is_some_and(|core| core.active().any(|id| id == world.nodes[index].record.id));
            if let (Some(a), Some(b)) = (positions[index], positions[other])
                && (a < b || !is_mutual)
            {
                links.push(TopologyLink { a, b, eager: peer.eager });
            }
        }
    }
    Topology::of(replicas.iter().map(node).collect(), &links)
}
