//! A member of a strong keyspace whose disk is full for a while.

use starling_strong::api::Failure;

use crate::strong::{answer, create, events, get, put, value, watch};
use crate::world::{World, settled};

/// Why the replica on a node does not work, as `readyz` shows it.
fn failure(world: &World, node: usize) -> Option<String> {
    let strong = world.nodes[node].core.strong().expect("a replica of the network");
    strong.closed().map(|(_, reason)| reason).next()
}

fn set_full(world: &World, node: usize, is_full: bool) {
    world.nodes[node].engine.set_full(is_full);
}

#[test]
fn the_other_members_serve_until_there_is_space_again() {
    let mut world = settled(11, 5);
    let members = create(&mut world, "orders", 3, &[]);
    answer(&mut world, 1, "orders", put("k", "before")).0.expect("written");
    // Each member in turn, so that leaders and followers are among them.
    for (round, full) in members.iter().copied().enumerate() {
        set_full(&world, full, true);
        let outside = (1..=5).find(|node| !members.contains(node)).expect("there are more nodes");
        // Its outcome is unknown if it was on its way to a leader that stops.
        let (first, _) = answer(&mut world, outside, "orders", put("k", "noticed"));
        assert!(matches!(first, Ok(_) | Err(Failure::OutcomeUnknown(_))), "{first:?}");
        world.run_until(5_000, "the replica stops", |w| failure(w, full).is_some());
        for (number, node) in [full, outside, full].into_iter().enumerate() {
            let text = format!("{round} {number}");
            answer(&mut world, node, "orders", put("k", &text)).0.expect("two members are left");
            let (read, _) = answer(&mut world, node, "orders", get("k"));
            assert_eq!(value(read), Some(text), "through node {node}");
        }
        set_full(&world, full, false);
        world.run_until(6_000, "the replica is open again", |w| failure(w, full).is_none());
        // With the next member's disk full, this one is needed for a majority.
        world.run(3_000);
    }
}

#[test]
fn watches_go_on_at_another_member_meanwhile() {
    let mut world = settled(11, 5);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=5).find(|node| !members.contains(node)).expect("there are more nodes");
    let full = members[1];
    let watches = [full, outside].map(|node| (node, watch(&mut world, node, 1_000)));
    world.run(1_000);
    for n in 0..30 {
        if n % 10 == 5 {
            set_full(&world, full, n == 5);
        }
        // The outcome is unknown if the leader stops; whether it was written does not matter here.
        let _ = answer(&mut world, outside, "orders", put(&format!("k{n:02}"), "v"));
        world.run(500);
    }
    let (read, _) = answer(&mut world, outside, "orders", get("k29"));
    assert_eq!(value(read).as_deref(), Some("v"));
    world.run(20_000);
    let revisions = watches.map(|(node, token)| {
        let events = events(&world, node, token);
        events.iter().map(|event| event.kv.mod_revision).collect::<Vec<_>>()
    });
    assert!(revisions[0].is_sorted_by(|a, b| a < b), "in order, none twice: {revisions:?}");
    assert!(revisions[0].len() >= 28, "{revisions:?}");
    assert_eq!(revisions[0], revisions[1]);
}

#[test]
fn a_keyspace_of_one_member_opens_again() {
    let mut world = settled(11, 5);
    let members = create(&mut world, "orders", 1, &[]);
    answer(&mut world, 1, "orders", put("k", "before")).0.expect("written");
    set_full(&world, members[0], true);
    let (refused, _) = answer(&mut world, members[0], "orders", put("k", "lost"));
    assert!(matches!(refused, Err(Failure::OutcomeUnknown(_) | Failure::Storage(_))), "{refused:?}");
    let (refused, _) = answer(&mut world, members[0], "orders", get("k"));
    assert!(matches!(refused, Err(Failure::Storage(_))), "{refused:?}");
    // It is tried again and again.
    world.run(20_000);
    set_full(&world, members[0], false);
    world.run_until(6_000, "the replica is open again", |w| failure(w, members[0]).is_none());
    world.run(2_000);
    let (read, _) = answer(&mut world, members[0], "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("before"));
}

#[test]
fn every_closed_replica_is_named() {
    let mut world = settled(12, 3);
    for keyspace in ["orders", "stock", "users"] {
        create(&mut world, keyspace, 3, &[]);
    }
    set_full(&world, 2, true);
    for keyspace in ["orders", "stock", "users"] {
        answer(&mut world, 1, keyspace, put("k", "v")).0.expect("two members are left");
    }
    let closed = |world: &World| -> Vec<String> {
        let strong = world.nodes[2].core.strong().expect("a replica of the network");
        let mut closed: Vec<_> = strong.closed().map(|(name, reason)| format!("{name}: {reason}")).collect();
        closed.sort();
        closed
    };
    world.run_until(5_000, "all three replicas stop", |w| closed(w).len() == 3);
    let full = "the disk is full";
    assert_eq!(closed(&world), ["orders", "stock", "users"].map(|name| format!("{name}: {full}")));
    world.kill(2);
    set_full(&world, 2, false);
    world.restart(2);
    assert!(closed(&world).is_empty());
}
