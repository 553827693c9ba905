//! Frames: encoded messages decode to themselves, invalid bytes are rejected without a panic, and the encodings are
//! those of earlier versions.

mod handshake;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use starling_proto::labels::{LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};
use starling_proto::message::*;
use starling_proto::record::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, MORE_BYTES_MAX};
use starling_proto::trust::{Certificate, Claim, Statement};
use starling_proto::wire::{
    self, Features, FrameReader, Protocol, WireError, bounds, decode, encoded_len, frame_max,
};
use starling_proto::{ActorGroup, ActorId, Class, DotRange, DotRanges, Message, NodeId, NodeRecord, Role};

/// The largest record of a node.
fn largest_record() -> NodeRecord {
    NodeRecord {
        incarnation: u64::MAX,
        revision: u32::MAX,
        name: "n".repeat(64),
        addresses: vec!["a".repeat(160); 8],
        labels: (0..LABELS_MAX).map(label).collect::<Vec<_>>().join(",").parse().expect("labels"),
        more: vec![255; MORE_BYTES_MAX],
        ..record(255)
    }
}

fn record(n: u8) -> NodeRecord {
    NodeRecord {
        revision: 2,
        name: format!("node-{n}"),
        addresses: vec!["/ip4/192.0.2.1/tcp/4001".into(), "/ip6/2001:db8::1/udp/4001/quic-v1".into()],
        signature: vec![n; 64],
        ..NodeRecord::new(NodeId([n; 32]), 1_700_000_000_000, Role::Replica)
    }
}

/// A label of the largest size.
fn label(n: usize) -> String {
    format!("{}{n}={}", "k".repeat(LABEL_KEY_BYTES_MAX - 1), "v".repeat(LABEL_VALUE_BYTES_MAX))
}

fn actor(n: u8) -> ActorId {
    ActorId([n; 16])
}

fn rumor(first: u64, last: u64) -> RumorId {
    RumorId { actor: actor(7), first, last }
}

fn ranges() -> DotRanges {
    let range = |a, first, last| DotRange { actor: actor(a), first, last };
    DotRanges(vec![range(1, 1, 1), range(1, 3, 300), range(2, 70_000, 70_001)])
}

fn certificate() -> Certificate {
    Certificate {
        node: NodeId([1; 32]),
        role: Role::Seed,
        issued_ms: 1_700_000_000_000,
        not_after_ms: 1_700_002_592_000,
        issuer: NodeId([2; 32]),
        signature: vec![3; 64],
    }
}

fn statements() -> [Statement; 3] {
    let addresses = vec!["/ip4/192.0.2.1/tcp/7400".into()];
    let node = NodeId([4; 32]);
    let claims =
        [Claim::Required, Claim::Issuer { node, addresses, is_granted: true }, Claim::Revoked { node }];
    let mut serial = 1_700_000_000_000;
    claims.map(|claim| {
        serial += 1;
        Statement { authority: NodeId([5; 32]), serial, claim, signature: vec![6; 64] }
    })
}

/// The largest statement.
fn large_statement() -> Statement {
    let addresses = vec!["a".repeat(ADDRESS_BYTES_MAX); ADDRESSES_MAX];
    let claim = Claim::Issuer { node: NodeId([255; 32]), addresses, is_granted: true };
    Statement { authority: NodeId([255; 32]), serial: u64::MAX, claim, signature: vec![255; 64] }
}

fn examples() -> Vec<(&'static str, Message)> {
    let root = Root { context: [1; 16], live: [2; 16] };
    let payload = || Payload(Bytes::from_static(b"delta"));
    let protocol = Protocol { min: 2, max: 3, features: Features(0x0102) };
    let abilities = Abilities { protocol, data_newest: 2, data_in_force: 1 };
    let description = Description {
        record: record(1),
        version: "0.1.0".into(),
        active: vec![NodeId([2; 32])],
        known: vec![record(3)],
        root: Some(root),
        entries: 12,
        uptime_ms: 3456,
        abilities: Some(abilities),
        standing: Some(Standing {
            authority: NodeId([9; 32]),
            digest: [8; 16],
            certificate: Some((NodeId([7; 32]), 1 << 40)),
        }),
    };
    let labelled =
        NodeRecord { labels: "zone=a,rack=7".parse().expect("labels"), role: Role::Seed, ..record(4) };
    let later = NodeRecord { more: vec![1, 2, 3], ..labelled.clone() };
    vec![
        ("view.join", Message::View(ViewMessage::Join)),
        ("view.forward_join", Message::View(ViewMessage::ForwardJoin { joiner: record(1), ttl: 6 })),
        ("view.neighbor", Message::View(ViewMessage::Neighbor { high: true })),
        ("view.neighbor_reply", Message::View(ViewMessage::NeighborReply { accepted: false })),
        ("view.disconnect", Message::View(ViewMessage::Disconnect)),
        (
            "view.shuffle",
            Message::View(ViewMessage::Shuffle { origin: record(1), ttl: 6, sample: vec![record(2)] }),
        ),
        ("view.shuffle_reply", Message::View(ViewMessage::ShuffleReply { sample: vec![record(2)] })),
        (
            "view.shuffle_reply of a labelled and a later node",
            Message::View(ViewMessage::ShuffleReply { sample: vec![labelled, later] }),
        ),
        ("view.probe", Message::View(ViewMessage::Probe)),
        ("view.probe_reply", Message::View(ViewMessage::ProbeReply { sample: vec![record(2)] })),
        ("heartbeat.ping", Message::Heartbeat(Heartbeat::Ping { wall_ms: 1_700_000_000_000 })),
        ("heartbeat.pong", Message::Heartbeat(Heartbeat::Pong { wall_ms: 1_700_000_000_001 })),
        ("rumor.full", Message::Rumor(RumorMessage::Full { id: rumor(8, 9), hops: 3, payload: payload() })),
        ("rumor.announce", Message::Rumor(RumorMessage::Announce { ids: vec![rumor(1, 1), rumor(2, 400)] })),
        ("rumor.graft", Message::Rumor(RumorMessage::Graft { ids: vec![rumor(1, 1)] })),
        ("rumor.prune", Message::Rumor(RumorMessage::Prune)),
        (
            "rumor.beacon",
            Message::Rumor(RumorMessage::Beacon(Beacon { round: 7, origin: 1 << 40, depth: 3 })),
        ),
        ("rumor.rejoin", Message::Rumor(RumorMessage::Rejoin { as_child: true, ids: vec![rumor(1, 1)] })),
    ]
    .into_iter()
    .chain(session_examples(root))
    .chain([
        ("crawl.describe", Message::Crawl(CrawlMessage::Describe)),
        ("crawl.description", Message::Crawl(CrawlMessage::Description(Box::new(description)))),
        ("strong", Message::Strong(payload())),
        ("trust.statements", Message::Trust(TrustMessage::Statements(statements().to_vec()))),
        ("trust.renewed", Message::Trust(TrustMessage::Renewed(certificate()))),
    ])
    .collect()
}

fn session_examples(root: Root) -> Vec<(&'static str, Message)> {
    let span = |level, index| Span { actor: actor(9), limit: 5000, level, index };
    let leaf = Leaf { span: span(0, 3), seen: 0b1011, live: 0b0011, hashes: vec![17, 0xffff_ffff] };
    let summary = ActorSummary { actor: actor(4), max: 1000, hash: 0x0123_4567_89ab_cdef };
    let payload = || Payload(Bytes::from_static(b"delta"));
    let (session, salt) = (5, 0x1122_3344_5566_7788);
    let groups = vec![ActorGroup::First(3), ActorGroup::FirstTwo(4, 4), ActorGroup::First(5)];
    vec![
        ("sync.open", Message::Sync(SyncMessage::Open { session, salt, root, by_digest: true })),
        ("sync.equal", Message::Sync(SyncMessage::Equal { session })),
        ("sync.busy", Message::Sync(SyncMessage::Busy { session })),
        (
            "sync.groups",
            Message::Sync(SyncMessage::Groups { session, groups: vec![(0, 1), (255, u64::MAX)] }),
        ),
        ("sync.list_actors", Message::Sync(SyncMessage::ListActors { session, salt, groups: vec![0, 255] })),
        (
            "sync.actors",
            Message::Sync(SyncMessage::Actors { session, groups: vec![4], actors: vec![summary] }),
        ),
        (
            "sync.compare",
            Message::Sync(SyncMessage::Compare {
                session,
                salt,
                spans: vec![(span(2, 0), vec![0, 1, 70_000])],
            }),
        ),
        ("sync.differ", Message::Sync(SyncMessage::Differ { session, spans: vec![(span(2, 0), 0b101)] })),
        (
            "sync.leaves",
            Message::Sync(SyncMessage::Leaves { session, salt, leaves: vec![leaf], bytes_max: 32 << 10 }),
        ),
        ("sync.fetch", Message::Sync(SyncMessage::Fetch { session, ranges: ranges(), bytes_max: 32 << 10 })),
        ("sync.suspect", Message::Sync(SyncMessage::Suspect { session, suspects: ranges() })),
        (
            "sync.delta",
            Message::Sync(SyncMessage::Delta { session, delta: payload(), rest: ranges(), want: ranges() }),
        ),
        ("sync.push", Message::Sync(SyncMessage::Push { session, delta: payload() })),
        ("sync.pushed", Message::Sync(SyncMessage::Pushed { session, suspects: ranges() })),
        ("sync.close", Message::Sync(SyncMessage::Close { session })),
        (
            "sync.list_groups",
            Message::Sync(SyncMessage::ListGroups { session, salt, groups: groups.clone() }),
        ),
        (
            "sync.digests",
            Message::Sync(SyncMessage::Digests {
                session,
                groups,
                digests: vec![(ActorGroup::FirstTwo(3, 0), 1), (ActorGroup::FirstTwo(3, 255), u64::MAX)],
                actors: vec![summary],
            }),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Version of the protocol that the tests speak.
const NEWEST: u8 = Protocol::CURRENT.max;

fn encode(message: &Message) -> Bytes {
    wire::encode(message, NEWEST).expect("the newest protocol has every kind")
}

/// A frame around any kind, version and body, with the right length and checksum.
fn frame(checked: &[u8]) -> Vec<u8> {
    let mut length = checked.len() + 4;
    let mut frame = Vec::new();
    while length >= 0x80 {
        frame.push(length as u8 | 0x80);
        length >>= 7;
    }
    frame.push(length as u8);
    frame.extend_from_slice(&blake3::hash(checked).as_bytes()[..4]);
    frame.extend_from_slice(checked);
    frame
}

/// Kind, version and body of a message.
fn body(message: &Message) -> Vec<u8> {
    let frame = encode(message);
    let length_bytes = frame.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    frame[length_bytes + 4..].to_vec()
}

fn out_of_bounds(message: &Message) -> bool {
    matches!(decode(message.class(), &encode(message)), Err(WireError::OutOfBounds { .. }))
}

#[test]
fn every_message_keeps_its_bytes() {
    let line = |(name, message): (&str, Message)| format!("{name} {}", hex(&encode(&message)));
    let now = examples().into_iter().map(line).collect::<Vec<_>>().join(
        "
",
    ) + "
";
    assert_eq!(now, include_str!("golden/messages.txt"), "the wire format changed: it needs a new version");
}

#[test]
fn every_message_comes_back_on_its_own_substream_only() {
    for (name, message) in examples() {
        let frame = encode(&message);
        assert_eq!(encoded_len(&message, NEWEST), Some(frame.len()), "{name}");
        assert_eq!(decode(message.class(), &frame), Ok(message.clone()), "{name}");
        for class in Class::ALL.into_iter().filter(|class| *class != message.class()) {
            assert_eq!(
                decode(class, &frame),
                Err(WireError::WrongClass { wanted: class, got: message.class() }),
                "{name}"
            );
        }
    }
}

/// What earlier versions of the protocol say is frozen: nodes of them are still in the network.
#[test]
fn every_message_keeps_its_bytes_in_earlier_versions() {
    let mut earlier = String::new();
    for version in Protocol::CURRENT.min..NEWEST {
        for (name, message) in examples() {
            let frame = wire::encode(&message, version);
            if frame.as_ref() != Some(&encode(&message)) {
                let bytes = frame.map_or("unknown".into(), |frame| hex(&frame));
                earlier += &[&version.to_string(), name, &bytes].join(" ");
                earlier += "\n";
            }
        }
    }
    assert_eq!(earlier, include_str!("golden/earlier.txt"), "what an earlier version says has changed");
}

#[test]
fn a_description_in_version_2_has_no_abilities() {
    for (_, message) in examples() {
        let Message::Crawl(CrawlMessage::Description(description)) = &message else { continue };
        let frame = wire::encode(&message, 2).expect("has the kind");
        let without = Description { abilities: None, standing: None, ..(**description).clone() };
        let expected = Message::Crawl(CrawlMessage::Description(Box::new(without)));
        assert_eq!(decode(Class::Control, &frame), Ok(expected));
        assert_eq!(encoded_len(&message, 2), Some(frame.len()));
    }
}

#[test]
fn a_session_in_version_3_is_not_compared_by_digests() {
    let (session, salt, root) = (5, 6, Root { context: [1; 16], live: [2; 16] });
    let open = |by_digest| Message::Sync(SyncMessage::Open { session, salt, root, by_digest });
    let frame = wire::encode(&open(true), 3).expect("has the kind");
    assert_eq!(decode(Class::Sync, &frame), Ok(open(false)));
    assert_eq!(encoded_len(&open(true), 3), Some(frame.len()));
}

#[test]
fn heartbeats_are_small() {
    let ping = encode(&Message::Heartbeat(Heartbeat::Ping { wall_ms: 1_700_000_000_000 }));
    assert!(ping.len() <= 16, "{} bytes", ping.len());
}

/// A later protocol's frames are distinguished from broken ones, on every substream, with any body.
#[test]
fn an_unknown_kind_and_an_unknown_version_of_a_kind_are_named() {
    let join = body(&Message::View(ViewMessage::Join));
    let [kind, version] = join[..] else { panic!("a join has no fields: {join:?}") };
    for class in Class::ALL {
        for (kind, version, fields) in
            [(0xee, 1, &[][..]), (0xee, 9, &[7; 300]), (kind, version + 1, &[1, 2])]
        {
            let checked = [&[kind, version], fields].concat();
            assert_eq!(decode(class, &frame(&checked)), Err(WireError::Unknown { kind, version }));
        }
        let unversioned = WireError::Unknown { kind, version: 0 };
        assert_eq!(decode(class, &frame(&[kind, 0])), Err(unversioned));
    }
    assert_eq!(decode(Class::Control, &frame(&[kind])), Err(WireError::Malformed), "no version");
    assert_eq!(decode(Class::Control, &frame(&[])), Err(WireError::Malformed), "no kind");
    assert!(decode(Class::Control, &frame(&join)).is_ok());
}

#[test]
fn a_known_kind_with_a_byte_too_many_is_malformed() {
    let mut join = body(&Message::View(ViewMessage::Join));
    join.push(0);
    assert_eq!(decode(Class::Control, &frame(&join)), Err(WireError::Malformed));
}

#[test]
fn a_version_without_the_kind_cannot_say_it() {
    for (name, message) in examples() {
        assert_eq!(wire::encode(&message, 1), None, "{name}: version 1 had no kinds");
        assert_eq!(encoded_len(&message, 1), None, "{name}");
        let is_newer = matches!(
            &message,
            Message::Sync(SyncMessage::ListGroups { .. } | SyncMessage::Digests { .. }) | Message::Trust(_)
        );
        assert_eq!(wire::encode(&message, Protocol::CURRENT.min).is_none(), is_newer, "{name}");
    }
}

#[test]
fn a_frame_beyond_its_class_is_refused_by_its_length() {
    let mut reader = FrameReader::new(Class::Control);
    reader.push(&[0xff, 0xff, 0xff, 0x01]);
    assert!(matches!(reader.next_frame(), Err(WireError::TooLong { .. })));
    let payload = Payload(Bytes::from(vec![0; frame_max(Class::Rumor)]));
    let full = encode(&Message::Rumor(RumorMessage::Full { id: rumor(1, 1), hops: 1, payload }));
    assert!(matches!(decode(Class::Rumor, &full), Err(WireError::TooLong { .. })));
}

#[test]
fn the_largest_rumor_and_the_largest_description_fit() {
    let payload = Payload(Bytes::from(vec![7; starling_proto::rumor::PAYLOAD_BYTES_MAX]));
    let id = RumorId { actor: actor(255), first: u64::MAX, last: u64::MAX };
    let full = Message::Rumor(RumorMessage::Full { id, hops: u16::MAX, payload });
    assert_eq!(decode(Class::Rumor, &encode(&full)), Ok(full));
    let large = largest_record();
    let description = Message::Crawl(CrawlMessage::Description(Box::new(Description {
        record: large.clone(),
        version: "v".repeat(64),
        active: vec![NodeId([255; 32]); bounds::ACTIVE_MAX],
        known: vec![large; bounds::RECORDS_MAX],
        root: Some(Root { context: [255; 16], live: [255; 16] }),
        entries: u64::MAX,
        uptime_ms: u64::MAX,
        abilities: Some(Abilities {
            protocol: Protocol { min: 0, max: 255, features: Features(u64::MAX) },
            data_newest: u16::MAX,
            data_in_force: u16::MAX,
        }),
        standing: Some(Standing {
            authority: NodeId([255; 32]),
            digest: [255; 16],
            certificate: Some((NodeId([255; 32]), u64::MAX)),
        }),
    })));
    assert_eq!(decode(Class::Control, &encode(&description)), Ok(description));
    let statements = vec![large_statement(); bounds::STATEMENTS_AT_ONCE_MAX];
    let statements = Message::Trust(TrustMessage::Statements(statements));
    assert_eq!(decode(Class::Control, &encode(&statements)), Ok(statements));
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let session = 1;
    let leaf = |seen, live, hashes: usize| {
        let span = Span { actor: actor(1), limit: 99, level: 0, index: 0 };
        let leaf = Leaf { span, seen, live, hashes: vec![0; hashes] };
        Message::Sync(SyncMessage::Leaves { session, salt: 0, leaves: vec![leaf], bytes_max: 32 << 10 })
    };
    let compare = |level, index, hashes| {
        let span = Span { actor: actor(1), limit: 99, level, index };
        Message::Sync(SyncMessage::Compare { session, salt: 0, spans: vec![(span, vec![0; hashes])] })
    };
    let announce = |ids| Message::Rumor(RumorMessage::Announce { ids });
    assert!(!out_of_bounds(&leaf(0b110, 0b010, 1)));
    assert!(out_of_bounds(&leaf(0b110, 0b001, 1)), "live and not seen");
    assert!(out_of_bounds(&leaf(0b110, 0b010, 2)), "one hash too many");
    assert!(out_of_bounds(&leaf(0b111, 0b010, 1)), "sequence number 0");
    assert!(!out_of_bounds(&compare(15, 0, 16)));
    assert!(out_of_bounds(&compare(15, 1, 16)), "beyond 64 bits");
    assert!(out_of_bounds(&compare(16, 0, 16)), "no such level");
    assert!(out_of_bounds(&compare(0, 0, 16)), "a leaf has no children");
    assert!(out_of_bounds(&compare(1, 0, 17)), "17 children");
    assert!(out_of_bounds(&announce(vec![rumor(0, 1)])));
    assert!(out_of_bounds(&announce(vec![rumor(2, 1)])));
    assert!(out_of_bounds(&announce(vec![rumor(1, 1); bounds::RUMOR_IDS_MAX + 1])));
    assert!(out_of_bounds(&Message::View(ViewMessage::ForwardJoin { joiner: record(1), ttl: 255 })));
    let wordy = NodeRecord { more: vec![0; MORE_BYTES_MAX + 1], ..record(1) };
    assert!(out_of_bounds(&Message::View(ViewMessage::ProbeReply { sample: vec![wordy] })));
    let nameless = NodeRecord { name: "n".repeat(65), ..record(1) };
    assert!(out_of_bounds(&Message::View(ViewMessage::ProbeReply { sample: vec![nameless] })));
    let groups = vec![3, 3];
    assert!(out_of_bounds(&Message::Sync(SyncMessage::ListActors { session, salt: 0, groups })));
    let list = |groups| Message::Sync(SyncMessage::ListGroups { session, salt: 0, groups });
    assert!(!out_of_bounds(&list(vec![ActorGroup::FirstTwo(3, 255), ActorGroup::First(4)])));
    assert!(
        out_of_bounds(&list(vec![ActorGroup::First(4), ActorGroup::FirstTwo(4, 9)])),
        "a part of another"
    );
    assert!(out_of_bounds(&list(vec![ActorGroup::First(4), ActorGroup::First(4)])), "twice");
}

#[test]
fn a_payload_longer_than_its_frame_is_malformed() {
    let full = Message::Rumor(RumorMessage::Full {
        id: rumor(1, 1),
        hops: 1,
        payload: Payload(Bytes::from(vec![7; 100])),
    });
    let mut body = body(&full);
    body.truncate(body.len() - 1);
    assert_eq!(decode(Class::Rumor, &frame(&body)), Err(WireError::Malformed));
    body.extend_from_slice(&[7, 7]);
    assert_eq!(decode(Class::Rumor, &frame(&body)), Err(WireError::Malformed));
}

fn example() -> impl Strategy<Value = Message> {
    proptest::sample::select(examples()).prop_map(|(_, message)| message)
}

fn class() -> impl Strategy<Value = Class> {
    proptest::sample::select(Class::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(class in class(), bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode(class, &bytes);
        let _ = decode(class, &frame(&bytes));
        let mut reader = FrameReader::new(class);
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.next_frame() {}
    }

    /// A body changed on purpose, under a right checksum: whatever is accepted is within bounds and
    /// encodes again.
    #[test]
    fn a_forged_body_is_refused_or_is_a_message(
        message in example(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = body(&message);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        for class in Class::ALL {
            if let Ok(got) = decode(class, &frame(&bytes)) {
                prop_assert_eq!(decode(class, &encode(&got)), Ok(got));
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found(message in example(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = encode(&message).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(message.class(), &bytes).is_err());
    }

    #[test]
    fn a_stream_is_cut_into_the_frames_it_was_made_of(
        messages in vec(example(), 1..20),
        sizes in vec(1..80_usize, 1..40),
    ) {
        let frames: Vec<Bytes> = messages.iter().map(encode).collect();
        let stream = frames.concat();
        let mut reader = FrameReader::new(Class::Sync);
        let (mut got, mut rest) = (Vec::new(), &stream[..]);
        for size in sizes.iter().cycle() {
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            reader.push(head);
            while let Some(frame) = reader.next_frame().expect("no frame is too long") {
                got.push(frame);
            }
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, frames);
    }
}
