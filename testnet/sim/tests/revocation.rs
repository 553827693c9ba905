//! How soon a revoked node is cut off from a large network.

use bytes::Bytes;
use starling_kv::{Batch, Op, Write};
use starling_sim::Simulation;
use starling_sim::measure::Sending;
use starling_sim::scenario;
use starling_sim::world::World;

/// Nodes, unless `STARLING_REVOCATION_NODES` says how many.
const NODES: usize = 200;
/// Virtual time in which the network starts, microseconds: nodes start in the first 40 %.
const WARMUP_US: u64 = 60_000_000;
/// Steps of virtual time between two looks, microseconds.
const LOOK_EVERY_US: u64 = 5_000;
/// The node that is revoked, and the one whose operator passes the statement on.
const LOST: usize = 7;
const OPERATORS: usize = 11;

fn warm(nodes: usize) -> World {
    let text = format!("nodes = {nodes}\nwarmup_s = 60\nmeasure_s = 60\n");
    let scenario = scenario::parse("revocation", &text, &[]).unwrap_or_else(|error| panic!("{error}"));
    let mut simulation = Simulation::new(scenario).expect("no file is read");
    while simulation.world.now_us() < WARMUP_US && simulation.step() {}
    simulation.world
}

/// Lets time pass until it is so. Returns how long that took, milliseconds.
fn until(world: &mut World, what: &str, is_so: impl Fn(&World) -> bool) -> u64 {
    let began_us = world.now_us();
    while !is_so(world) {
        assert!(world.now_us() < began_us + 60_000_000, "not within a minute: {what}");
        world.pass(LOOK_EVERY_US);
    }
    (world.now_us() - began_us) / 1000
}

fn write(world: &mut World, node: usize, key: &str) {
    let op = Op::Put { value: Bytes::from_static(b"v") };
    let write = Write { keyspace: "default".into(), key: key.into(), op, ttl_ms: None, check: None };
    let sending = Sending { at_us: world.now_us(), payload_bytes: 0, is_lasting: false };
    let number = world.recorder.writes.send(sending);
    assert!(world.write(node, vec![(number, Batch { writes: vec![write] })]));
}

/// Replicas other than the lost node whose store holds so many entries.
fn holders(world: &World, entries: u64) -> usize {
    let others = world.nodes.iter().enumerate().filter(|(node, it)| *node != LOST && it.is_replica());
    others.filter(|(_, node)| node.store().is_some_and(|store| store.stats().entries == entries)).count()
}

#[test]
fn a_revoked_node_is_cut_off_within_two_rumor_times() {
    let nodes = std::env::var("STARLING_REVOCATION_NODES").map_or(NODES, |n| n.parse().expect("a number"));
    let mut world = warm(nodes);
    let replicas = world.nodes.iter().filter(|node| node.is_replica()).count();
    let entries = holders_entries(&world);
    write(&mut world, OPERATORS, "before");
    let rumor_ms =
        until(&mut world, "a write is on every node", |world| holders(world, entries + 1) == replicas - 1);
    assert!(world.links_to(LOST) > 0);
    world.revoke(LOST, OPERATORS);
    let cut_ms = until(&mut world, "no node has a link to it", |world| world.links_to(LOST) == 0);
    let lacks = |world: &World| {
        let others = (0..world.nodes.len()).filter(|node| *node != LOST && world.nodes[*node].is_replica());
        others.filter(|node| world.trust_of(*node).is_some_and(|it| it.revoked().count() == 0)).count()
    };
    let all_ms = cut_ms + until(&mut world, "every replica has the statement", |world| lacks(world) == 0);
    println!(
        "{nodes} nodes: a write is everywhere after {rumor_ms} ms; a revoked node is cut off after {cut_ms} ms, and every \
         replica knows after {all_ms} ms"
    );
    assert!(
        cut_ms <= 2 * rumor_ms && all_ms <= 2 * rumor_ms,
        "{cut_ms} and {all_ms}, and {rumor_ms} for a rumor"
    );
    write(&mut world, LOST, "after");
    world.pass(30_000_000);
    assert_eq!(world.links_to(LOST), 0, "it tries to come back");
    assert_eq!(holders(&world, entries + 1), replicas - 1, "its write reaches no node");
}

/// Entries that the nodes hold before: the network's own.
fn holders_entries(world: &World) -> u64 {
    world.nodes[OPERATORS].store().map_or(0, |store| store.stats().entries)
}
