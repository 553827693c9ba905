//! Messages of nodes that are no members of the group, and what a member believes of nodes that it does not know.

mod common;

use starling_kv::MemoryEngine;
use starling_strong::group::wire::{Kind, Offer, RaftMessage, WireEntry};
use starling_strong::group::{Group, GroupMessage, Input, Notice, Output, Promises};
use starling_strong::log::LogPosition;
use starling_strong::machine;
use starling_strong::members::{Members, NodeKey};

use common::member::{self, NODES, config, drain};

const STRANGER: NodeKey = [9; 32];
/// What earlier releases accepted as a term.
const HUGE: u64 = 1 << 62;

/// The first of three initial members, which knows of data version 3.
fn first() -> Group<MemoryEngine> {
    let mut group = member::first();
    group.set_version(machine::VERSION_NEWEST);
    drain(&mut group);
    group
}

fn pass(group: &mut Group<MemoryEngine>, from: NodeKey, message: GroupMessage) -> Vec<Output> {
    group.handle(0, Input::Message { from, message });
    drain(group)
}

fn raft(kind: Kind, from: u64, term: u64) -> RaftMessage {
    RaftMessage::new(kind, from, 1, term)
}

/// An entry that no program reads, already committed.
fn append(from: u64, term: u64) -> RaftMessage {
    let entry = WireEntry { kind: 0, term, context: Vec::new(), data: vec![0xff; 8] };
    RaftMessage { log_term: 1, index: 1, commit: 2, entries: vec![entry], ..raft(Kind::Append, from, term) }
}

fn offer(from: u64) -> RaftMessage {
    let offer = Offer { index: 9, term: 2, members: Members::initial(&[STRANGER, NODES[0]]) };
    RaftMessage { snapshot: Some(Box::new(offer)), ..raft(Kind::Snapshot, from, 2) }
}

/// Everything that a group shows of itself.
fn shown(group: &Group<MemoryEngine>) -> String {
    format!("{:?}", group.status(0))
}

#[test]
fn nothing_that_a_stranger_sends_changes_a_member() {
    let mut group = first();
    let before = shown(&group);
    let vote = RaftMessage {
        context: b"CampaignTransfer".to_vec(),
        log_term: HUGE,
        index: HUGE,
        ..raft(Kind::Vote, 999, HUGE)
    };
    let at = |term| LogPosition { term, index: 9 };
    let reply = Promises { member: 999, term: HUGE, committed: at(2), last: at(2), acknowledged: at(2) };
    let messages = [
        GroupMessage::Raft(append(999, 2)),
        // The number of a member, from another node.
        GroupMessage::Raft(append(2, 2)),
        GroupMessage::Raft(vote),
        GroupMessage::Raft(raft(Kind::Heartbeat, 999, 2)),
        GroupMessage::Raft(raft(Kind::TimeoutNow, 999, 1)),
        GroupMessage::Raft(offer(999)),
        GroupMessage::Gone { member: 1, voters: vec![STRANGER] },
        GroupMessage::Promises { name: 0, reply },
        GroupMessage::Members { members: vec![(999, STRANGER)] },
        GroupMessage::Index { name: 0, index: HUGE },
        GroupMessage::LastIndex { name: 0, member: 2, index: HUGE },
        GroupMessage::Hash { index: 1, hash: [3; 32] },
        GroupMessage::Chunk { index: 9, bytes: vec![1] },
        GroupMessage::Pull { index: 1, cursor: Vec::new(), bytes: u32::MAX },
        GroupMessage::AskIndex { name: 0 },
        GroupMessage::AskLastIndex { name: 0 },
    ];
    for message in messages {
        for _ in 0..2 {
            let outputs = pass(&mut group, STRANGER, message.clone());
            let is_question = |output: &Output| matches!(output, Output::Send { to, message: GroupMessage::AskMembers } if *to != STRANGER);
            assert!(outputs.iter().all(is_question), "{message:?} leads to {outputs:?}");
        }
    }
    assert_eq!(shown(&group), before);
}

#[test]
fn a_stranger_that_a_member_names_is_believed() {
    let mut group = first();
    let asked = |outputs: &[Output]| {
        let all = outputs.iter().filter_map(|output| match output {
            Output::Send { to, message: GroupMessage::AskMembers } => Some(*to),
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    let fourth: NodeKey = [4; 32];
    let message = GroupMessage::Raft(raft(Kind::Heartbeat, 4, 2));
    assert_eq!(asked(&pass(&mut group, fourth, message.clone())), NODES[1..]);
    assert!(asked(&pass(&mut group, fourth, message.clone())).is_empty(), "once for many messages");
    let members = GroupMessage::Members { members: vec![(2, NODES[1]), (4, fourth)] };
    pass(&mut group, NODES[1], members);
    pass(&mut group, fourth, message.clone());
    assert_eq!((group.term(), group.leader()), (2, Some(fourth)));
    // What a member says of numbers that are assigned here counts for nothing.
    pass(&mut group, NODES[1], GroupMessage::Members { members: vec![(3, STRANGER)] });
    pass(&mut group, STRANGER, GroupMessage::Raft(raft(Kind::Heartbeat, 3, 3)));
    assert_eq!(group.term(), 2);
}

#[test]
fn only_those_that_a_member_knows_or_that_it_names_remove_a_replica() {
    let mut group = first();
    let gone = |voters: &[NodeKey]| GroupMessage::Gone { member: 1, voters: voters.to_vec() };
    let voters = [NODES[1], [4; 32], [5; 32]];
    let is_removed = |outputs: Vec<Output>| outputs.contains(&Output::Removed);
    assert!(!is_removed(pass(&mut group, [4; 32], gone(&[[4; 32]]))));
    assert!(!is_removed(pass(&mut group, [4; 32], gone(&voters))));
    assert!(!is_removed(pass(&mut group, NODES[1], gone(&voters))), "one of three");
    assert!(is_removed(pass(&mut group, [4; 32], gone(&voters))), "it was named");
}

#[test]
fn a_member_without_a_snapshot_listens_to_the_nodes_of_its_invitation() {
    let engine = MemoryEngine::new();
    let offer = GroupMessage::Raft(RaftMessage { to: 4, ..offer(1) });
    let pulls = |group: &mut Group<MemoryEngine>, from: NodeKey| {
        group.set_version(machine::VERSION_NEWEST);
        drain(group);
        let is_pull = |it: &Output| matches!(it, Output::Send { message: GroupMessage::Pull { .. }, .. });
        pass(group, from, offer.clone()).iter().any(is_pull)
    };
    let joined = Group::join(engine.clone(), config(4), NODES[1..2].to_vec(), [7; 32], 0);
    let mut group = joined.expect("a memory engine opens");
    assert!(!pulls(&mut group, STRANGER) && pulls(&mut group, NODES[1]));
    group.introduce_hosts([NODES[2]]);
    drop(group);
    let opened = Group::open(engine, config(4), [7; 32], 0).expect("a memory engine opens");
    let mut group = opened.expect("it has joined");
    assert!(!pulls(&mut group, NODES[1]), "named by the invitation before");
    assert!(pulls(&mut group, NODES[2]));
}

#[test]
fn a_member_whose_term_jumps_is_not_followed() {
    let mut group = first();
    let outputs = pass(&mut group, NODES[1], GroupMessage::Raft(raft(Kind::Heartbeat, 2, HUGE)));
    assert!(matches!(outputs[..], [Output::Notice(Notice::Impossible { .. })]), "{outputs:?}");
    assert_eq!(group.term(), 1);
    // Far more than an unsafe recovery adds.
    pass(&mut group, NODES[1], GroupMessage::Raft(raft(Kind::Heartbeat, 2, 1 << 32)));
    assert_eq!(group.term(), 1 << 32);
}

/// Releases up to 0.1.0 let any node raise the term of a group that far, and elected no leader after that.
#[test]
fn a_group_whose_term_was_raised_to_the_former_limit_can_elect_a_leader() {
    assert!(raft(Kind::Vote, 2, HUGE + 1).into_raft(1).is_ok());
    assert!(raft(Kind::Vote, 2, (1 << 63) + 1).into_raft(1).is_err());
}
