//! Actors grow with every start of a process; the work of one step does not.

mod common;

use common::counting::Counting;
use common::*;
use starling_kv::{MemoryEngine, Op, Options, Store};

/// Actors of a store here: more than one step of a checkpoint writes.
const ACTORS: usize = 25_000;
/// Rows that one step of a checkpoint writes, at most, the mark of a valid one included.
const STEP_ROWS: usize = 10_001;

/// A store with a key of each of [`ACTORS`] actors.
fn grown(engine: Counting) -> Store<Counting> {
    let mut store = open(engine, 1);
    for start in 0..ACTORS {
        let mut seed = [2; 32];
        seed[..8].copy_from_slice(&start.to_le_bytes());
        let engine = MemoryEngine::new();
        let mut peer = Store::open(engine, Options::default(), seed).expect("opens");
        let written = commit(&mut peer, NOW, vec![put(&format!("k{start}"), "v")]);
        store.join(NOW, &written.rumors[0].1).expect("joins");
    }
    store
}

#[test]
fn a_checkpoint_writes_what_has_changed_in_bounded_steps() {
    let engine = Counting::default();
    let mut store = grown(engine.clone());
    assert_eq!((store.stats().actors, store.stats().intervals), (ACTORS as u64, ACTORS as u64));
    let mut wall_ms = NOW;
    let mut save = |store: &mut Store<Counting>| {
        wall_ms += 60_000;
        engine.take_written();
        let mut steps = Vec::new();
        loop {
            let has_more = store.maintain(wall_ms).expect("maintains");
            steps.push(engine.take_written());
            if !has_more {
                return steps;
            }
        }
    };
    assert_eq!(save(&mut store), [0], "it was not idle");
    assert_eq!(save(&mut store), [10_000, 10_000, 5_001]);
    assert_eq!(save(&mut store), [0]);
    commit(&mut store, NOW, vec![put("k7", "w")]);
    assert_eq!(save(&mut store), [0], "it was not idle");
    assert_eq!(save(&mut store), [3], "its own actor, that of k7, and the mark");
    let root = store.root();
    let reopened = Store::open(engine.clone(), Options::default(), [3; 32]).expect("opens");
    assert_eq!(reopened.root(), root, "nothing is left to rebuild");
    assert_sound(&reopened);
    // After a crash every row on disk may be out of date.
    commit(&mut store, NOW, vec![write("k", Op::DeletePrefix)]);
    let mut crashed = Store::open(engine.clone(), Options::default(), [4; 32]).expect("opens");
    engine.take_written();
    while crashed.maintain(NOW).expect("maintains") {
        assert!(engine.take_written() <= STEP_ROWS);
    }
    crashed.checkpoint().expect("writes");
    assert_eq!(crashed.root(), store.root());
    let reopened = Store::open(engine.clone(), Options::default(), [5; 32]).expect("opens");
    assert_eq!(reopened.root(), store.root());
    assert_sound(&reopened);
}
