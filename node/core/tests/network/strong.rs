//! Strong keyspaces: any node serves any client.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::recovery::asides;
use crate::world::{World, settled};
use starling_core::Input;
use starling_core::strong::{CreateError, ManageError, StrongInput};
use starling_kv::Engine;
use starling_kv::engine::{Family, View};
use starling_proto::NodeId;
use starling_strong::api::{
    Answer, Body, Event, Failure, Keys, Options, Put, Range, Read, Request, RequestId, Status, Txn, TxnOp,
    Watch, WatchUpdate, Write,
};
use starling_strong::registry;

/// Makes a keyspace through node 1; returns its members, as positions in the world.
pub fn create(world: &mut World, keyspace: &str, voters: u8, on: &[usize]) -> Vec<usize> {
    create_through(world, 1, keyspace, voters, on)
}

pub fn create_through(
    world: &mut World,
    node: usize,
    keyspace: &str,
    voters: u8,
    on: &[usize],
) -> Vec<usize> {
    create_with(world, node, keyspace, voters, on, false)
}

fn create_with(
    world: &mut World,
    node: usize,
    keyspace: &str,
    voters: u8,
    on: &[usize],
    manual: bool,
) -> Vec<usize> {
    let token = world.token();
    let on: Vec<NodeId> = on.iter().map(|node| world.nodes[*node].record.id).collect();
    world.input(
        node,
        Input::Strong(StrongInput::Create { token, keyspace: keyspace.into(), voters, on, manual }),
    );
    world.run_until(15_000, "the keyspace is made", |w| w.nodes[node].created.contains_key(&token));
    let hint = world.nodes[node].created[&token].clone().expect("it is made");
    let find = |id: NodeId| world.nodes.iter().position(|node| node.record.id == id).expect("of this world");
    hint.members.iter().map(|record| find(record.id)).collect()
}

fn ask(world: &mut World, node: usize, keyspace: &str, request: Request, timeout_ms: u64) -> u64 {
    let token = world.token();
    let options = Options { timeout_ms, stale: false, id: None, fence: None };
    world.input(
        node,
        Input::Strong(StrongInput::Request { token, keyspace: keyspace.into(), request, options }),
    );
    token
}

/// Asks and waits; also says how long it took.
pub fn answer(
    world: &mut World,
    node: usize,
    keyspace: &str,
    request: Request,
) -> (Result<Answer, Failure>, u64) {
    let token = ask(world, node, keyspace, request, 5_000);
    let took = world.run_until(6_000, "an answer", |w| w.nodes[node].answers.contains_key(&token));
    (world.nodes[node].answers[&token].clone(), took)
}

pub fn put(key: &str, value: &str) -> Request {
    let value = Some(value.into());
    Request::Write(Write::Put(Put { key: key.into(), value, lease: Some(0), prev: false }))
}

pub fn get(key: &str) -> Request {
    Request::Read(Read::Range(Range::of(Keys::One(key.into()))))
}

pub fn value(answer: Result<Answer, Failure>) -> Option<String> {
    match answer.expect("an answer").body {
        Body::Range(found) => found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()),
        body => panic!("not what a range is answered: {body:?}"),
    }
}

pub fn leader(world: &mut World, keyspace: &str, members: &[usize]) -> usize {
    let leads = |w: &World, node: usize| w.nodes[node].up && w.nodes[node].core.leads(keyspace);
    world.run_until(10_000, "a leader", |w| members.iter().any(|node| leads(w, *node)));
    *members.iter().find(|node| leads(world, **node)).expect("there is one")
}

#[test]
fn any_node_serves_any_client() {
    let mut world = settled(1, 12);
    let members = create(&mut world, "orders", 3, &[]);
    assert_eq!(members.len(), 3);
    for node in 1..=12 {
        let (written, _) = answer(&mut world, node, "orders", put(&format!("k{node}"), "v"));
        written.expect("a write through any node");
        let next = node % 12 + 1;
        let (read, took) = answer(&mut world, next, "orders", get(&format!("k{node}")));
        assert_eq!(value(read).as_deref(), Some("v"), "read on node {next}");
        assert!(took < 1_500, "{took} ms");
    }
}

#[test]
fn a_dead_leader_costs_a_fraction_of_a_second() {
    let mut world = settled(2, 8);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    answer(&mut world, outside, "orders", put("k", "before")).0.expect("written");
    let leads = leader(&mut world, "orders", &members);
    world.kill(leads);
    world.run(5);
    let began = world.now;
    loop {
        let (written, _) = answer(&mut world, outside, "orders", put("k", "after"));
        if written.is_ok() {
            break;
        }
    }
    let took = world.now - began;
    // In this world it takes a second to find out that a dead node cannot be dialed.
    assert!(took <= 1_500, "{took} ms");
    world.restart(leads);
    world.run(3_000);
    let (read, _) = answer(&mut world, leads, "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("after"), "through the one that was dead");
}

#[test]
fn who_waits_for_a_silent_leader_is_sent_to_the_next_one() {
    let mut world = settled(3, 8);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    answer(&mut world, outside, "orders", put("k", "before")).0.expect("written");
    let leads = leader(&mut world, "orders", &members);
    // Its links stay: it has stopped, and no node is notified.
    world.groups = BTreeMap::from([(leads, 1)]);
    let token = world.token();
    let id = Some(RequestId { client: 7, seq: 1, answered_below: 1 });
    let options = Options { timeout_ms: 5_000, stale: false, id, fence: None };
    let (keyspace, request) = ("orders".into(), put("k", "after"));
    world.input(outside, Input::Strong(StrongInput::Request { token, keyspace, request, options }));
    let read = ask(&mut world, outside, "orders", get("k"), 5_000);
    // An election takes 500 to 900 ms; a node that does not reply is tried for 1,500 ms.
    let answered = |w: &World| [token, read].iter().all(|token| w.nodes[outside].answers.contains_key(token));
    world.run_until(1_200, "both are answered", answered);
    world.nodes[outside].answers[&token].clone().expect("written");
    world.nodes[outside].answers[&read].clone().expect("read");
}

#[test]
fn without_a_majority_the_missing_are_named_in_time() {
    let mut world = settled(3, 6);
    let members = create(&mut world, "orders", 3, &[]);
    let leads = leader(&mut world, "orders", &members);
    let gone: Vec<usize> = members.iter().copied().filter(|node| *node != leads).collect();
    for node in &gone {
        world.kill(*node);
    }
    world.run(3_000);
    let names: Vec<String> = gone.iter().map(|node| world.nodes[*node].record.name.clone()).collect();
    for node in [leads, (1..=6).find(|node| !members.contains(node)).expect("another node")] {
        let (read, took) = answer(&mut world, node, "orders", get("k"));
        let Err(Failure::NoMajority { missing, .. }) = read else { panic!("{read:?}") };
        assert!(names.iter().all(|name| missing.contains(name)), "{missing:?} of {names:?}");
        assert!(took <= 5_000, "{took} ms");
    }
    world.put(leads, "eventual", "does not notice");
}

#[test]
fn a_keyspace_that_is_not_there_is_said_so() {
    let mut world = settled(4, 4);
    let (read, _) = answer(&mut world, 2, "nowhere", get("k"));
    assert_eq!(read, Err(Failure::NoSuchKeyspace("nowhere".into())));
    let members = create(&mut world, "orders", 3, &[]);
    let token = world.token();
    let (keyspace, on) = ("orders".into(), Vec::new());
    world.input(1, Input::Strong(StrongInput::Create { token, keyspace, voters: 3, on, manual: false }));
    assert_eq!(world.nodes[1].created[&token].clone().err(), Some(CreateError::Exists("orders".into())));
    let token = world.token();
    world.input(1, Input::Strong(StrongInput::Drop { token, keyspace: "orders".into() }));
    world.run(2_000);
    assert_eq!(world.nodes[1].managed[&token], Ok(()));
    assert!(
        members.iter().all(|node| world.nodes[*node].core.strong().is_some_and(|s| s.groups().count() == 0))
    );
    let (read, _) = answer(&mut world, 3, "orders", get("k"));
    assert!(read.is_err(), "{read:?}");
}

pub fn events(world: &World, node: usize, token: u64) -> Vec<Event> {
    let updates = world.nodes[node].updates.iter().filter(|(of, _)| *of == token);
    let told = updates.filter_map(|(_, update)| match update {
        WatchUpdate::Events { events, .. } => Some(events.clone()),
        _ => None,
    });
    told.flatten().collect()
}

/// Watches all keys from `k` on, with this many updates at first.
pub fn watch(world: &mut World, node: usize, updates: u32) -> u64 {
    let token = world.token();
    let keys = Keys::Range { from: b"k".to_vec(), to: None };
    let watch = Watch { keys, from_revision: 0, prev: false, only: None };
    world.input(node, Input::Strong(StrongInput::Watch { token, keyspace: "orders".into(), watch, updates }));
    token
}

#[test]
fn a_watch_outlives_the_member_that_serves_it() {
    let mut world = settled(5, 8);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    let token = watch(&mut world, outside, 1_000);
    world.run(1_000);
    for n in 0..30 {
        if n % 10 == 5 {
            let victim = members[n / 10];
            world.kill(victim);
            world.run(2_000);
            world.restart(victim);
        }
        loop {
            let (written, _) = answer(&mut world, outside, "orders", put(&format!("k{n:02}"), "v"));
            if written.is_ok() {
                break;
            }
        }
    }
    world.run(5_000);
    let mut told: Vec<String> = events(&world, outside, token)
        .iter()
        .map(|event| String::from_utf8_lossy(&event.kv.key).into_owned())
        .collect();
    let revisions: Vec<u64> =
        events(&world, outside, token).iter().map(|event| event.kv.mod_revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "in order, none twice: {revisions:?}");
    told.dedup();
    assert_eq!(told, (0..30).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
    let created =
        world.nodes[outside].updates.iter().filter(|(_, it)| matches!(it, WatchUpdate::Created { .. }));
    assert_eq!(created.count(), 1);
}

#[test]
fn a_watch_whose_last_update_was_lost_finds_out() {
    let mut world = settled(6, 8);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    let token = watch(&mut world, outside, 1_000);
    world.run(1_000);
    // Too short for anybody to find the watcher silent: its links stay.
    world.groups = BTreeMap::from([(outside, 1)]);
    answer(&mut world, members[0], "orders", put("k", "v")).0.expect("written");
    world.run(200);
    world.groups.clear();
    // Nothing is written any more.
    world.run_until(20_000, "the change is told", |w| !events(w, outside, token).is_empty());
    world.run(20_000);
    assert_eq!(events(&world, outside, token).len(), 1, "told once");
}

#[test]
fn a_watch_gets_no_more_than_it_asked_for() {
    let mut world = settled(6, 6);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=6).find(|node| !members.contains(node)).expect("there are more nodes");
    let token = watch(&mut world, outside, 2);
    world.run(1_000);
    for n in 0..10 {
        answer(&mut world, 1, "orders", put(&format!("k{n}"), "v")).0.expect("written");
    }
    world.run(2_000);
    assert!(events(&world, outside, token).len() < 10);
    world.input(outside, Input::Strong(StrongInput::More { token, updates: 100 }));
    world.run(1_000);
    assert_eq!(events(&world, outside, token).len(), 10);
}

#[test]
fn a_watch_whose_client_is_slow_outlives_the_member_that_serves_it_too() {
    let mut world = settled(6, 6);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=6).find(|node| !members.contains(node)).expect("there are more nodes");
    let token = watch(&mut world, outside, 1);
    world.run(1_000);
    for n in 0..10 {
        answer(&mut world, 1, "orders", put(&format!("k{n}"), "v")).0.expect("written");
    }
    world.run(2_000);
    for member in members {
        world.kill(member);
        world.run(5_000);
        world.restart(member);
        world.run(45_000);
    }
    world.input(outside, Input::Strong(StrongInput::More { token, updates: 100 }));
    world.run(3_000);
    assert_eq!(events(&world, outside, token).len(), 10);
    let is_lost = |(_, update): &(u64, WatchUpdate)| matches!(update, WatchUpdate::Lost { .. });
    assert!(!world.nodes[outside].updates.iter().any(is_lost), "its client was told that it has ended");
}

#[test]
fn a_hundred_idle_keyspaces_cost_few_frames() {
    let mut world = settled(7, 5);
    for n in 0..100 {
        create(&mut world, &format!("k{n}"), 3, &[]);
    }
    world.run(10_000);
    let before = (world.frames_delivered, world.bytes_delivered);
    world.run(10_000);
    let frames = (world.frames_delivered - before.0) / 10;
    let bytes = (world.bytes_delivered - before.1) / 10;
    println!("idle: {frames} frames/s, {bytes} bytes/s over 5 nodes");
    assert!(frames <= 1_000, "{frames} frames/s");
}

#[test]
fn nobody_is_asked_to_manage_what_is_not_there() {
    let mut world = settled(8, 3);
    let (token, to) = (world.token(), world.nodes[2].record.id);
    world.input(1, Input::Strong(StrongInput::Transfer { token, keyspace: "nowhere".into(), to }));
    world.run(4_000);
    let expected = Err(ManageError::NoSuchKeyspace("nowhere".into()));
    assert_eq!(world.nodes[1].managed[&token], expected);
}

#[test]
fn leadership_is_handed_over_on_request() {
    let mut world = settled(9, 5);
    let members = create(&mut world, "orders", 3, &[]);
    let leads = leader(&mut world, "orders", &members);
    let next = *members.iter().find(|node| **node != leads).expect("three members");
    let (token, to) = (world.token(), world.nodes[next].record.id);
    world.input(1, Input::Strong(StrongInput::Transfer { token, keyspace: "orders".into(), to }));
    world.run_until(3_000, "the transfer is done", |w| w.nodes[1].managed.contains_key(&token));
    assert_eq!(world.nodes[1].managed[&token], Ok(()));
    assert!(world.nodes[next].core.leads("orders"));
}

fn status(world: &mut World, asked: usize, keyspace: &str, of_leader: bool) -> Status {
    let token = world.token();
    world.input(asked, Input::Strong(StrongInput::Status { token, keyspace: keyspace.into(), of_leader }));
    world.run_until(6_000, "a status", |w| w.nodes[asked].statuses.contains_key(&token));
    world.nodes[asked].statuses[&token].clone().expect("a status")
}

/// The positions of a keyspace's voters, as node `asked` learns them.
pub fn voters(world: &mut World, asked: usize, keyspace: &str) -> Vec<usize> {
    let status = status(world, asked, keyspace, false);
    let voters = status.members.into_iter().filter(|member| !member.learner);
    let find = |name: &str| world.nodes.iter().position(|node| node.record.name == name);
    voters.map(|member| find(&member.name).expect("of this world")).collect()
}

#[test]
fn a_voter_that_is_gone_for_long_is_replaced_by_itself() {
    let mut world = settled(10, 8);
    let members = create(&mut world, "orders", 3, &[]);
    answer(&mut world, 1, "orders", put("k", "v")).0.expect("written");
    let gone = members[1];
    let asked = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    world.kill(gone);
    world.run(40_000);
    assert!(voters(&mut world, asked, "orders").contains(&gone), "not at once");
    world.run(60_000);
    let now = voters(&mut world, asked, "orders");
    assert!(now.len() == 3 && !now.contains(&gone), "{now:?}, {gone} is gone");
    let another = *now.iter().find(|node| members.contains(node)).expect("an old one");
    world.kill(another);
    world.run(3_000);
    let (read, _) = answer(&mut world, asked, "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("v"), "with two of three");
    // The member that was gone comes back, and is notified.
    world.restart(gone);
    world.run(10_000);
    assert_eq!(world.nodes[gone].core.strong().map(|strong| strong.groups().count()), Some(0));
}

/// Rows that an engine holds of strong keyspaces and their logs.
pub fn strong_rows(world: &World, node: usize) -> usize {
    let mut rows = 0;
    for family in
        [Family::Raft, Family::StrongNow, Family::StrongPast, Family::StrongChanges, Family::StrongState]
    {
        let mut count = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        };
        world.nodes[node].engine.view().scan(family, &[], None, &mut count).expect("memory");
    }
    // That something was dropped stays.
    rows - registry::dropped(&world.nodes[node].engine).expect("memory").len()
}

#[test]
fn a_dropped_keyspace_is_removed_bit_by_bit_also_after_a_restart() {
    let mut world = settled(12, 5);
    let members = create(&mut world, "orders", 3, &[]);
    let other = create(&mut world, "other", 3, &[]);
    for first in (0..6_000).step_by(100) {
        let put = |n: u32| {
            let (key, value) = (format!("k{n}").into_bytes(), Some(b"v".to_vec()));
            TxnOp::Put(Put { key, value, lease: Some(0), prev: false })
        };
        let then = (first..first + 100).map(put).collect();
        let txn = Txn { compare: Vec::new(), then, otherwise: Vec::new() };
        answer(&mut world, 1, "orders", Request::Write(Write::Txn(txn))).0.expect("written");
    }
    answer(&mut world, 1, "other", put("k", "v")).0.expect("written");
    let token = world.token();
    world.input(1, Input::Strong(StrongInput::Drop { token, keyspace: "orders".into() }));
    world.run(25);
    let node = members[0];
    assert!(strong_rows(&world, node) > 1_000, "it takes a while");
    world.kill(node);
    world.run(100);
    world.restart(node);
    let (read, took) = answer(&mut world, 2, "other", get("k"));
    assert_eq!(value(read).as_deref(), Some("v"), "after {took} ms");
    world.run(3_000);
    for node in members {
        let left = strong_rows(&world, node);
        let most = if other.contains(&node) { 40 } else { 0 };
        assert!(left <= most, "node {node} has {left} rows");
    }
}

pub fn drop_keyspace(world: &mut World, node: usize, keyspace: &str) -> Result<(), ManageError> {
    let token = world.token();
    world.input(node, Input::Strong(StrongInput::Drop { token, keyspace: keyspace.into() }));
    world.run_until(5_000, "an answer", |w| w.nodes[node].managed.contains_key(&token));
    world.nodes[node].managed[&token].clone()
}

#[test]
fn a_keyspace_can_be_dropped_through_a_node_that_never_used_it() {
    let mut world = settled(6, 6);
    let members = create(&mut world, "orders", 3, &[]);
    world.run(5_000);
    let leads = leader(&mut world, "orders", &members);
    world.kill(*members.iter().find(|node| **node != leads).expect("a follower"));
    let other = (0..6).find(|node| *node != 0 && !members.contains(node)).expect("six nodes");
    drop_keyspace(&mut world, other, "orders").expect("dropped");
}

#[test]
fn who_was_away_when_a_keyspace_was_dropped_forgets_it_too() {
    let mut world = settled(7, 6);
    let members = create(&mut world, "orders", 3, &[]);
    let leads = leader(&mut world, "orders", &members);
    let away = *members.iter().find(|node| **node != leads).expect("a follower");
    world.kill(away);
    let token = world.token();
    world.input(leads, Input::Strong(StrongInput::Drop { token, keyspace: "orders".into() }));
    world.run_until(5_000, "it is dropped", |w| w.nodes[leads].managed.contains_key(&token));
    // The others are started again meanwhile, and know it all the same.
    for node in members.iter().filter(|node| **node != away) {
        world.kill(*node);
        world.restart(*node);
    }
    world.restart(away);
    let has_group =
        |w: &World, node: usize| w.nodes[node].core.strong().is_some_and(|s| s.groups().count() > 0);
    world.run_until(30_000, "it has heard of it", |w| !members.iter().any(|node| has_group(w, *node)));
    world.run(2_000);
    let again = create_through(&mut world, away, "orders", 3, &members);
    assert_eq!(again.len(), 3, "its name is free");
}

#[test]
fn of_a_keyspace_made_on_both_sides_of_a_split_one_goes_and_the_other_stays() {
    let mut world = settled(8, 10);
    world.groups = (6..=10).map(|node| (node, 1)).collect();
    world.run(15_000);
    let ours = create_through(&mut world, 1, "orders", 3, &[1, 2, 3]);
    let theirs = create_through(&mut world, 6, "orders", 3, &[6, 7, 8]);
    answer(&mut world, 4, "orders", put("whose", "ours")).0.expect("written on one side");
    answer(&mut world, 9, "orders", put("whose", "theirs")).0.expect("written on the other side");
    world.groups.clear();
    world.run_until(60_000, "replicas are equal", World::equal);
    let is_refused = |world: &mut World, node| {
        matches!(answer(world, node, "orders", get("whose")).0, Err(Failure::Ambiguous(_)))
    };
    for node in 1..=10 {
        assert!(is_refused(&mut world, node), "node {node} knows of both");
    }
    // Leaders come and go, and say where they are: that hides neither.
    for members in [&ours, &theirs] {
        let leads = leader(&mut world, "orders", members);
        world.kill(leads);
        world.run(10_000);
        world.restart(leads);
        world.run(10_000);
    }
    for node in 1..=10 {
        assert!(is_refused(&mut world, node), "node {node} still knows of both");
    }
    let refused = drop_keyspace(&mut world, 4, "orders");
    assert_eq!(refused, Err(ManageError::NoReplica("orders".into())), "which one is not said");
    drop_keyspace(&mut world, ours[1], "orders").expect("dropped");
    world.run(20_000);
    for node in 1..=10 {
        let (found, _) = answer(&mut world, node, "orders", get("whose"));
        assert_eq!(value(found).as_deref(), Some("theirs"), "through node {node}");
    }
    for node in ours {
        assert_eq!(asides(&world, node), [("orders".into(), false)], "node {node}");
    }
}

#[test]
fn a_keyspace_made_so_keeps_its_lost_voters_until_somebody_replaces_them() {
    let mut world = settled(11, 8);
    let members = create_with(&mut world, 1, "orders", 3, &[], true);
    let gone = members[1];
    // It is known after a restart too.
    for node in &members {
        world.kill(*node);
        world.restart(*node);
    }
    world.run(3_000);
    world.kill(gone);
    world.run(120_000);
    let asked = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    let now = voters(&mut world, asked, "orders");
    assert!(now.contains(&gone), "{now:?}");
    assert!(status(&mut world, asked, "orders", true).manual);
}

#[test]
fn the_leader_says_who_is_behind_and_another_member_does_without_it() {
    let mut world = settled(12, 8);
    let members = create(&mut world, "orders", 3, &[]);
    let leads = leader(&mut world, "orders", &members);
    let lagging = *members.iter().find(|node| **node != leads).expect("three members");
    world.run(1_000);
    world.kill(lagging);
    for at in 0..5 {
        answer(&mut world, 1, "orders", put(&format!("k{at}"), "v")).0.expect("written");
    }
    let rest = *members.iter().find(|node| ![leads, lagging].contains(node)).expect("three members");
    let outside = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    for asked in [leads, rest, outside] {
        let status = status(&mut world, asked, "orders", true);
        assert_eq!(Some(status.member), status.leader, "asked {asked}");
        let name = world.nodes[lagging].record.name.clone();
        let it = status.members.iter().find(|member| member.name == name).expect("a member");
        assert!(it.behind.is_some_and(|behind| behind >= 5), "{it:?}");
        assert_eq!(status.commit_index, status.applied_index);
        assert!(status.heard_ms.is_some_and(|ms| ms < 1_000), "{status:?}");
    }
    world.kill(leads);
    let status = status(&mut world, rest, "orders", true);
    assert!(status.members.iter().all(|member| member.behind.is_none()), "{status:?}");
}

#[test]
fn a_new_leader_does_not_say_how_far_a_voter_is_behind_that_it_never_heard() {
    let mut world = settled(12, 8);
    let members = create(&mut world, "orders", 5, &[]);
    let first = leader(&mut world, "orders", &members);
    let dead = *members.iter().find(|node| **node != first).expect("five members");
    for at in 0..5 {
        answer(&mut world, 1, "orders", put(&format!("k{at}"), "v")).0.expect("written");
    }
    world.kill(dead);
    world.kill(first);
    let left: Vec<usize> = members.iter().copied().filter(|node| ![dead, first].contains(node)).collect();
    leader(&mut world, "orders", &left);
    world.run(2_000);
    let found = status(&mut world, left[0], "orders", true);
    assert_eq!(Some(found.member), found.leader);
    for member in &found.members {
        let is_up = left.iter().any(|node| world.nodes[*node].record.name == member.name);
        assert_eq!(member.behind, is_up.then_some(0), "{member:?}");
    }
}
