//! Golden files of the encodings in the log, on disk and on the wire. A change of an encoding needs a new format
//! version and a migration, not a new golden file: what released versions wrote must stay readable.
//!
//! `STARLING_UPDATE_GOLDEN=1 cargo test -p starling-strong --test golden` writes the files again.

mod common;
#[path = "../../tests/golden/text.rs"]
mod text;

use std::fmt::Write as _;

use common::*;
use proptest::prelude::*;
use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, MemoryEngine};
use starling_strong::api::*;
use starling_strong::codec::{self, Malformed};
use starling_strong::machine::{Command, Cursor, Next, RestoreError, VERSION_NEWEST};
use text::{golden, hex, unhex};

/// One of every command.
fn commands() -> Vec<Command> {
    let id = RequestId { client: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, seq: 300, answered_below: 7 };
    let fence = Fence { lock: b"lock".to_vec(), token: 2 };
    let put = Put { key: b"k".to_vec(), value: Some(b"v".to_vec()), lease: Some(7), prev: true };
    let kept = Put { key: b"k".to_vec(), value: None, lease: None, prev: false };
    let delete = Delete { keys: Keys::Range { from: b"a".to_vec(), to: Some(b"b".to_vec()) }, prev: true };
    let every = |to: Operand, is: Relation| Compare { keys: Keys::One(b"k".to_vec()), is, to };
    let txn = Txn {
        compare: vec![
            every(Operand::Version(1), Relation::Equal),
            every(Operand::CreateRevision(2), Relation::NotEqual),
            every(Operand::ModRevision(3), Relation::Greater),
            every(Operand::Value(b"v".to_vec()), Relation::Less),
            every(Operand::Lease(-7), Relation::Equal),
        ],
        then: vec![TxnOp::Put(put.clone()), TxnOp::Delete(delete.clone())],
        otherwise: vec![
            TxnOp::Range(Range { sort: Some((SortBy::Value, SortOrder::Descending)), ..range(all(), 5) }),
            TxnOp::Txn(Txn { compare: Vec::new(), then: Vec::new(), otherwise: vec![TxnOp::Put(kept)] }),
        ],
    };
    let writes = [
        Write::LeaseGrant { id: 7, ttl_ms: 5000 },
        Write::Put(put),
        Write::PutSequential { prefix: b"queue/".to_vec(), value: b"job".to_vec(), lease: 0 },
        Write::Txn(txn),
        Write::PopFirst { keys: Keys::Range { from: b"queue/".to_vec(), to: None } },
        Write::Delete(delete),
        Write::Compact { revision: 3 },
        Write::LeaseRevoke { id: 8 },
    ];
    let mut commands: Vec<Command> = writes.into_iter().map(command).collect();
    commands.push(Command::Write { id: Some(id), fence: Some(fence), write: put_text() });
    commands.push(Command::Refuse { id, refusal: Refusal::NoSpace { bytes: 9, max: 8 } });
    commands.push(Command::CheckHash { index: 4, hash: [0xab; 32] });
    commands.push(Command::SendHash);
    commands
}

/// The commands of a group that adopts the newest data version, and then a write with a request id.
fn adopted() -> Vec<Command> {
    let id = RequestId { client: RequestId::draw(0x0102_0304_0506, 7), seq: 1, answered_below: 0 };
    vec![
        Command::Adopt { version: VERSION_NEWEST },
        Command::Write { id: Some(id), fence: None, write: put_text() },
    ]
}

fn put_text() -> Write {
    put("text", "words")
}

#[test]
fn commands_in_the_log() {
    for (file, commands) in [
        ("commands.hex", commands()),
        ("commands_adopted.hex", adopted()),
        ("commands_drop.hex", vec![Command::Drop]),
    ] {
        let found: String = commands.iter().map(|command| hex(&command.encode()) + "\n").collect();
        let written = golden(file, &found);
        assert_eq!(found, written, "the encoding of commands changed");
        let read: Vec<Command> =
            written.lines().map(|line| Command::decode(&unhex(line)).expect("decodes")).collect();
        assert_eq!(read, commands);
    }
}

#[test]
fn rows_and_chunks() {
    rows_and_chunks_of(commands(), "rows.hex", "chunks.hex");
    rows_and_chunks_of(adopted(), "rows_adopted.hex", "chunks_adopted.hex");
}

fn rows_and_chunks_of(commands: Vec<Command>, rows: &str, chunks: &str) {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    apply_all(&mut machine, commands);
    let mut found = String::new();
    for (family, key, row) in dump(&engine) {
        writeln!(found, "{family} {} {}", hex(&key), hex(&row)).expect("writes to memory");
    }
    let written = golden(rows, &found);
    assert_eq!(found, written, "the encoding of rows changed");
    let old = MemoryEngine::new();
    for line in written.lines() {
        let mut fields = line.splitn(3, ' ');
        let mut field = || fields.next().expect("three fields");
        let name = field();
        let family = Family::ALL.into_iter().find(|family| family.name() == name).expect("a family");
        old.write(vec![RowOp::Put(family, unhex(field()), unhex(field()))]).expect("writes");
    }
    assert_eq!(read(&open(&old), range(all(), 0)), read(&machine, range(all(), 0)));

    let snapshot = machine.snapshot().expect("begins");
    let mut target = fresh();
    let mut restore = target.restore().expect("begins");
    let (mut found, mut cursor) = (String::new(), Cursor::default());
    loop {
        let chunk = snapshot.chunk(&cursor, 150).expect("reads");
        writeln!(found, "{} {}", hex(&cursor.encode()), hex(&chunk)).expect("writes to memory");
        match restore.push(&chunk).expect("takes it in") {
            Next::Chunk(next) => cursor = next,
            Next::Nothing => break,
        }
    }
    let written = golden(chunks, &found);
    assert_eq!(found, written, "the encoding of snapshots changed");
    let mut restore = target.restore().expect("begins");
    for line in written.lines() {
        let (_, chunk) = line.split_once(' ').expect("two fields");
        restore.push(&unhex(chunk)).expect("takes it in");
    }
    target.install(restore, Vec::new()).expect("installs");
    assert_eq!(target.hash(), machine.hash());
}

#[test]
fn answers_round_trip() {
    let kv = KeyValue { key: b"k".to_vec(), value: b"v".to_vec(), ..KeyValue::default() };
    let bodies = vec![
        Body::Range(Found { kvs: vec![kv.clone()], more: true, count: 2 }),
        Body::Put { prev: Some(kv.clone()) },
        Body::Sequential { key: b"k".to_vec() },
        Body::Delete { deleted: 1, prev: vec![kv.clone()] },
        Body::Popped { first: Some(kv) },
        Body::Txn { succeeded: true, bodies: vec![Body::Compacted] },
        Body::Compacted,
        Body::LeaseGranted { id: 1, ttl_ms: 2 },
        Body::LeaseRevoked,
        Body::KeptAlive { id: 1, ttl_ms: 2 },
        Body::TimeToLive { id: 1, granted_ms: 2, left_ms: 3, keys: vec![b"k".to_vec()] },
        Body::Leases { leases: vec![1, -2] },
        Body::Hash { hash: [1; 32], compacted: 2 },
    ];
    let answer = Answer { revision: 3, body: Body::Txn { succeeded: false, bodies } };
    assert_eq!(codec::decode(&codec::encode(&answer), "answer"), Ok(answer));
}

#[test]
fn nesting_is_bounded_before_it_is_followed() {
    let nested = |depth| {
        (1..depth).fold(Txn { compare: Vec::new(), then: Vec::new(), otherwise: Vec::new() }, |inner, _| {
            Txn { compare: Vec::new(), then: vec![TxnOp::Txn(inner)], otherwise: Vec::new() }
        })
    };
    let decode = |txn: Txn| Command::decode(&command(Write::Txn(txn)).encode());
    assert!(decode(nested(20)).is_ok());
    assert!(decode(nested(21)).is_err());
    // A level takes four bytes: followed all the way, these would exhaust the stack.
    let mut deep = command(Write::Txn(nested(20))).encode();
    let level = [0, 1, 3];
    let at = deep.windows(3).position(|window| window == level).expect("a level");
    deep.splice(at..at, level.repeat(500_000));
    assert!(Command::decode(&deep).is_err());
    let mut body = codec::encode(&Answer { revision: 1, body: Body::Compacted });
    let last = body.len() - 1;
    body.splice(last..last, [5, 1, 1].repeat(500_000));
    assert_eq!(codec::decode::<Answer>(&body, "answer"), Err(Malformed { what: "answer" }));
}

proptest! {
    #[test]
    fn damaged_bytes_are_refused_or_mean_something(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut encoded = which.get(&commands()).encode();
        let at = at.index(encoded.len());
        encoded.splice(at..(at + bytes.len()).min(encoded.len()), bytes);
        if let Ok(command) = Command::decode(&encoded) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
            let mut machine = fresh();
            drop(machine.admit(command.clone()));
            apply_all(&mut machine, vec![command]);
        }
        encoded.truncate(cut.index(encoded.len()));
        drop(Command::decode(&encoded));
    }

    #[test]
    fn what_is_no_chunk_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), signed: bool) {
        if signed {
            // As a peer can: the checksum proves nothing about who made it.
            bytes.splice(0..bytes.len().min(35), [vec![1], vec![0; 34]].concat());
            bytes.extend(blake3::hash(&bytes).as_bytes());
        }
        let mut machine = fresh();
        let mut restore = machine.restore().expect("begins");
        let is_malformed = matches!(restore.push(&bytes), Err(RestoreError::Malformed(_)));
        prop_assert!(is_malformed);
    }
}
