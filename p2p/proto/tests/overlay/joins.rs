//! Nodes that join at the same time form one overlay, by each way of finding it.

use starling_proto::message::ViewMessage;
use starling_proto::view::{ViewConfig, ViewInput, Views};
use starling_proto::{Millis, Role};

use crate::invariants::{connected, distances};
use crate::network::{Network, Node, id, local, record};

/// `count` nodes started within one second, each with node 0 as its only contact.
pub fn through_one_contact(seed: u64, count: usize) -> Network {
    let mut network = Network::new(seed);
    for index in 0..count {
        let contacts = if index == 0 { vec![] } else { vec![id(0)] };
        network.start(local(index), vec![], contacts);
        network.run(1_000 / count as u64);
    }
    network
}

fn least(count: usize) -> usize {
    (count - 1).min(3)
}

#[test]
fn through_the_same_contact_in_the_same_second() {
    for count in [2, 3, 17, 64, 500] {
        for seed in 0..if count < 100 { 20 } else { 2 } {
            let mut network = through_one_contact(seed, count);
            let took = network.run_until(5_000, "one overlay", |n| connected(n, least(count)));
            println!("{count} nodes, seed {seed}: {took} ms, {} messages", network.sent);
        }
    }
}

/// A random graph of 500 nodes with 5 neighbours each: 4.2 hops on average, 6 at most.
#[test]
fn a_crowd_that_joins_at_once_is_as_close_as_at_random() {
    let mut network = through_one_contact(1, 500);
    network.run(10_000);
    let (mean, greatest) = distances(&network);
    println!("{mean:.2} hops on average, {greatest} at most");
    assert!(mean < 5.0 && greatest < 10, "{mean:.2} hops on average, {greatest} at most");
}

#[test]
fn through_an_empty_seed_all_at_once() {
    for count in [2, 3, 17, 64] {
        for seed in 0..20 {
            let mut network = Network::new(seed);
            network.start(record(1000, Role::Seed, "/ip4/127.0.0.1/tcp/1".into()), vec![], vec![]);
            for index in 0..count {
                network.start(local(index), vec![], vec![id(1000)]);
            }
            network.run_until(10_000, "one overlay", |n| connected(n, least(count)));
            let seed_node = &network.nodes[&id(1000)];
            assert_eq!(seed_node.views.active().len(), 0);
        }
    }
}

#[test]
fn two_nodes_that_know_only_each_other() {
    for seed in 0..50 {
        let mut network = Network::new(seed);
        network.start(local(0), vec![], vec![id(1)]);
        network.start(local(1), vec![], vec![id(0)]);
        network.run_until(5_000, "a pair", |n| connected(n, 1));
    }
}

#[test]
fn a_settled_overlay_has_nearly_full_views_and_is_quiet() {
    let mut network = through_one_contact(7, 64);
    network.run(120_000);
    network.run_until(5_000, "settled", |n| connected(n, 4));
    let wanted = ViewConfig::default().active_max;
    let full = network.nodes.values().filter(|node| node.views.active().len() == wanted).count();
    assert!(full >= 48, "{full} of 64 views are full");
    network.run(900_000);
    let before = network.sent;
    network.run(600_000);
    let per_minute = (network.sent - before) as f64 / 64.0 / 10.0;
    println!("{per_minute:.2} membership messages per node and minute");
    assert!(per_minute < 6.0, "{per_minute} membership messages per node and minute");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut network = through_one_contact(seed, 17);
        network.run(60_000);
        network.trace
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn neighbours_come_from_several_address_blocks() {
    let mut network = Network::new(3);
    for index in 0..60 {
        let address = format!("/ip4/10.0.{}.{}/tcp/7400", if index % 2 == 0 { 0 } else { index }, index + 1);
        let contacts = if index == 0 { vec![] } else { vec![id(0)] };
        network.start(record(index, Role::Replica, address), vec![], contacts);
        network.run(500);
    }
    network.run(600_000);
    network.run_until(5_000, "one overlay", |n| connected(n, 3));
    let alike = |node: &Node| {
        node.views.active().filter(|peer| peer.addresses[0].starts_with("/ip4/10.0.0.")).count()
    };
    // Half of the nodes sit in one block, so two or three such neighbours are the mean; by chance, one
    // view in five would hold four or five.
    let crowded = network.nodes.values().filter(|node| alike(node) > 3).count();
    println!("{crowded} of 60 views are crowded by one block");
    assert!(crowded <= 3, "{crowded} of 60 views are crowded by one block");
}

/// Identities of one machine, whose records name an address block each.
#[test]
fn whoever_is_linked_counts_by_the_address_that_the_link_comes_from() {
    let claimed = |index: usize| format!("/ip4/10.{index}.0.1/tcp/7400");
    let (me, config) = (record(0, Role::Replica, claimed(0)), ViewConfig::default());
    let mut views = Views::new(config.clone(), me, [7; 32], Millis(0));
    let mut ask = |index: usize, from: [u8; 4]| {
        let record = record(index, Role::Replica, claimed(index));
        views.handle(Millis(0), ViewInput::LinkUp { record: record.clone(), from: Some(from.into()) });
        let message = ViewMessage::Neighbor { high: true };
        views.handle(Millis(0), ViewInput::Message { from: record, message });
    };
    (1..=6).for_each(|index| ask(index, [10, index as u8, 0, 1]));
    (100..200).for_each(|index| ask(index, [203, 0, 113, 7]));
    let others = views.active().filter(|peer| (1..=6).any(|index| peer.id == id(index))).count();
    assert_eq!(views.active().len(), config.active_max);
    assert!(others >= config.active_max - config.block_enough, "{others} of its neighbours are others");
}

#[test]
fn a_network_within_one_address_block_has_full_views() {
    let mut network = Network::new(4);
    for index in 0..32 {
        let contacts = if index == 0 { vec![] } else { vec![id(0)] };
        network.start(
            record(index, Role::Replica, format!("/ip4/192.168.1.{index}/tcp/1")),
            vec![],
            contacts,
        );
    }
    network.run_until(60_000, "full views", |n| connected(n, 4));
}

#[test]
fn who_leaves_is_replaced_at_once() {
    let mut network = through_one_contact(5, 17);
    network.run(10_000);
    for index in 0..4 {
        network.input(id(index), ViewInput::Leave);
        assert_eq!(network.nodes[&id(index)].views.active().len(), 0);
        network.run(100);
        network.kill(id(index));
    }
    network.run_until(3_000, "one overlay", |n| connected(n, 3));
}
