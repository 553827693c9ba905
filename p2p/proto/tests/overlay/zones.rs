//! Views over zones: peers of other zones are known, and linked, also where one zone has nearly all nodes.

use starling_proto::view::{ViewConfig, ViewInput, Views};
use starling_proto::{Millis, NodeRecord, Role};

use crate::invariants::connected;
use crate::network::{Network, Node, id, record};

/// A node of the zone of this number, at an address block of its own.
fn zoned(index: usize, zone: usize) -> NodeRecord {
    NodeRecord {
        labels: format!("region=eu,zone={zone}").parse().expect("labels"),
        ..record(index, Role::Replica, format!("/ip4/10.{}.{}.1/tcp/7400", index / 256, index % 256))
    }
}

fn is_elsewhere(node: &Node, peer: &NodeRecord) -> bool {
    peer.labels.zone() != node.record.labels.zone()
}

/// `count` nodes, of which every `nth` one is in a small zone if `zones` is set; after some minutes.
fn settled(count: usize, nth: usize, zones: bool) -> Network {
    let mut network = Network::new(11);
    for index in 0..count {
        let contacts = if index == 0 { vec![] } else { vec![id(index / 2)] };
        network.start(zoned(index, usize::from(zones && index % nth == 0)), vec![], contacts);
        network.run(100);
    }
    network.run(600_000);
    network.run_until(5_000, "one overlay", |n| connected(n, 3));
    network
}

/// Nodes with a neighbour of another zone, and nodes that know a peer of another zone.
fn across(network: &Network) -> (usize, usize) {
    let linked = |node: &Node| node.views.active().any(|peer| is_elsewhere(node, peer));
    let knows = |node: &Node| linked(node) || node.views.passive().any(|peer| is_elsewhere(node, peer));
    let nodes = || network.nodes.values();
    (nodes().filter(|node| linked(node)).count(), nodes().filter(|node| knows(node)).count())
}

#[test]
fn every_node_knows_one_of_a_small_zone_and_is_linked_with_one_where_there_are_enough() {
    for (count, nth, linked_min) in [(100, 20, 25), (100, 5, 86), (100, 2, 100), (12, 6, 9)] {
        let (linked, knows) = across(&settled(count, nth, true));
        println!(
            "every {nth}th of {count}: {linked} have a neighbour of the other zone, {knows} know a peer of it"
        );
        assert!(
            linked >= linked_min && knows == count,
            "{linked} of {count} are linked, {knows} know a peer"
        );
    }
}

/// Links between zones take the place of links within one, and stay.
#[test]
fn zones_cost_no_evictions_at_rest() {
    let evicted =
        |nodes: &Network| nodes.nodes.values().map(|node| node.views.counters().evicted).sum::<u64>();
    let in_an_hour = |zones: bool| {
        let mut network = settled(100, 20, zones);
        let before = evicted(&network);
        network.run(3_600_000);
        evicted(&network) - before
    };
    let (with, without) = (in_an_hour(true), in_an_hour(false));
    println!("{with} evictions in an hour with zones, {without} without");
    assert!(with * 10 <= without * 12, "{with} evictions with zones, {without} without");
}

/// A member that names a zone for each of its identities has no more of a view than one that names none.
#[test]
fn the_last_peer_of_a_zone_is_kept_unless_zones_are_many() {
    let crowd_of = |zones: usize| {
        let mut views = Views::new(ViewConfig::default(), zoned(0, 0), [7; 32], Millis(0));
        let mut learn = |records: Vec<NodeRecord>| views.handle(Millis(0), ViewInput::Known(records));
        learn(vec![zoned(1, 1)]);
        learn((2..2 + zones).map(|index| zoned(index, index)).collect());
        learn((100..1_100).map(|index| zoned(index, 0)).collect());
        let named = views.passive().filter(|peer| peer.labels.get("zone") != Some("0")).count();
        (named, views.passive().any(|peer| peer.id == id(1)))
    };
    assert_eq!(crowd_of(0), (1, true));
    assert_eq!(crowd_of(7), (8, true));
    let (named, _) = crowd_of(34);
    assert!(named <= 9, "{named} peers of zones of their own");
}
