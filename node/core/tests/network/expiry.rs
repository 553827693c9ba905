//! Entries that expire: hidden and reported at once, removed later, by every node at the same instant.

use bytes::Bytes;
use starling_core::Input;
use starling_kv::{Batch, Op, Write};

use crate::world::{World, settled};

const HOUR_MS: u64 = 3_600_000;

fn expiring(key: &str, ttl_ms: u64) -> Write {
    let op = Op::Put { value: Bytes::from_static(b"v") };
    Write { keyspace: "default".into(), key: key.into(), op, ttl_ms: Some(ttl_ms), check: None }
}

fn entries(world: &World, node: usize) -> u64 {
    world.nodes[node].core.store().expect("a replica").stats().entries
}

fn removed(world: &World, node: usize) -> u64 {
    world.nodes[node].core.store().expect("a replica").stats().expired
}

#[test]
fn a_key_that_expires_is_reported_once_and_within_two_seconds() {
    let mut world = settled(1, 3);
    let before = entries(&world, 1);
    let written = world.now;
    world.write(1, vec![expiring("session", 5_000)]);
    world.run(100_000);
    for node in 1..=3 {
        let changed = world.nodes[node].changed.iter().filter(|(_, change)| change.key == b"session");
        let after: Vec<u64> = changed.map(|(at, _)| *at - written).collect();
        assert!(
            matches!(after[..], [put, expiry] if put < 1_000 && (5_000..=7_000).contains(&expiry)),
            "{after:?}"
        );
        assert_eq!(entries(&world, node), before);
    }
}

#[test]
fn a_backlog_is_removed_within_seconds() {
    const KEYS: usize = 30_000;
    let mut world = settled(2, 2);
    let before = entries(&world, 1);
    for first in (0..KEYS).step_by(1_000) {
        let writes = (first..first + 1_000).map(|number| expiring(&format!("k{number}"), 1_000));
        world.write(1, writes.collect());
    }
    world.run_until(10_000, "both nodes have all of it", |w| {
        (1..=2).all(|node| entries(w, node) == before + KEYS as u64)
    });
    // The grace is a minute, a step is ten seconds.
    world.run(70_000);
    world.run_until(3_000, "all of it is removed", |w| (1..=2).all(|node| entries(w, node) == before));
}

#[test]
fn of_three_clocks_the_two_that_agree_decide() {
    let mut world = settled(3, 3);
    let before = entries(&world, 1);
    world.nodes[3].ahead_ms = 2 * HOUR_MS;
    // Clocks are compared with every message of the detector.
    world.run(60_000);
    world.write(1, vec![expiring("session", 30_000)]);
    world.run(20_000);
    assert!((1..=3).all(|node| entries(&world, node) == before + 1), "nobody removes it early");
    // The third node finds out in its next session of anti-entropy.
    world.run_until(200_000, "it is removed everywhere", |w| (1..=3).all(|node| entries(w, node) == before));
    assert!(removed(&world, 1) + removed(&world, 2) > 0);
    assert_eq!(removed(&world, 3), 0, "not by the node whose clock is wrong");
}

#[test]
fn of_two_clocks_the_earlier_one_decides() {
    let mut world = settled(4, 2);
    let before = entries(&world, 1);
    world.nodes[2].ahead_ms = 2 * HOUR_MS;
    world.run(60_000);
    world.write(1, vec![expiring("session", 30_000)]);
    world.run(20_000);
    assert!((1..=2).all(|node| entries(&world, node) == before + 1), "nobody removes it early");
    world.run_until(200_000, "it is removed on both", |w| (1..=2).all(|node| entries(w, node) == before));
    assert_eq!(removed(&world, 2), 0);
}

#[test]
fn nodes_that_started_at_different_instants_remove_at_the_same_one() {
    let mut world = World::new(5);
    let contact = world.start(starling_proto::Role::Seed, &[]);
    for wait_ms in [3_700, 2_900, 20_000] {
        world.start(starling_proto::Role::Replica, &[contact]);
        world.run(wait_ms);
    }
    let mut number = 0;
    while removed(&world, 1) < 200 {
        world.write(1 + number % 3, vec![expiring(&format!("k{number}"), 1_000)]);
        number += 1;
        world.run(400);
        assert!(world.equal(), "after {number} writes");
        assert!(number < 1_000, "expired entries are removed");
    }
}

#[test]
fn writes_that_are_too_much_for_one_commit_wait_for_the_next() {
    let mut world = settled(6, 2);
    let put = |number: usize| expiring(&format!("k{number}"), HOUR_MS);
    let batches: Vec<_> = (0..5)
        .map(|at| (1_000 + at as u64, Batch { writes: (at * 4_000..(at + 1) * 4_000).map(put).collect() }))
        .collect();
    world.input(1, Input::Write(batches));
    let answered =
        |world: &World| (1_000..1_005).filter(|at| world.nodes[1].written.contains_key(at)).count();
    assert_eq!(answered(&world), 3);
    world.run(1);
    assert_eq!(answered(&world), 5);
    assert!(world.nodes[1].written.range(1_000..).all(|(_, result)| result.is_ok()));
}
