//! However much a client asks for, and however much is due at once, a node does it in steps that hold up nobody: they are
//! counted in the rows and bytes that they read and write.

use bytes::Bytes;
use starling_kv::engine::Cost;
use starling_kv::{Batch, Op, Write};
use starling_sim::Simulation;
use starling_sim::invariants::STEP_UNITS_MAX;
use starling_sim::measure::Sending;
use starling_sim::scenario;
use starling_sim::world::World;

/// Virtual time in which a network starts, microseconds: `warmup_s` of the scenario.
const WARMUP_US: u64 = 5_000_000;
const NODES: usize = 3;

fn warm() -> World {
    let text = format!("nodes = {NODES}\nseeds = 0\nwarmup_s = 5\nmeasure_s = 1\n[workload]\nwrites_s = 0\n");
    let scenario = scenario::parse("steps", &text, &[]).unwrap_or_else(|error| panic!("{error}"));
    let mut simulation = Simulation::new(scenario).expect("no file is read");
    while simulation.world.now_us() < WARMUP_US && simulation.step() {}
    simulation.world.longest_step = Cost::default();
    simulation.world
}

/// Live entries of each node, beside the one that the scenario's clients have written.
fn entries(world: &World) -> Vec<u64> {
    world.nodes.iter().map(|node| node.store().expect("it is up").stats().entries - 1).collect()
}

fn until(world: &mut World, what: &str, reached: impl Fn(&World) -> bool) {
    let began_us = world.now_us();
    while !reached(world) {
        assert!(world.now_us() < began_us + 300_000_000, "not within 300 s: {what}; {:?}", entries(world));
        world.pass(100_000);
    }
}

/// Has a node commit batches together.
fn commit(world: &mut World, node: usize, batches: Vec<Vec<(String, Op, Option<u64>)>>) {
    let mut group = Vec::new();
    for writes in batches {
        let write = |(key, op, ttl_ms): (String, Op, Option<u64>)| Write {
            keyspace: "default".into(),
            key: key.into_bytes(),
            op,
            ttl_ms,
            check: None,
        };
        let batch = Batch { writes: writes.into_iter().map(write).collect() };
        let sending = Sending { at_us: world.now_us(), payload_bytes: 0, is_lasting: false };
        group.push((world.recorder.writes.send(sending), batch));
    }
    assert!(world.write(node, group));
}

fn put(key: String, bytes: usize, ttl_ms: Option<u64>) -> (String, Op, Option<u64>) {
    (key, Op::Put { value: Bytes::from(vec![7; bytes]) }, ttl_ms)
}

/// Many small entries through one node, more in one group of batches than one step takes, all of which expire.
fn expire(world: &mut World) {
    let one = |batch: usize| (0..100).map(|n| put(format!("key{batch:03}/{n}"), 20, Some(20_000))).collect();
    commit(world, 0, (0..250).map(one).collect());
    until(world, "all is everywhere", |world| entries(world) == [25_000; NODES]);
    until(world, "all is gone", |world| entries(world) == [0; NODES]);
}

/// Large values, which are deleted by their prefix, several times in one batch.
fn delete(world: &mut World) {
    for n in 0..450 {
        commit(world, n % NODES, vec![vec![put(format!("large{}/{n}", n % 3), 256 << 10, None)]]);
        world.pass(20_000);
    }
    until(world, "all is everywhere", |world| entries(world) == [450; NODES]);
    let prefix = |n: usize| (format!("large{n}/"), Op::DeletePrefix, None);
    commit(world, 0, vec![(0..3).map(prefix).collect()]);
    until(world, "all is gone", |world| entries(world) == [0; NODES]);
}

/// What a node missed that was away, in small entries and in large ones.
fn catch_up(world: &mut World) {
    world.cut(&[1], &[0, 2], true);
    let small = |batch: usize| (0..100).map(|n| put(format!("key{batch:03}/{n}"), 20, None)).collect();
    commit(world, 0, (0..200).map(small).collect());
    for n in 0..100 {
        commit(world, 2, vec![vec![put(format!("large/{n}"), 256 << 10, None)]]);
        world.pass(20_000);
    }
    world.mend(None);
    until(world, "all is everywhere", |world| entries(world) == [20_100; NODES]);
}

/// The cost of the longest step that some work takes.
fn longest(work: fn(&mut World)) -> Cost {
    let mut world = warm();
    work(&mut world);
    world.longest_step
}

fn assert_short(work: fn(&mut World)) {
    let longest = longest(work);
    println!("{longest:?}: {} of {STEP_UNITS_MAX}", longest.units());
    assert!(longest.units() <= STEP_UNITS_MAX, "a step of {longest:?}");
}

#[test]
fn entries_that_expire_together_are_removed_in_short_steps() {
    assert_short(expire);
}

#[test]
fn large_values_are_deleted_in_short_steps() {
    assert_short(delete);
}

#[test]
fn a_node_that_was_away_catches_up_in_short_steps() {
    assert_short(catch_up);
}

#[cfg(planted)]
#[test]
fn bugs_planted_in_steps_are_caught() {
    let works = [expire, delete, catch_up];
    let notice = |work: u64| {
        let longest = longest(works[work as usize]);
        (longest.units() > STEP_UNITS_MAX).then(|| "steps".into())
    };
    let missed = starling_planted::missed(&starling_planted::Bug::STEPS, &[0, 1], 1, notice);
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
