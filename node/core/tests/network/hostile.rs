//! A node of the network that is no member of a keyspace's group, and sends what only members may.

use starling_core::Input;
use starling_core::strong::{StrongMessage, encode_frames};
use starling_proto::Message;
use starling_strong::group::GroupId;
use starling_strong::group::wire::{Kind, RaftMessage, WireEntry};
use starling_strong::group::{GroupMessage, Notice};

use crate::strong::{answer, create_through, drop_keyspace, get, leader, put, value};
use crate::world::{World, current};

const MEMBERS: [usize; 3] = [1, 2, 3];
const LIAR: usize = 5;

/// Five nodes, of which the first three have a keyspace, and the id of its group.
fn world(seed: u64) -> (World, GroupId) {
    let mut world = current(seed, 5);
    create_through(&mut world, 1, "orders", 3, &MEMBERS);
    answer(&mut world, 4, "orders", put("k", "v")).0.expect("written");
    // Its creation cannot fail any more.
    world.run(70_000);
    let group = world.nodes[1].core.strong().expect("a replica").groups().next().map(|(group, _)| *group);
    (world, group.expect("it has one"))
}

fn send(world: &mut World, from: usize, to: usize, message: StrongMessage) {
    let peer = world.nodes[from].record.id;
    for frame in encode_frames(&[message]) {
        world.input(to, Input::Message { peer, message: Message::Strong(frame) });
    }
}

fn has_replica(world: &World, node: usize) -> bool {
    world.nodes[node].core.strong().is_some_and(|strong| strong.groups().count() > 0)
}

/// The keyspace is where it was, and all nodes read what was written.
fn assert_sound(world: &mut World) {
    world.run(10_000);
    assert!(MEMBERS.iter().all(|node| has_replica(world, *node)));
    for node in 1..=4 {
        let (found, _) = answer(world, node, "orders", get("k"));
        assert_eq!(value(found).as_deref(), Some("v"), "through node {node}");
    }
    answer(world, 4, "orders", put("k", "v")).0.expect("written");
}

#[test]
fn a_drop_that_a_node_asserts_removes_nothing() {
    let (mut world, group) = world(61);
    for to in 1..=4 {
        for _ in 0..3 {
            send(&mut world, LIAR, to, StrongMessage::Drop { group });
        }
    }
    assert_sound(&mut world);
    // Not one member either: most of them have to say so.
    send(&mut world, 2, 1, StrongMessage::Drop { group });
    send(&mut world, 2, 3, StrongMessage::Drop { group });
    assert_sound(&mut world);
}

#[test]
fn a_node_that_pretends_to_have_created_a_group_cannot_end_it() {
    let (mut world, group) = world(62);
    let members: Vec<_> = MEMBERS.iter().map(|node| world.nodes[*node].record.clone()).collect();
    for to in 1..=4 {
        let (keyspace, members) = ("orders".into(), members.clone());
        send(&mut world, LIAR, to, StrongMessage::Create { group, keyspace, members, manual: false });
        send(&mut world, LIAR, to, StrongMessage::Drop { group });
    }
    assert_sound(&mut world);
}

#[test]
fn messages_of_raft_from_a_node_that_is_no_member_change_nothing() {
    let (mut world, group) = world(63);
    let term = |world: &World| {
        let term = |node: &usize| {
            world.nodes[*node].core.strong()?.member_of("orders").map(starling_strong::group::Group::term)
        };
        MEMBERS.iter().map(term).collect::<Vec<_>>()
    };
    let before = term(&world);
    let entry = |term| WireEntry { kind: 0, term, context: Vec::new(), data: vec![0xff; 8] };
    for (number, to) in (1..).zip(MEMBERS) {
        for from in [999, 1, 2, 3] {
            let raft = |kind, term| RaftMessage {
                log_term: 1,
                index: 1,
                commit: 2,
                ..RaftMessage::new(kind, from, number, term)
            };
            let append = RaftMessage { entries: vec![entry(90)], ..raft(Kind::Append, 90) };
            let messages = [append, raft(Kind::Vote, 1 << 62), raft(Kind::TimeoutNow, 90)];
            let mut bundle: Vec<_> =
                messages.into_iter().map(|message| (group, GroupMessage::Raft(message))).collect();
            let voters = vec![world.nodes[LIAR].record.id.0];
            bundle.push((group, GroupMessage::Gone { member: number, voters }));
            send(&mut world, LIAR, to, StrongMessage::Groups(bundle));
        }
    }
    world.run(1_000);
    assert_eq!(term(&world), before);
    assert_sound(&mut world);
}

#[test]
fn a_node_makes_no_replica_of_a_group_whose_members_do_not_invite_it() {
    let (mut world, group) = world(64);
    let members = vec![world.nodes[LIAR].record.clone(), world.nodes[4].record.clone()];
    let (keyspace, manual) = ("orders".to_owned(), false);
    let invite = StrongMessage::Invite {
        group,
        keyspace: keyspace.clone(),
        member: 7,
        members: members.clone(),
        manual,
    };
    send(&mut world, LIAR, 4, invite);
    // Another group under the keyspace's name, and this one with other members.
    for group in [[0x77; 16], group] {
        let (keyspace, members) = (keyspace.clone(), members.clone());
        send(&mut world, LIAR, 4, StrongMessage::Create { group, keyspace, members, manual });
    }
    world.run(2_000);
    assert!(!has_replica(&world, 4));
    assert_sound(&mut world);
}

#[test]
fn a_dropped_keyspace_is_kept_aside_by_all_members_and_the_leader_knows_who_asked() {
    let (mut world, _) = world(65);
    let leads = leader(&mut world, "orders", &MEMBERS);
    let by = world.nodes[4].record.id.0;
    drop_keyspace(&mut world, 4, "orders").expect("dropped");
    world.run_until(10_000, "all have removed it", |w| !MEMBERS.iter().any(|node| has_replica(w, *node)));
    let asked = |notice: &Notice| matches!(notice, Notice::Asked { by: node, .. } if *node == by);
    for node in MEMBERS {
        let asides = world.nodes[node].core.strong().expect("a replica").asides();
        let kept: Vec<_> =
            asides.map(|(aside, may_have_more)| (&aside.keyspace[..], may_have_more)).collect();
        assert_eq!(kept, [("orders", false)], "on node {node}");
        let notices = &world.nodes[node].notices;
        assert_eq!(notices.iter().filter(|it| asked(it)).count(), usize::from(node == leads), "{notices:?}");
        assert!(notices.contains(&Notice::Dropped), "on node {node}");
    }
}

#[test]
fn a_member_that_missed_the_end_is_notified_by_most_of_the_others() {
    let (mut world, _) = world(66);
    let leads = leader(&mut world, "orders", &MEMBERS);
    let away = MEMBERS.into_iter().find(|node| *node != leads).expect("three members");
    world.kill(away);
    drop_keyspace(&mut world, 4, "orders").expect("two voters are a majority");
    let others = MEMBERS.into_iter().filter(|node| *node != away);
    for node in others {
        world.run_until(10_000, "it has removed it", |w| !has_replica(w, node));
    }
    world.restart(away);
    world.run_until(30_000, "it removes it, too", |w| !has_replica(w, away));
}
