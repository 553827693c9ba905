//! After failures and partitions the remaining nodes form one overlay again.

use std::collections::BTreeSet;

use starling_proto::NodeId;
use starling_proto::view::{ACTIVE_RANGE, ViewConfig};

use crate::invariants::{component, connected};
use crate::joins::through_one_contact;
use crate::network::{Network, id, local};

fn settled(seed: u64, count: usize) -> Network {
    let mut network = through_one_contact(seed, count);
    network.run(60_000);
    network.run_until(5_000, "settled", |n| connected(n, 3));
    network
}

#[test]
fn a_quarter_or_half_killed_at_once() {
    for (count, percent) in [(17, 25), (64, 25), (64, 50), (500, 25), (500, 50)] {
        for seed in 0..if count < 100 { 20 } else { 2 } {
            let mut network = settled(seed, count);
            for index in 0..count * percent / 100 {
                network.kill(id(index));
            }
            let took = network.run_until(10_000, "one overlay", |n| connected(n, 3));
            println!("{percent} % of {count} killed, seed {seed}: {took} ms");
        }
    }
}

/// See [`ACTIVE_RANGE`]: with two neighbours each, nearly every such network would have islands.
#[test]
fn the_smallest_views_hold_a_network_together() {
    for seed in 0..50 {
        let mut network = Network::new(seed);
        network.config = ViewConfig::with_active(*ACTIVE_RANGE.start());
        for index in 0..46 {
            network.start(local(index), vec![], (index > 0).then(|| id(0)).into_iter().collect());
            network.run(20);
        }
        network.run(10_000);
        for index in 0..10 {
            network.kill(id(4 * index + 1));
            network.run(200);
        }
        network.run(20_000);
        assert_eq!(component(&network, id(0)).len(), network.nodes.len(), "seed {seed}");
    }
}

#[test]
fn a_split_of_minutes_heals() {
    for seed in 0..10 {
        let mut network = settled(seed, 32);
        let island: BTreeSet<NodeId> = (0..16).map(id).collect();
        network.split(island.clone());
        network.run(240_000);
        assert_eq!(component(&network, id(0)), island);
        network.heal();
        let took = network.run_until(330_000, "one overlay", |n| connected(n, 3));
        println!("split healed, seed {seed}: {took} ms");
    }
}

/// No node has lost a neighbour: the two halves have never met, and only a seed knows of both.
#[test]
fn islands_that_never_met_are_merged_through_a_seed() {
    use starling_proto::Role;
    let mut network = Network::new(11);
    let seed = |index| crate::network::record(index, Role::Seed, "/ip4/127.0.0.1/tcp/1".into());
    network.start(seed(1000), vec![], vec![]);
    network.start(seed(1001), vec![], vec![]);
    for index in 0..16 {
        let own = if index < 8 { 1000 } else { 1001 };
        network.start(local(index), vec![seed(1000), seed(1001)], vec![id(own)]);
    }
    network.run(10_000);
    assert_eq!(component(&network, id(0)).len(), 8);
    network.run_until(1_800_000, "one overlay", |n| connected(n, 3));
}

#[test]
fn a_restarted_node_finds_the_network_without_contacts() {
    let mut network = settled(6, 17);
    let mut node = network.kill(id(16)).expect("running");
    network.kill(id(0));
    network.run(30_000);
    node.record.incarnation = 2;
    network.start(node.record, node.disk, vec![]);
    network.run_until(5_000, "one overlay", |n| connected(n, 3));
}

#[test]
fn a_whole_network_restarts_from_memory() {
    let mut network = settled(8, 17);
    let nodes: Vec<_> = (0..17).filter_map(|index| network.kill(id(index))).collect();
    network.run(600_000);
    for mut node in nodes {
        node.record.incarnation = 2;
        network.start(node.record, node.disk, vec![]);
        network.run(500);
    }
    network.run_until(60_000, "one overlay", |n| connected(n, 3));
}

#[test]
fn a_node_whose_every_neighbour_died_comes_back() {
    let mut network = settled(9, 17);
    let neighbours: Vec<NodeId> = network.nodes[&id(5)].views.active().map(|peer| peer.id).collect();
    for peer in neighbours {
        network.kill(peer);
    }
    network.run_until(5_000, "one overlay", |n| connected(n, 3));
}

/// The end of a link is not seen on both sides: cut off, one gives the other up, and the next link takes the
/// place of the first.
#[test]
fn a_peer_that_was_given_up_hears_of_it_over_the_next_link() {
    use starling_proto::view::{ViewConfig, ViewInput, ViewOutput, Views};
    let now = starling_proto::Millis(1_000);
    let [a, b] = [0, 1].map(local);
    let mut views = [&a, &b].map(|me| Views::new(ViewConfig::default(), me.clone(), [7; 32], now));
    views[0].handle(now, ViewInput::Contact(b.clone()));
    let exchange = |views: &mut [Views; 2]| {
        let mut count = 0;
        while let Some((from, message)) = (0..2).find_map(|from| {
            std::iter::from_fn(|| views[from].poll_output()).find_map(|output| match output {
                ViewOutput::Send { message, .. } => Some((from, message)),
                _ => None,
            })
        }) {
            count += 1;
            let record = [&a, &b][from].clone();
            views[1 - from].handle(now, ViewInput::Message { from: record, message });
        }
        count
    };
    exchange(&mut views);
    assert!(views[0].is_active(&b.id) && views[1].is_active(&a.id));
    views[1].handle(now, ViewInput::LinkUp { record: a.clone(), from: None });
    assert_eq!(exchange(&mut views), 0, "neighbours have nothing to say");
    views[1].handle(now, ViewInput::Suspected(a.id));
    exchange(&mut views);
    assert!(views[0].is_active(&b.id) && !views[1].is_active(&a.id), "it was not told");
    views[1].handle(now, ViewInput::LinkUp { record: a.clone(), from: None });
    exchange(&mut views);
    assert!(!views[0].is_active(&b.id));
    views[1].handle(now, ViewInput::LinkUp { record: a.clone(), from: None });
    assert_eq!(exchange(&mut views), 0, "once is enough");
}
