//! Golden files of the encodings on disk and on the wire. A change of either needs a new
//! format version and a migration, not a new golden file: what released versions wrote must stay
//! readable.
//!
//! `STARLING_UPDATE_GOLDEN=1 cargo test -p starling-kv --test golden` writes the files again.

mod common;
#[path = "golden/text.rs"]
mod text;

use std::fmt::Write as _;
use std::ops::ControlFlow;

use bytes::Bytes;
use common::*;
use starling_kv::engine::{Family, RowOp, View};
use starling_kv::{Engine, MemoryEngine, Op, Options, Store, Write};
use text::{golden, hex, unhex};

/// One of everything that is encoded.
fn sample() -> (MemoryEngine, Store<MemoryEngine>, Vec<Bytes>) {
    let engine = MemoryEngine::new();
    let options = Options { network: Some(*b"a golden network"), ..Options::default() };
    let mut store = Store::open(engine.clone(), options, [1; 32]).expect("opens");
    while store.maintain(NOW).expect("maintains") {}
    let mut other = fresh(2);
    let batches = vec![
        vec![put("register", "first"), put("key with \0 zero", "")],
        vec![put("register", "second"), Write { ttl_ms: Some(60_000), ..put("expires", "soon") }],
        vec![write("large", Op::Put { value: Bytes::from(vec![0xab; 4_200]) })],
        vec![
            write("set", Op::SetAdd { members: vec!["x".into(), "y".into()] }),
            write("counter", Op::Incr { by: -300 }),
        ],
        vec![
            write("map", Op::MapPut { fields: vec![starling_kv::Field::new("name", "value")] }),
            write("flag", Op::Flag { enabled: true }),
        ],
        vec![write("key with \0 zero", Op::Delete)],
    ];
    let mut deltas: Vec<Bytes> = Vec::new();
    for writes in batches {
        deltas.extend(commit(&mut store, NOW, writes).rumors.into_iter().map(|(_, delta)| delta));
    }
    let sibling = commit(&mut other, NOW + 1, vec![put("register", "sibling")]).rumors.remove(0).1;
    store.join(NOW, &sibling).expect("joins");
    deltas.push(sibling);
    store.checkpoint().expect("writes");
    deltas.push(whole(&store));
    (engine, store, deltas)
}

#[test]
fn deltas() {
    let (_, store, deltas) = sample();
    let found: String = deltas.iter().map(|delta| hex(delta) + "\n").collect();
    let written = golden("deltas.hex", &found);
    assert_eq!(found, written, "the encoding of deltas changed");
    // What is in the file is read and means the same.
    let mut reader = fresh(3);
    for line in written.lines() {
        reader.join(NOW, &unhex(line)).expect("joins");
    }
    assert_eq!(reader.root(), store.root());
}

#[test]
fn rows() {
    let (engine, store, _) = sample();
    let mut found = String::new();
    for family in Family::ALL {
        let mut row = |key: &[u8], value: &[u8]| {
            writeln!(found, "{} {} {}", family.name(), hex(key), hex(value)).expect("writes to memory");
            Ok(ControlFlow::Continue(()))
        };
        engine.view().scan(family, &[], None, &mut row).expect("reads");
    }
    let written = golden("rows.hex", &found);
    assert_eq!(found, written, "the encoding of rows changed");
    // A store made of the file is sound and equal.
    let old = MemoryEngine::new();
    for line in written.lines() {
        let mut fields = line.splitn(3, ' ');
        let mut field = || fields.next().expect("three fields");
        let name = field();
        let family = Family::ALL.into_iter().find(|family| family.name() == name).expect("a family");
        old.write(vec![RowOp::Put(family, unhex(field()), unhex(field()))]).expect("writes");
    }
    let old = Store::open(old, Options::default(), [4; 32]).expect("opens");
    assert_eq!(old.root(), store.root());
    assert_sound(&old);
}
