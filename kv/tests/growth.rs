//! Actors grow with every start of a process; the work of one step does not.

mod common;

use std::ops::Range;

use common::counting::Counting;
use common::*;
use starling_kv::{Engine, MemoryEngine, Op, Options, Store};
use starling_types::ActorGroup;

/// Actors of a store here: more than one step of a checkpoint writes.
const ACTORS: usize = 25_000;
/// Rows that one step of a checkpoint writes, at most, the mark of a valid one included.
const STEP_ROWS: usize = 10_001;

/// A store with a key of each of some actors.
fn grown<E: Engine>(engine: E, starts: Range<usize>) -> Store<E> {
    let mut store = open(engine, 1);
    for start in starts {
        join_start(&mut store, start);
    }
    store
}

/// Joins what a process writes first.
fn join_start<E: Engine>(store: &mut Store<E>, start: usize) {
    let mut seed = [2; 32];
    seed[..8].copy_from_slice(&start.to_le_bytes());
    let mut peer = Store::open(MemoryEngine::new(), Options::default(), seed).expect("opens");
    let written = commit(&mut peer, NOW, vec![put(&format!("k{start}"), "v")]);
    store.join(NOW, &written.rumors[0].1).expect("joins");
}

#[test]
fn a_checkpoint_writes_what_has_changed_in_bounded_steps() {
    let engine = Counting::default();
    let mut store = grown(engine.clone(), 0..ACTORS);
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

/// Every group that can be divided.
fn divided() -> impl Iterator<Item = ActorGroup> {
    std::iter::once(ActorGroup::All).chain((0..=255).map(ActorGroup::First))
}

/// Sums by two bytes are kept above 65,536 actors, and computed below.
#[test]
fn digests_find_the_actors_that_differ_without_visiting_the_others() {
    let mut many = grown(MemoryEngine::new(), 0..66_000);
    let few = grown(MemoryEngine::new(), 400..65_000);
    let salt = 7;
    let starts = 66_000 - 64_600;
    let (mut differing, mut actors) = (0, 0);
    for group in divided().skip(1) {
        let (a, b) = (many.digests(group, salt), few.digests(group, salt));
        for (part, digest) in &a {
            let other = b.iter().find(|(other, _)| other == part).map(|(_, digest)| *digest);
            let lists = (many.actors_of(*part, salt), few.actors_of(*part, salt));
            assert_eq!(other == Some(*digest), lists.0 == lists.1, "{part:?}");
            assert_eq!(many.actors_in(*part), lists.0.len() as u64);
            if lists.0 != lists.1 {
                differing += 1;
                actors += lists.0.len() - lists.1.len();
            }
        }
    }
    assert_eq!(actors, starts);
    assert!(differing > 1_300, "{differing} parts");
    // One write changes one part of each level, and no actor is summarized for that.
    let before: Vec<_> = divided().map(|group| many.digests(group, salt)).collect();
    let summaries = many.stats().summaries;
    join_start(&mut many, 66_000);
    let after: Vec<_> = divided().map(|group| many.digests(group, salt)).collect();
    let changed = before
        .iter()
        .zip(&after)
        .flat_map(|(before, after)| after.iter().filter(|part| !before.contains(part)).collect::<Vec<_>>());
    assert_eq!(changed.count(), 2);
    assert_eq!(many.stats().summaries, summaries);
    assert_ne!(many.digests(ActorGroup::All, 8), after[0], "another salt, other digests");
    let reopened = open(many.reader().engine().clone(), 3);
    assert_eq!(divided().map(|group| reopened.digests(group, salt)).collect::<Vec<_>>(), after);
}
