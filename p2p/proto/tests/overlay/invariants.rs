//! The invariants of every overlay at rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use starling_proto::{NodeId, Role};

use crate::network::Network;

/// Every view within its bounds, at every moment.
pub fn bounded(network: &Network) {
    let config = &network.config;
    for node in network.nodes.values() {
        assert!(node.views.active().len() <= config.active_max);
        assert!(node.views.passive().len() <= config.passive_max);
        assert!(node.views.passive().all(|p| p.id != node.record.id && !node.views.is_active(&p.id)));
        assert!(node.healing.remembered().len() <= 256);
    }
}

/// Each neighbour of a node that lives has it as a neighbour too.
pub fn symmetric(network: &Network) -> Result<(), String> {
    for (id, node) in &network.nodes {
        for peer in node.views.active() {
            let back = network.nodes.get(&peer.id).is_some_and(|other| other.views.is_active(id));
            if !back {
                return Err(format!("{id:?} has {:?} and not the other way round", peer.id));
            }
        }
    }
    Ok(())
}

/// All replicas are one component, and each has at least `least` neighbours.
pub fn connected(network: &Network, least: usize) -> Result<(), String> {
    bounded(network);
    symmetric(network)?;
    let replicas = || network.nodes.values().filter(|node| node.record.role == Role::Replica);
    if let Some(node) = replicas().find(|node| node.views.active().len() < least) {
        return Err(format!("{:?} has {} neighbours", node.record.id, node.views.active().len()));
    }
    let Some(first) = replicas().next() else { return Ok(()) };
    let component = component(network, first.record.id);
    if component.len() == replicas().count() {
        return Ok(());
    }
    Err(format!("a component of {} of {}", component.len(), replicas().count()))
}

/// All nodes that `first` reaches over neighbours.
pub fn component(network: &Network, first: NodeId) -> BTreeSet<NodeId> {
    let mut seen = BTreeSet::from([first]);
    let mut open = vec![first];
    while let Some(id) = open.pop() {
        let Some(node) = network.nodes.get(&id) else { continue };
        open.extend(node.views.active().map(|peer| peer.id).filter(|peer| seen.insert(*peer)));
    }
    seen
}

/// Mean and greatest number of hops between two nodes.
pub fn distances(network: &Network) -> (f64, usize) {
    let (mut sum, mut pairs, mut greatest) = (0, 0, 0);
    for first in network.nodes.keys() {
        let mut hops = BTreeMap::from([(*first, 0)]);
        let mut open = VecDeque::from([*first]);
        while let Some(id) = open.pop_front() {
            let next = hops[&id] + 1;
            for peer in network.nodes[&id].views.active() {
                hops.entry(peer.id).or_insert_with(|| {
                    open.push_back(peer.id);
                    next
                });
            }
        }
        sum += hops.values().sum::<usize>();
        pairs += hops.len() - 1;
        greatest = hops.values().copied().max().unwrap_or(0).max(greatest);
    }
    (sum as f64 / pairs as f64, greatest)
}
