//! Messages that no correct member would send, and the effects that they must not have. `tests/fuzz` searches for
//! further ones.

mod common;

use starling_kv::MemoryEngine;
use starling_strong::group::wire::{Kind, RaftMessage, WireEntry};
use starling_strong::group::{Group, GroupMessage, Input, Output};

use common::member::{NODES, drain, first};

/// Syncs what was written, and returns the messages that the group then sends.
fn sync(group: &mut Group<MemoryEngine>) -> Vec<RaftMessage> {
    let outputs = drain(group).into_iter();
    let sent = outputs.filter_map(|output| match output {
        Output::Send { message: GroupMessage::Raft(message), .. } => Some(message),
        _ => None,
    });
    sent.collect()
}

fn say(group: &mut Group<MemoryEngine>, message: RaftMessage) {
    group.handle(0, Input::Message { from: NODES[1], message: GroupMessage::Raft(message) });
}

/// The second member, which leads in term 2.
fn from_leader(kind: Kind) -> RaftMessage {
    RaftMessage::new(kind, 2, 1, 2)
}

/// One entry, after the first one of a new group.
fn append() -> RaftMessage {
    let entry = WireEntry { kind: 0, term: 2, context: Vec::new(), data: Vec::new() };
    RaftMessage { log_term: 1, index: 1, entries: vec![entry], ..from_leader(Kind::Append) }
}

#[test]
fn entries_beyond_a_gap_are_not_taken() {
    let mut group = first();
    say(&mut group, RaftMessage { log_term: 0, index: 7, commit: 8, ..append() });
    assert_eq!(sync(&mut group), [], "as if it had been lost");
    say(&mut group, append());
    let sent = sync(&mut group);
    assert!(matches!(&sent[..], [RaftMessage { kind: Kind::AppendReply, index: 2, reject: false, .. }]));
}

#[test]
fn leadership_is_not_taken_before_what_was_promised_is_durable() {
    let mut group = first();
    say(&mut group, append());
    say(&mut group, from_leader(Kind::TimeoutNow));
    say(&mut group, RaftMessage { term: 3, ..from_leader(Kind::VoteReply) });
    assert!(!group.is_leader());
    sync(&mut group);
    let mut group = first();
    say(&mut group, append());
    sync(&mut group);
    say(&mut group, from_leader(Kind::TimeoutNow));
    assert!(sync(&mut group).iter().any(|message| message.kind == Kind::Vote));
    say(&mut group, RaftMessage { term: 3, ..from_leader(Kind::VoteReply) });
    assert!(group.is_leader(), "durable, and told to by the leader");
}

/// Raft assumes that the log of a new leader is durable.
#[test]
fn a_member_that_is_given_entries_and_votes_at_once_does_not_lead() {
    let mut group = first();
    let vote = |kind, term| RaftMessage { term, ..from_leader(kind) };
    let entries = RaftMessage { commit: 1, ..append() };
    let messages =
        [entries, vote(Kind::TimeoutNow, 2), vote(Kind::PreVoteReply, 3), vote(Kind::VoteReply, 3)];
    for message in messages {
        group.step(0, Input::Message { from: NODES[1], message: GroupMessage::Raft(message) });
    }
    group.process_ready(0);
    sync(&mut group);
    assert!(!group.is_leader());
    assert_eq!(group.leader(), Some(NODES[1]), "it follows who sent the entries");
    say(&mut group, vote(Kind::TimeoutNow, 2));
    sync(&mut group);
    say(&mut group, vote(Kind::VoteReply, 3));
    assert!(group.is_leader(), "once they are durable");
}
