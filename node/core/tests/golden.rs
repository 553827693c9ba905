//! A golden file of the messages about strong keyspaces, and of published locations. A change of an encoding needs
//! a new format version, not a new golden file: what released versions send must stay readable.
//!
//! `STARLING_UPDATE_GOLDEN=1 cargo test -p starling-core --test golden` writes the file again.

#[path = "../../../kv/tests/golden/text.rs"]
mod text;

use starling_core::strong::{GroupLocation, Manage, StrongFrame, StrongMessage, decode_frame, encode_frames};
use starling_proto::message::Payload;
use starling_proto::{NodeId, NodeRecord, Role};
use starling_strong::api::{
    Answer, Body, Event, EventKind, Failure, Fence, KeyValue, Keys, Member, Options, Put, Range, Read,
    Refusal, Request, RequestId, SortBy, SortOrder, Status, Watch, WatchUpdate, Write,
};
use starling_strong::group::{ChangeError, Found, GroupMessage, Probed};
use starling_strong::log::{LogPosition, Recoveries};
use text::{golden, hex, unhex};

const GROUP: [u8; 16] = [9; 16];

fn record(n: u8) -> NodeRecord {
    NodeRecord {
        revision: 2,
        name: format!("node-{n}"),
        addresses: vec!["/ip4/192.0.2.1/tcp/4001".into()],
        signature: vec![n; 64],
        ..NodeRecord::new(NodeId([n; 32]), 1_700_000_000_000, Role::Replica)
    }
}

fn options() -> Options {
    let id = RequestId { client: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, seq: 300, answered_below: 7 };
    let fence = Fence { lock: b"lock".to_vec(), token: 2 };
    Options { timeout_ms: 5_000, stale: false, id: Some(id), fence: Some(fence) }
}

fn requests() -> [(&'static str, Request); 4] {
    let put = Put { key: b"k".to_vec(), value: Some(b"v".to_vec()), lease: Some(7), prev: true };
    let range = Range {
        keys: Keys::Range { from: b"a".to_vec(), to: Some(b"b".to_vec()) },
        limit: 10,
        revision: 300,
        sort: Some((SortBy::ModRevision, SortOrder::Descending)),
        keys_only: true,
        count_only: false,
        min_mod_revision: 1,
        max_mod_revision: 2,
        min_create_revision: 3,
        max_create_revision: 4,
    };
    [
        ("ask.write", Request::Write(Write::Put(put))),
        ("ask.read", Request::Read(Read::Range(range))),
        ("ask.keep_alive", Request::KeepAlive { id: 7 }),
        ("ask.time_to_live", Request::TimeToLive { id: -7, keys: true }),
    ]
}

fn failures() -> Vec<(&'static str, Failure)> {
    let keyspace = || String::from("orders");
    vec![
        ("answered.refused", Failure::Refused(Refusal::Compacted { asked: 3, oldest: 5 })),
        ("answered.no_such_keyspace", Failure::NoSuchKeyspace(keyspace())),
        ("answered.ambiguous", Failure::Ambiguous(keyspace())),
        (
            "answered.no_majority",
            Failure::NoMajority { keyspace: keyspace(), missing: vec!["node-1".into()] },
        ),
        ("answered.timeout", Failure::Timeout(keyspace())),
        ("answered.outcome_unknown", Failure::OutcomeUnknown(keyspace())),
        ("answered.overloaded", Failure::Overloaded),
        ("answered.no_replica", Failure::NoReplica(keyspace())),
        ("answered.diverged", Failure::Diverged(keyspace())),
        ("answered.storage", Failure::Storage("full".into())),
    ]
}

fn updates() -> Vec<(&'static str, WatchUpdate)> {
    let kv = |value: &[u8]| KeyValue {
        key: b"k".to_vec(),
        value: value.to_vec(),
        create_revision: 2,
        mod_revision: 300,
        version: 4,
        lease: 7,
    };
    let events = vec![
        Event { kv: kv(b"new"), kind: EventKind::Put, prev: Some(kv(b"old")) },
        Event { kv: kv(b""), kind: EventKind::Delete, prev: None },
    ];
    vec![
        ("update.created", WatchUpdate::Created { revision: 300 }),
        ("update.events", WatchUpdate::Events { revision: 300, events }),
        ("update.progress", WatchUpdate::Progress { revision: 300 }),
        ("update.compacted", WatchUpdate::Compacted { oldest: 200 }),
        ("update.lost", WatchUpdate::Lost { reason: "gone".into() }),
    ]
}

fn status() -> Status {
    let member = Member {
        id: 2,
        node: [2; 32],
        name: "node-2".into(),
        learner: true,
        behind: Some(300),
        restoring: true,
        silent_ms: Some(70_004),
        peer_urls: vec!["/ip4/192.0.2.1/tcp/4001".into()],
        client_urls: vec!["http://192.0.2.1:2379".into()],
    };
    Status {
        group: GROUP,
        member: 1,
        leader: Some(2),
        term: 300,
        members: vec![member],
        revision: 70_000,
        log_index: 70_001,
        applied_index: 70_002,
        commit_index: 70_005,
        log_entries: 70_006,
        log_bytes: 70_007,
        bytes: 70_003,
        heard_ms: Some(70_008),
        manual: true,
    }
}

/// One of every message; of those that carry what clients say, one of each kind.
fn messages() -> Vec<(&'static str, StrongMessage)> {
    let (group, id) = (GROUP, 300);
    let keyspace = || String::from("orders");
    let answer = Answer { revision: 300, body: Body::LeaseGranted { id: 7, ttl_ms: 5_000 } };
    let watch = Watch {
        keys: Keys::Range { from: b"k".to_vec(), to: None },
        from_revision: 300,
        prev: true,
        only: Some(EventKind::Delete),
    };
    let mut all = vec![
        (
            "groups",
            StrongMessage::Groups(vec![(group, GroupMessage::Gone { member: 3, voters: vec![[1; 32]] })]),
        ),
        (
            "found",
            StrongMessage::Create {
                group,
                keyspace: keyspace(),
                members: vec![record(1), record(2)],
                manual: true,
            },
        ),
        ("founded", StrongMessage::CreateReply { group, refusal: None }),
        ("founded.refused", StrongMessage::CreateReply { group, refusal: Some("no room".into()) }),
        (
            "invite",
            StrongMessage::Invite {
                group,
                keyspace: keyspace(),
                member: 4,
                members: vec![record(1)],
                manual: false,
            },
        ),
        ("drop", StrongMessage::Drop { group }),
        ("answered", StrongMessage::Response { id, result: Ok(answer) }),
        ("elsewhere", StrongMessage::Redirect { id, leader: Some([1; 32]), missing: vec![[2; 32]] }),
        ("manage.voters", StrongMessage::Manage { id, group, change: Manage::Voters(vec![record(1)]) }),
        ("manage.transfer", StrongMessage::Manage { id, group, change: Manage::Transfer([1; 32]) }),
        ("managed", StrongMessage::ManageReply { id, result: Ok(()) }),
        ("managed.refused", StrongMessage::ManageReply { id, result: Err(ChangeError::NoMajority) }),
        ("describe", StrongMessage::Status { id, group }),
        ("described", StrongMessage::StatusReply { id, status: status() }),
        ("watch", StrongMessage::Watch { id, group, watch, updates: 64 }),
        ("more", StrongMessage::More { id, updates: 64 }),
        ("progress", StrongMessage::Progress { id }),
        ("unwatch", StrongMessage::Unwatch { id }),
        ("check", StrongMessage::Check { id, received: 301, updates: 64 }),
        ("checked", StrongMessage::CheckReply { id, sent: 301 }),
    ];
    let read = Read::Range(Range::of(Keys::One(b"k".to_vec())));
    all.push(("probe", StrongMessage::Probe { id, group, read: Some(read) }));
    all.push(("probe.tail", StrongMessage::Probe { id, group, read: None }));
    let found = Found {
        applied: 70_000,
        voters: [1, 2, 4].into(),
        outgoing: [1, 2, 3].into(),
        result: Err(Refusal::Compacted { asked: 3, oldest: 5 }),
    };
    let probed =
        |found| StrongMessage::ProbeReply { id, probed: Some(Probed { member: 2, last: 70_001, found }) };
    all.extend([("probed", probed(Some(found))), ("probed.tail", probed(None))]);
    all.push(("probed.no_member", StrongMessage::ProbeReply { id, probed: None }));
    let ask = |request| StrongMessage::Request { id, group, request, options: options() };
    all.extend(requests().map(|(name, request)| (name, ask(request))));
    let answered = |failure| StrongMessage::Response { id, result: Err(failure) };
    all.extend(failures().into_iter().map(|(name, failure)| (name, answered(failure))));
    let update = |update| StrongMessage::Update { id, number: 7, update };
    all.extend(updates().into_iter().map(|(name, it)| (name, update(it))));
    all.push(("drop_group", StrongMessage::DropGroup { id, group }));
    all
}

fn hint() -> GroupLocation {
    let (members, recoveries) = (vec![record(1), record(2)], Recoveries::default());
    GroupLocation { group: GROUP, term: 300, members, voters: 3, recoveries }
}

fn recovered() -> GroupLocation {
    let recoveries = Recoveries::default().with(LogPosition { term: 7, index: 300 }, 1_000_007);
    GroupLocation { recoveries, ..hint() }
}

/// Every example by its name, as bytes.
fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |message| encode_frames(&[message]).remove(0).0.to_vec();
    let messages = messages().into_iter().map(|(name, message)| (name, frame(message)));
    let locations = [("hint", hint()), ("hint.recovered", recovered())];
    messages.chain(locations.map(|(name, location)| (name, location.encode().to_vec()))).collect()
}

#[test]
fn messages_and_hints_are_as_they_were() {
    let found: String =
        encoded().iter().map(|(name, bytes)| [*name, " ", &hex(bytes), "\n"].concat()).collect();
    let written = golden("strong.txt", &found);
    assert_eq!(found, written, "the format changed: it needs a new version");
    let mut examples = messages().into_iter();
    for line in written.lines() {
        let (name, bytes) = line.split_once(' ').expect("a name and bytes");
        let bytes = unhex(bytes);
        if name.starts_with("hint") {
            let expected = if name == "hint" { hint() } else { recovered() };
            assert_eq!(GroupLocation::decode(&bytes), Ok(expected));
        } else {
            let expected = examples.next().expect("an example for each line");
            let decoded = decode_frame(&Payload(bytes.into())).expect("decodes");
            let messages = vec![expected.1];
            assert_eq!((name, decoded), (expected.0, StrongFrame { messages, skipped: 0 }));
        }
    }
}

#[test]
fn pieces_and_hints_of_other_versions_are_refused() {
    for (name, bytes) in encoded() {
        let is_refused = |bytes: &[u8]| match name {
            "hint" | "hint.recovered" => GroupLocation::decode(bytes).is_err(),
            _ => decode_frame(&Payload(bytes.to_vec().into())).is_err(),
        };
        for end in 0..bytes.len() {
            assert!(is_refused(&bytes[..end]), "{name} cut at {end}");
        }
    }
    let mut newer = recovered().encode().to_vec();
    newer[0] += 1;
    assert!(GroupLocation::decode(&newer).is_err(), "a hint of a newer version");
}

#[test]
fn a_message_of_a_newer_version_is_skipped() {
    for (name, mut bytes) in encoded().into_iter().filter(|(name, _)| !name.starts_with("hint")) {
        let length_bytes = bytes.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        bytes[length_bytes] += 1;
        let skipped = StrongFrame { messages: Vec::new(), skipped: 1 };
        assert_eq!(decode_frame(&Payload(bytes.into())), Ok(skipped), "{name}");
    }
}

#[test]
fn what_is_said_at_one_instant_shares_frames_of_bounded_size() {
    let all: Vec<StrongMessage> = messages().into_iter().map(|(_, message)| message).collect();
    let frames = encode_frames(&all);
    assert_eq!(frames.len(), 1);
    assert_eq!(decode_frame(&frames[0]).map(|frame| frame.messages), Ok(all));
    let large = StrongMessage::Response { id: 1, result: Err(Failure::Storage("x".repeat(30 << 10))) };
    let many = [vec![large; 7], vec![StrongMessage::Progress { id: 2 }; 5000]].concat();
    let frames = encode_frames(&many);
    assert_eq!(frames.len(), 4, "three with large ones, of which the last has small ones too, and one more");
    let decoded: Vec<_> =
        frames.iter().flat_map(|frame| decode_frame(frame).expect("decodes").messages).collect();
    assert_eq!(decoded, many);
    assert!(encode_frames(&[]).is_empty());
}
