//! Strong keyspaces that were created under one name by nodes that did not reach each other.

use std::collections::BTreeSet;

use starling_core::Input;
use starling_core::strong::{LOCATIONS, StrongInput, former_name};
use starling_kv::{Field, Op, Write};
use starling_proto::Role;
use starling_strong::api::{Failure, WatchUpdate};

use crate::strong::{answer, create_through, drop_keyspace, get, leader, put, value, watch};
use crate::world::{World, current};

/// Starts a node that has never reached the others, and creates a keyspace on it alone.
fn start_alone(world: &mut World, members: usize) -> Vec<usize> {
    let first = world.nodes.len();
    let nodes: Vec<usize> = (first..first + members).collect();
    world.groups.extend(nodes.iter().map(|node| (*node, 1)));
    world.start(Role::Replica, &[0]);
    for _ in 1..members {
        world.start(Role::Replica, &[first]);
    }
    world.run(5_000);
    let voters = create_through(world, first, "orders", members as u8, &[]);
    assert_eq!(voters.len(), members);
    answer(world, first, "orders", put("whose", "theirs")).0.expect("written");
    nodes
}

/// The name of the keyspace that gave way, as one of its members knows it.
fn aside(world: &World, node: usize) -> Option<String> {
    let groups = world.nodes[node].core.strong().expect("a replica").groups();
    groups.filter(|(group, name)| former_name(name, group) == Some("orders")).map(|it| it.1.to_owned()).next()
}

/// Connects all nodes. Until all have the same keyspace, each of them answers from the one that keeps the name, or from
/// the other one if only the other one was known to it, or not at all; nodes `ours` always answer from the former.
fn heal(world: &mut World, ours: &[usize], theirs: &[usize]) {
    let apart: Vec<usize> = world.groups.keys().copied().collect();
    world.groups.clear();
    let contacts = world.nodes[0].record.addresses.clone();
    world.input(apart[0], Input::Contact(contacts));
    let mut waiting: BTreeSet<usize> = (1..world.nodes.len()).collect();
    let deadline = world.now.0 + 60_000;
    while !waiting.is_empty() {
        assert!(
            world.now.0 < deadline,
            "nodes {waiting:?} have not changed to the keyspace that keeps the name"
        );
        for node in 1..world.nodes.len() {
            let (found, _) = answer(world, node, "orders", get("whose"));
            let whose = found.map(|found| value(Ok(found)));
            match whose {
                Ok(Some(whose)) if whose == "ours" => drop(waiting.remove(&node)),
                _ if ours.contains(&node) => panic!("{whose:?} through node {node}, which had ours"),
                Ok(_) => assert!(waiting.contains(&node), "node {node} went back to the other one"),
                Err(failure) => assert!(matches!(failure, Failure::Ambiguous(_)), "{failure}"),
            }
        }
        world.run(100);
    }
    world.run_until(10_000, "the other keyspace has another name", |w| {
        theirs.iter().all(|node| aside(w, *node).is_some())
    });
}

/// Checks that what both keyspaces had acknowledged is there, under the name and under the other one.
fn check_both(world: &mut World, theirs: &[usize]) {
    let name = aside(world, theirs[0]).expect("it gave way");
    world.run(10_000);
    for node in 1..world.nodes.len() {
        let (found, _) = answer(world, node, "orders", get("whose"));
        assert_eq!(value(found).as_deref(), Some("ours"), "through node {node}");
        let (found, _) = answer(world, node, &name, get("whose"));
        assert_eq!(value(found).as_deref(), Some("theirs"), "under {name} through node {node}");
    }
}

#[test]
fn a_keyspace_of_a_lone_node_does_not_stop_one_of_several_whichever_is_older() {
    for (seed, is_older) in [(21, false), (22, true)] {
        let mut world = current(seed, 5);
        let ours: Vec<usize> = (1..=5).collect();
        let early = if is_older { start_alone(&mut world, 1) } else { Vec::new() };
        let members = create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
        answer(&mut world, 4, "orders", put("whose", "ours")).0.expect("written");
        let theirs = if is_older { early } else { start_alone(&mut world, 1) };
        heal(&mut world, &ours, &theirs);
        check_both(&mut world, &theirs);
        // It keeps its other name, and the keyspace its own, after restarts.
        let leads = leader(&mut world, "orders", &members);
        for node in [leads, theirs[0]] {
            world.kill(node);
            world.run(3_000);
            world.restart(node);
            world.run(10_000);
        }
        check_both(&mut world, &theirs);
        let name = aside(&world, theirs[0]).expect("it gave way");
        drop_keyspace(&mut world, theirs[0], &name).expect("dropped");
        world.run(5_000);
        let (found, _) = answer(&mut world, theirs[0], "orders", get("whose"));
        assert_eq!(value(found).as_deref(), Some("ours"));
    }
}

#[test]
fn of_two_keyspaces_of_several_nodes_the_older_one_keeps_the_name() {
    let mut world = current(23, 4);
    let ours: Vec<usize> = (1..=4).collect();
    create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
    answer(&mut world, 4, "orders", put("whose", "ours")).0.expect("written");
    let theirs = start_alone(&mut world, 3);
    heal(&mut world, &ours, &theirs);
    check_both(&mut world, &theirs);
}

#[test]
fn the_same_one_keeps_the_name_if_its_nodes_are_those_that_come_later() {
    let mut world = current(24, 4);
    // The younger one, on most nodes, is the one that gives way.
    let late = start_alone(&mut world, 3);
    create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
    answer(&mut world, 4, "orders", put("whose", "ours")).0.expect("written");
    answer(&mut world, late[0], "orders", put("whose", "ours")).0.expect("written");
    answer(&mut world, 1, "orders", put("whose", "theirs")).0.expect("written");
    heal(&mut world, &late, &[1, 2, 3]);
    check_both(&mut world, &[1, 2, 3]);
}

#[test]
fn a_watch_of_the_keyspace_that_gave_way_ends() {
    let mut world = current(25, 4);
    create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
    answer(&mut world, 4, "orders", put("whose", "ours")).0.expect("written");
    let ours: Vec<usize> = (1..=4).collect();
    let theirs = start_alone(&mut world, 1);
    let token = watch(&mut world, theirs[0], 1_000);
    let kept = watch(&mut world, 4, 1_000);
    world.run(1_000);
    heal(&mut world, &ours, &theirs);
    world.run(3_000);
    let has_ended = |world: &World, node: usize, token: u64| {
        let mut updates = world.nodes[node].updates.iter().filter(|(of, _)| *of == token);
        updates.any(|(_, update)| matches!(update, WatchUpdate::Lost { .. }))
    };
    assert!(has_ended(&world, theirs[0], token), "its revisions are those of another keyspace");
    assert!(!has_ended(&world, 4, kept));
}

/// A write of the locations that a node knows under the name.
fn published(world: &World, node: usize) -> Write {
    let reader = world.nodes[node].core.store().expect("a store").reader();
    let fields = reader.map_entries(0, LOCATIONS, b"orders", None, 16).expect("a memory engine reads").items;
    let fields = fields.into_iter().map(|(name, register)| Field::new(name, register.value));
    let op = Op::MapPut { fields: fields.collect() };
    Write { keyspace: LOCATIONS.into(), key: "orders".into(), op, ttl_ms: None, check: None }
}

/// A leader that publishes its location once more and is then lost for good cannot withdraw it.
#[test]
fn the_location_of_a_dropped_keyspace_does_not_stop_one_that_is_created_later() {
    let mut world = current(28, 5);
    create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
    world.run(6_000);
    let late = published(&world, 1);
    drop_keyspace(&mut world, 1, "orders").expect("dropped");
    world.run(6_000);
    create_through(&mut world, 4, "orders", 3, &[3, 4, 5]);
    world.write(5, vec![late]);
    world.run(10_000);
    for node in 1..=5 {
        answer(&mut world, node, "orders", put("whose", "ours")).0.expect("served");
    }
    assert!(matches!(published(&world, 5).op, Op::MapPut { fields } if fields.len() == 1), "it is withdrawn");
}

/// The node that drops a keyspace remembers that, although it is no member and reaches none.
#[test]
fn members_that_were_all_away_when_their_keyspace_was_dropped_remove_it() {
    let mut world = current(29, 5);
    create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
    answer(&mut world, 4, "orders", put("whose", "ours")).0.expect("node 4 has found it");
    world.run(6_000);
    (1..=3).for_each(|node| world.kill(node));
    drop_keyspace(&mut world, 4, "orders").expect("dropped");
    world.run(6_000);
    (1..=3).for_each(|node| world.restart(node));
    let holds = |w: &World, node: usize| w.nodes[node].core.strong().is_some_and(|s| s.groups().count() > 0);
    world.run_until(60_000, "no member has it", |w| !(1..=3).any(|node| holds(w, node)));
    world.run(10_000);
    for node in 1..=5 {
        let op = published(&world, node).op;
        assert!(matches!(&op, Op::MapPut { fields } if fields.is_empty()), "node {node}: {op:?}");
    }
}

#[test]
fn a_location_that_nobody_confirms_renames_nothing() {
    let mut world = current(26, 5);
    create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
    answer(&mut world, 4, "orders", put("whose", "ours")).0.expect("written");
    // The location of another keyspace of several nodes, which is older, under this name.
    let mut other = current(27, 3);
    create_through(&mut other, 1, "orders", 3, &[1, 2, 3]);
    other.run(6_000);
    let forged = published(&other, 1);
    world.write(5, vec![forged]);
    world.run(30_000);
    for node in 1..=3 {
        let strong = world.nodes[node].core.strong().expect("a replica");
        assert_eq!(strong.groups().map(|(_, name)| name).collect::<Vec<_>>(), ["orders"]);
    }
    let (found, _) = answer(&mut world, 1, "orders", get("whose"));
    assert!(matches!(found, Err(Failure::Ambiguous(_))), "{found:?}");
    let token = world.token();
    let create =
        StrongInput::Create { token, keyspace: "orders".into(), voters: 1, on: Vec::new(), manual: false };
    world.input(4, Input::Strong(create));
    assert!(world.nodes[4].created[&token].is_err(), "the name is taken");
}
