//! Eventual keyspaces: writes reach every node despite faults.

use crate::world::{World, settled};
use bytes::Bytes;
use starling_core::Input;
use starling_kv::{Op, Store, Write};
use starling_proto::message::{RumorId, RumorMessage};
use starling_proto::{Message, NodeId, Role};

fn reads(world: &World, node: usize, key: &str) -> Option<Vec<u8>> {
    let reader = world.nodes[node].core.store().expect("a replica").reader();
    reader.register(0, "default", key.as_bytes()).expect("memory reads").map(|r| r.value.to_vec())
}

fn replicas(world: &World) -> Vec<usize> {
    (0..world.nodes.len())
        .filter(|&n| world.nodes[n].up && world.nodes[n].record.role == Role::Replica)
        .collect()
}

#[test]
fn a_write_reaches_every_node_within_a_fraction_of_a_second() {
    let mut world = settled(1, 32);
    for round in 0..20 {
        let key = format!("k{round}");
        world.put(1 + round % 32, &key, "v");
        let all = |w: &World| replicas(w).into_iter().all(|n| reads(w, n, &key).is_some());
        world.run_until(400, "every node reads the write", all);
    }
    assert!(world.equal());
}

/// The cache of rumors has lost the delete, so the graft is served from the store.
#[test]
fn a_delete_that_is_grafted_from_the_store_deletes() {
    let mut world = World::new(9);
    world.config.rumors.cache_bytes_max = 0;
    let contact = world.start(Role::Seed, &[]);
    let [writer, other] = [0, 1].map(|_| world.start(Role::Replica, &[contact]));
    world.run_until(30_000, "one component", |w| w.components() == 1);
    world.put(writer, "k", "v");
    world.run_until(5_000, "the value", |w| reads(w, other, "k").is_some());
    world.loses_rumors = true;
    let delete =
        Write { keyspace: "default".into(), key: b"k".to_vec(), op: Op::Delete, ttl_ms: None, check: None };
    world.write(writer, vec![delete]);
    world.run(500);
    assert!(reads(&world, other, "k").is_some(), "the delete was lost");
    world.loses_rumors = false;
    let dot = world.nodes[writer].core.store().and_then(Store::minted).expect("a write");
    let ids = vec![RumorId { actor: dot.actor, first: dot.seq, last: dot.seq }];
    let message = Message::Rumor(RumorMessage::Graft { ids });
    let peer = world.nodes[other].record.id;
    world.input(writer, Input::Message { peer, message });
    world.run_until(1_000, "the value is deleted", |w| reads(w, other, "k").is_none());
}

#[test]
fn redundancy_settles_near_one_copy_per_node() {
    let mut world = settled(2, 32);
    let mut last = 0;
    for round in 0..60_u64 {
        if round == 30 {
            last = world.payloads_delivered;
        }
        world.put(1 + (round as usize * 7) % 32, &format!("k{round}"), "v");
        world.run(1_000);
    }
    let copies = (world.payloads_delivered - last) as f64 / 30.0 / 31.0;
    assert!(copies <= 1.15, "{copies} payload copies per node");
    assert!(world.equal());
}

#[test]
fn killed_nodes_come_back_and_everything_is_equal_again() {
    let mut world = settled(3, 24);
    for k in 0..50 {
        world.put(1 + k % 24, &format!("before{k}"), "v");
    }
    world.run(1_000);
    for node in 1..=6 {
        world.kill(node);
    }
    for k in 0..50 {
        world.put(7 + k % 18, &format!("during{k}"), "v");
        world.run(50);
    }
    world.run_until(60_000, "the survivors are one component", |w| w.components() == 1);
    for node in 1..=6 {
        world.restart(node);
    }
    world.run_until(60_000, "everything is equal and one component", |w| w.components() == 1 && w.equal());
    assert_eq!(reads(&world, 3, "during49"), Some(b"v".to_vec()));
}

#[test]
fn with_the_seed_dead_a_restarted_node_still_finds_the_network() {
    let mut world = settled(4, 8);
    world.run(60_000);
    assert!(!world.nodes[5].remembered.is_empty(), "peers were given to be remembered");
    world.kill(0);
    world.kill(5);
    world.put(2, "k", "v");
    world.run(30_000);
    world.restart(5);
    world.run_until(60_000, "the node is back", |w| w.components() == 1 && w.equal());
}

#[test]
fn a_network_split_for_minutes_becomes_one_again() {
    let mut world = settled(5, 24);
    for node in 13..=24 {
        world.groups.insert(node, 1);
    }
    world.run(120_000);
    assert!(world.components() >= 2, "the split is seen");
    world.put(3, "left", "1");
    world.put(20, "right", "2");
    world.run(60_000);
    assert_eq!(reads(&world, 20, "left"), None);
    world.groups.clear();
    let healed = world.run_until(420_000, "one component and equal", |w| w.components() == 1 && w.equal());
    assert_eq!(reads(&world, 20, "left"), Some(b"1".to_vec()), "healed after {healed} ms");
}

#[test]
fn deletes_stay_deleted_whoever_was_away() {
    let mut world = settled(6, 12);
    world.put(1, "k", "old");
    world.run(1_000);
    world.kill(4);
    let delete =
        Write { keyspace: "default".into(), key: b"k".to_vec(), op: Op::Delete, ttl_ms: None, check: None };
    world.write(2, vec![delete]);
    world.run(60_000);
    world.restart(4);
    world.run_until(60_000, "equal", World::equal);
    for node in replicas(&world) {
        assert_eq!(reads(&world, node, "k"), None, "node {node}");
    }
}

#[test]
fn concurrent_increments_all_count() {
    let mut world = settled(7, 12);
    for node in 1..=12 {
        let incr = Write {
            keyspace: "default".into(),
            key: b"n".to_vec(),
            op: Op::Incr { by: i64::try_from(node).expect("small") },
            ttl_ms: None,
            check: None,
        };
        world.write(node, vec![incr]);
    }
    world.run_until(10_000, "equal", World::equal);
    for node in replicas(&world) {
        let reader = world.nodes[node].core.store().expect("a replica").reader();
        assert_eq!(reader.counter(0, "default", b"n").expect("memory reads"), Some(78), "node {node}");
    }
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all_where_its_rumor_arrives() {
    let mut world = settled(8, 12);
    let writes = (0..50)
        .map(|k| Write {
            keyspace: "default".into(),
            key: format!("batch{k}").into_bytes(),
            op: Op::Put { value: Bytes::from_static(b"v") },
            ttl_ms: None,
            check: None,
        })
        .collect();
    world.write(3, writes);
    for _ in 0..200 {
        for node in replicas(&world) {
            let present = (0..50).filter(|k| reads(&world, node, &format!("batch{k}")).is_some()).count();
            assert!(present == 0 || present == 50, "node {node} shows {present} of 50");
        }
        world.run(1);
    }
    assert!(world.equal());
}

#[test]
fn a_crawl_finds_every_node() {
    let mut world = settled(9, 40);
    world.input(7, Input::Crawl(1));
    world.run_until(30_000, "the crawl ends", |w| w.nodes[7].crawled.is_some());
    let (found, unreachable) = world.nodes[7].crawled.expect("it ended");
    assert_eq!((found, unreachable), (41, 0), "40 replicas and the seed");
}

#[test]
fn a_crawl_names_a_node_that_was_killed_until_it_is_back() {
    let mut world = settled(9, 12);
    let crawl = |world: &mut World| {
        world.nodes[7].crawled = None;
        world.input(7, Input::Crawl(1));
        world.run_until(30_000, "the crawl ends", |w| w.nodes[7].crawled.is_some());
        world.nodes[7].crawled.expect("it ended")
    };
    world.kill(3);
    for wait_ms in [5_000, 600_000] {
        world.run(wait_ms);
        assert_eq!(crawl(&mut world), (12, 1), "{wait_ms} ms later");
    }
    world.restart(3);
    world.run(10_000);
    assert_eq!(crawl(&mut world), (13, 0));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| -> (u64, u64, Vec<Vec<NodeId>>) {
        let mut world = settled(seed, 16);
        for k in 0..20 {
            world.put(1 + k % 16, &format!("k{k}"), "v");
            world.run(30);
        }
        world.kill(3);
        world.run(20_000);
        let views = world.nodes.iter().map(|n| n.core.active().collect()).collect();
        (world.payloads_delivered, world.bytes_delivered, views)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11).1, run(12).1, "another seed gives another run");
}

#[test]
fn an_idle_network_is_quiet() {
    let mut world = settled(10, 32);
    world.run(600_000);
    let before = world.bytes_delivered;
    world.run(600_000);
    let per_node_and_second = (world.bytes_delivered - before) as f64 / 600.0 / 33.0;
    assert!(per_node_and_second < 150.0, "{per_node_and_second} bytes of frames per node and second");
}
