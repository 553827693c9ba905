//! Messages that no correct member would send, and the effects that they must not have. `tests/fuzz` searches for
//! further ones.

use starling_kv::MemoryEngine;
use starling_strong::group::wire::{Kind, RaftMessage, WireEntry};
use starling_strong::group::{Group, GroupConfig, GroupMessage, History, Input, KEPT_ENTRIES, Output};
use starling_strong::machine;

const NODES: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];

/// The first of three initial members, which has synced its first rows.
fn first() -> Group<MemoryEngine> {
    let config = GroupConfig {
        group: [9; 16],
        keyspace: "orders".into(),
        node: NODES[0],
        member: 1,
        machine: machine::Config::default(),
        history: History::default(),
        kept_entries: KEPT_ENTRIES,
        in_journal: true,
    };
    let mut group =
        Group::create(MemoryEngine::new(), config, &NODES, [7; 32], 0).expect("a memory engine opens");
    sync(&mut group);
    group
}

/// Syncs what was written, and returns the messages that the group then sends.
fn sync(group: &mut Group<MemoryEngine>) -> Vec<RaftMessage> {
    let mut sent = Vec::new();
    while let Some(output) = group.poll_output() {
        match output {
            Output::Sync(number) => group.handle(0, Input::Synced(number)),
            Output::Send { message: GroupMessage::Raft(message), .. } => sent.push(message),
            _ => {}
        }
    }
    sent
}

fn say(group: &mut Group<MemoryEngine>, message: RaftMessage) {
    group.handle(0, Input::Message { from: NODES[1], message: GroupMessage::Raft(message) });
}

/// The second member, which leads in term 2.
fn from_leader(kind: Kind) -> RaftMessage {
    RaftMessage {
        kind,
        from: 2,
        to: 1,
        term: 2,
        log_term: 0,
        index: 0,
        commit: 0,
        commit_term: 0,
        reject: false,
        reject_hint: 0,
        context: Vec::new(),
        entries: Vec::new(),
        snapshot: None,
    }
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
