//! A network in which processes have been started very often: a thousand nodes, restarted daily for three years. Every start
//! that has written is an actor for ever. What one session, write and read cost does not grow with them.

use starling_kv::codec::put_varint;
use starling_kv::engine::MemoryEngine;
use starling_kv::{Batch, Op, Options, Store, Write};
use starling_proto::Role;

use crate::world::World;

/// Wall clock of the past, milliseconds.
const PAST_MS: u64 = 1_767_000_000_000;
/// Actors in one delta of the past.
const DELTA_ACTORS: u32 = 10_000;
/// The last starts, which have incremented a counter; the keys of all others are gone.
const COUNTERS: u32 = 1_000;

/// The rows of a node of a network with this many starts.
fn grown(starts: u32) -> MemoryEngine {
    let engine = MemoryEngine::default();
    let mut store = Store::open(engine.clone(), Options::default(), [1; 32]).expect("opens");
    while store.maintain(PAST_MS).expect("maintains") {}
    for first in (0..starts - COUNTERS).step_by(DELTA_ACTORS as usize) {
        let last = (first + DELTA_ACTORS).min(starts - COUNTERS);
        store.join(PAST_MS, &past(first..last)).expect("joins");
    }
    for start in 0..COUNTERS {
        let mut seed = [2; 32];
        seed[..4].copy_from_slice(&start.to_le_bytes());
        let mut peer = Store::open(MemoryEngine::default(), Options::default(), seed).expect("opens");
        let batch = Batch { writes: vec![increment()] };
        store.join(PAST_MS, &peer.commit(PAST_MS, vec![batch]).expect("commits").rumors[0].1).expect("joins");
    }
    assert_eq!(store.stats().actors, u64::from(starts));
    store.checkpoint().expect("writes");
    engine
}

/// A delta of starts that wrote a key each and deleted it again.
fn past(starts: std::ops::Range<u32>) -> Vec<u8> {
    let id =
        |start: u32| u128::from(start).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
    let mut ids: Vec<[u8; 16]> = starts.map(id).collect();
    ids.sort_unstable();
    let mut delta = vec![1];
    put_varint(&mut delta, ids.len() as u64);
    for id in ids {
        delta.extend(id);
        // One span, from 1 on, of two dots; no entries.
        delta.extend([1, 0, 1, 0]);
    }
    delta
}

fn increment() -> Write {
    Write {
        keyspace: "default".into(),
        key: b"counter".to_vec(),
        op: Op::Incr { by: 1 },
        ttl_ms: None,
        check: None,
    }
}

/// What it costs two nodes to become equal after one of them has written a key that the other missed.
#[derive(Debug)]
struct Repair {
    bytes: u64,
    /// Summaries of single actors, on both sides.
    summaries: u64,
    /// Rows read and written, on both sides.
    rows: u64,
}

fn repair(starts: u32) -> Repair {
    let engine = grown(starts);
    let mut world = World::new(7);
    let contact = world.start(Role::Seed, &[]);
    let nodes = [&engine, &engine].map(|engine| world.start_on(engine.copy(), Role::Replica, &[contact]));
    world.run_until(30_000, "one component", |world| world.components() == 1);
    world.run(5_000);
    // An increment of a counter with a field of each of the last starts.
    let token = world.write(nodes[0], vec![increment()]);
    world.run_until(5_000, "the increment", |world| world.nodes[nodes[0]].written.contains_key(&token));
    world.run_until(5_000, "equal replicas", World::equal);
    world.loses_rumors = true;
    let cost = |world: &World| {
        let stores = nodes.map(|node| world.nodes[node].core.store().expect("a replica").stats().summaries);
        let rows = nodes.map(|node| world.nodes[node].engine.meter().take().rows);
        (world.bytes_delivered, stores[0] + stores[1], rows[0] + rows[1])
    };
    let before = cost(&world);
    world.put(nodes[0], "key", "value");
    world.run_until(60_000, "equal replicas", World::equal);
    let after = cost(&world);
    Repair { bytes: after.0 - before.0, summaries: after.1 - before.1, rows: after.2 }
}

#[test]
fn a_difference_costs_as_much_after_a_million_starts_as_after_two_thousand() {
    let few = repair(2_000);
    let many = repair(1_000_000);
    println!("after 2,000 starts {few:?}\nafter 1,000,000 starts {many:?}");
    assert!(many.bytes < few.bytes + 6_000);
    assert!(many.summaries < 200, "of a million actors");
    assert!(many.rows < few.rows + 50);
}

/// The bytes until a node without data has what the others have, and the most rows that it reads and writes in between.
#[test]
fn a_new_node_joins_at_a_cost_in_proportion_to_the_starts() {
    for starts in [2_000, 1_000_000] {
        let mut world = World::new(8);
        let contact = world.start(Role::Seed, &[]);
        world.start_on(grown(starts), Role::Replica, &[contact]);
        world.run(5_000);
        let before = world.bytes_delivered;
        let node = world.start(Role::Replica, &[contact]);
        let ms = world.run_until(600_000, "equal replicas", World::equal);
        let per_start = (world.bytes_delivered - before) / u64::from(starts);
        println!("{starts} starts: {per_start} bytes each, {ms} ms");
        assert!(per_start < 150, "{per_start} bytes");
        let read = world.nodes[node].core.store().expect("a replica").reader();
        assert_eq!(read.counter(PAST_MS, "default", b"counter"), Ok(Some(i128::from(COUNTERS))));
    }
}
