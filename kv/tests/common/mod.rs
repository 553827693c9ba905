//! Helpers of these tests: replicas beside a naive model of them.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use starling_kv::delta::decode;
use starling_kv::{Batch, Committed, Dot, DotRange, Engine, Field, MemoryEngine, Op, Options, Store, Write};

/// The wall clock of most tests.
pub const NOW: u64 = 1_700_000_000_000;

/// The naive model: every dot seen, with its entry (place and body) if it is live.
pub type Model = BTreeMap<Dot, Option<(Vec<u8>, Vec<u8>)>>;

/// Joins a delta into a model, dot by dot, by maximum over unseen < live < dead.
pub fn join_model(model: &mut Model, delta: &[u8]) {
    for section in decode(delta).expect("a delta of our own").actors {
        let entries: BTreeMap<u64, _> = section.entries.iter().map(|entry| (entry.seq, entry)).collect();
        for &(first, last) in section.claimed.spans() {
            for seq in first..=last {
                let dot = Dot { actor: section.actor, seq };
                let told = entries.get(&seq).map(|entry| (entry.place.clone(), entry.body.to_vec()));
                match (model.get(&dot), told) {
                    (None, told) => drop(model.insert(dot, told)),
                    (Some(_), None) => drop(model.insert(dot, None)),
                    (Some(_), Some(_)) => {}
                }
            }
        }
    }
}

/// Everything a store has seen, as ranges.
pub fn everything<E: Engine>(store: &Store<E>) -> Vec<DotRange> {
    store.actors(0).into_iter().map(|(actor, last, _)| DotRange { actor, first: 1, last }).collect()
}

/// The whole state as one delta.
pub fn whole<E: Engine>(store: &Store<E>) -> Bytes {
    let (delta, rest) = store.restrict(&everything(store), usize::MAX).expect("the engine works");
    assert!(rest.is_empty());
    delta
}

/// The whole state as a model.
pub fn state<E: Engine>(store: &Store<E>) -> Model {
    let mut model = Model::new();
    join_model(&mut model, &whole(store));
    model
}

/// A store whose fingerprints are complete.
pub fn open<E: Engine>(engine: E, seed: u8) -> Store<E> {
    let mut store = Store::open(engine, Options::default(), [seed; 32]).expect("opens");
    while store.maintain(NOW).expect("maintains") {}
    store
}

/// An empty store in memory.
pub fn fresh(seed: u8) -> Store<MemoryEngine> {
    open(MemoryEngine::new(), seed)
}

/// Commits one batch.
pub fn commit<E: Engine>(store: &mut Store<E>, wall_ms: u64, writes: Vec<Write>) -> Committed {
    store.commit(wall_ms, vec![Batch { writes }]).expect("the engine works")
}

/// A write in keyspace `default`.
pub fn write(key: &str, op: Op) -> Write {
    Write { keyspace: "default".into(), key: key.into(), op, ttl_ms: None, check: None }
}

/// A register write in keyspace `default`.
pub fn put(key: &str, value: &str) -> Write {
    write(key, Op::Put { value: Bytes::copy_from_slice(value.as_bytes()) })
}

/// Asserts that a store is sound, row by row.
pub fn assert_sound<E: Engine>(store: &Store<E>) {
    let report = store.doctor().expect("the engine works");
    assert!(report.is_sound(), "{:#?}", report.problems);
}

/// One step of a random history over [`REPLICAS`] replicas.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client writes a batch.
    Write { at: usize, writes: Vec<Write> },
    /// An earlier rumor (the index wraps) arrives; rumors are lost, doubled and reordered by
    /// never, twice or late being chosen.
    Rumor { index: usize, to: usize },
    /// Repair: a restriction of one replica's state to some dots arrives at another.
    Repair { from: usize, to: usize, actor: usize, first: u64, length: u64 },
    /// Repair: what one knows to be dead of some dots arrives at another.
    Bury { from: usize, to: usize, actor: usize, first: u64, length: u64 },
    /// A replica is killed and started again; without `tail` its last writes are lost.
    Restart { at: usize, tail: bool },
    /// A replica's state is saved, for a later restart without its tail.
    Save { at: usize },
}

/// Replicas in random histories.
pub const REPLICAS: usize = 3;

fn operation() -> impl Strategy<Value = Op> {
    let name = || (0u8..3).prop_map(|n| Bytes::from(vec![b'f', n]));
    let value = (0u8..4).prop_map(|n| Bytes::from(vec![n; if n == 3 { 5_000 } else { 3 }]));
    let names = || prop::collection::vec(name(), 1..3);
    prop_oneof![
        4 => value.clone().prop_map(|value| Op::Put { value }),
        2 => Just(Op::Delete),
        1 => Just(Op::DeletePrefix),
        2 => (-3i64..5).prop_map(|by| Op::Incr { by }),
        2 => names().prop_map(|members| Op::SetAdd { members }),
        1 => names().prop_map(|members| Op::SetRemove { members }),
        2 => prop::collection::vec((name(), value), 1..3).prop_map(|fields| Op::MapPut {
            fields: fields.into_iter().map(|(name, value)| Field::new(name, value)).collect(),
        }),
        1 => names().prop_map(|names| Op::MapDelete { names }),
        2 => any::<bool>().prop_map(|enabled| Op::Flag { enabled }),
        1 => (-9i64..9).prop_map(|value| Op::Max { value }),
        1 => (-9i64..9).prop_map(|value| Op::Min { value }),
    ]
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = (0usize..6, operation(), prop::option::weighted(0.1, 1_000u64..5_000));
    let one = one
        .prop_map(|(key, op, ttl_ms)| Write { ttl_ms, ..write(["a", "a\0", "ab", "b", "c", "d"][key], op) });
    prop::collection::vec(one, 1..4)
}

/// A random history.
pub fn history(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..REPLICAS;
    let range = || (0usize..8, 1u64..30, 1u64..20);
    let step = prop_oneof![
        6 => (at(), writes()).prop_map(|(at, writes)| Step::Write { at, writes }),
        8 => (0usize..10_000, at()).prop_map(|(index, to)| Step::Rumor { index, to }),
        3 => (at(), at(), range())
            .prop_map(|(from, to, (actor, first, length))| Step::Repair { from, to, actor, first, length }),
        1 => (at(), at(), range())
            .prop_map(|(from, to, (actor, first, length))| Step::Bury { from, to, actor, first, length }),
        1 => (at(), any::<bool>()).prop_map(|(at, tail)| Step::Restart { at, tail }),
        1 => at().prop_map(|at| Step::Save { at }),
    ];
    prop::collection::vec(step, 1..steps)
}

/// Dots of some actor that `store` knows, chosen by number.
pub fn choose<E: Engine>(store: &Store<E>, actor: usize, first: u64, length: u64) -> Vec<DotRange> {
    let actors = store.actors(0);
    let Some(&(actor, ..)) = actors.get(actor % actors.len().max(1)) else { return Vec::new() };
    vec![DotRange { actor, first, last: first + length }]
}
