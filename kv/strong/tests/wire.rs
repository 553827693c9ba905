//! The encodings of messages between members are those of earlier versions.

use bincode::config;
use starling_strong::group::wire::{Kind, Offer, RaftMessage, WireEntry};
use starling_strong::group::{GroupMessage, Promises};
use starling_strong::log::LogPosition;
use starling_strong::members::Members;

fn raft(kind: Kind) -> RaftMessage {
    RaftMessage {
        kind,
        from: 1,
        to: 2,
        term: 300,
        log_term: 3,
        index: 7,
        commit: 6,
        commit_term: 5,
        reject: true,
        reject_hint: 4,
        context: b"context".to_vec(),
        entries: Vec::new(),
        snapshot: None,
    }
}

fn examples() -> Vec<(&'static str, GroupMessage)> {
    let entry = WireEntry { kind: 2, term: 9, context: b"c".to_vec(), data: b"data".to_vec() };
    let append = RaftMessage { entries: vec![entry], ..raft(Kind::Append) };
    let offer = Offer { index: 70_000, term: 9, members: Members::initial(&[[1; 32], [2; 32]]) };
    let snapshot = RaftMessage { snapshot: Some(Box::new(offer)), ..raft(Kind::Snapshot) };
    let plain = [
        ("append_reply", Kind::AppendReply),
        ("vote", Kind::Vote),
        ("vote_reply", Kind::VoteReply),
        ("pre_vote", Kind::PreVote),
        ("pre_vote_reply", Kind::PreVoteReply),
        ("heartbeat", Kind::Heartbeat),
        ("heartbeat_reply", Kind::HeartbeatReply),
        ("timeout_now", Kind::TimeoutNow),
    ];
    let plain = plain.into_iter().map(|(name, kind)| (name, GroupMessage::Raft(raft(kind))));
    let at = |index| LogPosition { term: 9, index };
    let (committed, last, acknowledged) = (at(70_002), at(70_003), at(70_004));
    let reply = Promises { member: 3, term: 300, committed, last, acknowledged };
    let others = [
        ("append", GroupMessage::Raft(append)),
        ("snapshot", GroupMessage::Raft(snapshot)),
        ("gone", GroupMessage::Gone { member: 3, voters: vec![[1; 32], [2; 32]] }),
        ("pull", GroupMessage::Pull { index: 70_000, cursor: b"cursor".to_vec(), bytes: 65_536 }),
        ("chunk", GroupMessage::Chunk { index: 70_000, bytes: b"bytes".to_vec() }),
        ("no_snapshot", GroupMessage::NoSnapshot { index: 70_000 }),
        ("hash", GroupMessage::Hash { index: 70_000, hash: [0xab; 32] }),
        ("belong", GroupMessage::CheckMembership { member: 3 }),
        ("ask_index", GroupMessage::AskIndex { name: 70_000 }),
        ("index", GroupMessage::Index { name: 70_000, index: 70_001 }),
        ("ask_tail", GroupMessage::AskLastIndex { name: 70_000 }),
        ("tail", GroupMessage::LastIndex { name: 70_000, member: 3, index: 70_001 }),
        ("ask_promises", GroupMessage::AskPromises { name: 70_000, member: 3, last: at(70_001) }),
        ("promises", GroupMessage::Promises { name: 70_000, reply }),
        ("ask_members", GroupMessage::AskMembers),
        ("members", GroupMessage::Members { members: vec![(3, [1; 32])] }),
    ];
    plain.chain(others).collect()
}

fn encode(message: &GroupMessage) -> Vec<u8> {
    bincode::encode_to_vec(message, config::standard()).expect("memory")
}

#[test]
fn messages_are_as_they_were() {
    let hex =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    let line = |(name, message): &(&str, GroupMessage)| {
        let bytes: String = encode(message).iter().flat_map(hex).collect();
        [name, " ", &bytes, "\n"].concat()
    };
    let now: String = examples().iter().map(line).collect();
    assert_eq!(now, include_str!("golden/group_messages.txt"), "the format changed: it needs a new version");
}

#[test]
fn messages_come_back_and_pieces_of_them_do_not() {
    for (name, message) in examples() {
        let bytes = encode(&message);
        let decoded = bincode::decode_from_slice::<GroupMessage, _>(&bytes, config::standard());
        assert_eq!(decoded.ok(), Some((message, bytes.len())), "{name}");
        for end in 0..bytes.len() {
            let piece = bincode::decode_from_slice::<GroupMessage, _>(&bytes[..end], config::standard());
            assert!(piece.is_err(), "{name} cut at {end}");
        }
    }
}
