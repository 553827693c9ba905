//! Actors grow with every start of a process; the work of one step does not.

mod common;

use std::ops::Range;

use common::*;
use proptest::prelude::*;
use starling_kv::engine::Family;
use starling_kv::{Batch, Engine, MemoryEngine, Op, Options, Outcome, Store, Write};
use starling_types::ActorGroup;

/// Actors of a store here: more than one step of a checkpoint writes.
const ACTORS: usize = 25_000;
/// Rows that one step of a checkpoint writes, at most, the mark of a valid one included.
const STEP_ROWS: u64 = 10_001;

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
    let engine = MemoryEngine::new();
    let mut store = grown(engine.clone(), 0..ACTORS);
    assert_eq!((store.stats().actors, store.stats().intervals), (ACTORS as u64, ACTORS as u64));
    let mut wall_ms = NOW;
    let mut save = |store: &mut Store<MemoryEngine>| {
        wall_ms += 60_000;
        engine.meter().take_written();
        let mut steps = Vec::new();
        loop {
            let has_more = store.maintain(wall_ms).expect("maintains");
            steps.push(engine.meter().take_written());
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
    engine.meter().take_written();
    while crashed.maintain(NOW).expect("maintains") {
        assert!(engine.meter().take_written() <= STEP_ROWS);
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

/// What the next process increments a counter by, as a rumor.
fn increment_of_a_start(start: usize, by: i64, ttl_ms: Option<u64>, wall_ms: u64) -> bytes::Bytes {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&start.to_le_bytes());
    let mut peer = Store::open(MemoryEngine::new(), Options::default(), seed).expect("opens");
    commit(&mut peer, wall_ms, vec![Write { ttl_ms, ..write("n", Op::Incr { by }) }]).rumors[0].1.clone()
}

/// A store with a counter that [`ACTORS`] processes have incremented.
fn counted_by_starts(engine: &MemoryEngine, by: i64) -> Store<MemoryEngine> {
    let mut store = open(engine.clone(), 1);
    for start in 0..ACTORS {
        store.join(NOW, &increment_of_a_start(start, by, None, NOW)).expect("joins");
    }
    store
}

/// Increments a counter, in as many commits as it takes. Returns its value, and the rows that each commit read.
fn increment(store: &mut Store<MemoryEngine>, engine: &MemoryEngine) -> (Outcome, Vec<u64>) {
    let mut batches = vec![Batch { writes: vec![write("n", Op::Incr { by: 1 })] }];
    let mut rows = Vec::new();
    loop {
        engine.meter().take_read(Family::Cells);
        let committed = store.commit(NOW, batches).expect("commits");
        rows.push(engine.meter().take_read(Family::Cells));
        match committed.results.into_iter().next() {
            Some(result) => return (result.expect("is valid")[0], rows),
            None => batches = committed.rest,
        }
    }
}

#[test]
fn a_counter_of_many_starts_is_counted_once_and_in_portions() {
    let engine = MemoryEngine::new();
    let mut store = counted_by_starts(&engine, 2);
    let sum = 2 * ACTORS as i128;
    let (outcome, rows) = increment(&mut store, &engine);
    assert_eq!(outcome, Outcome::Counter { value: sum + 1 });
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|rows| *rows <= 10_100), "{rows:?}");
    let (outcome, rows) = increment(&mut store, &engine);
    assert_eq!((outcome, rows.len()), (Outcome::Counter { value: sum + 2 }, 1));
    assert!(rows[0] <= 5, "{rows:?}");
    store.join(NOW, &increment_of_a_start(ACTORS, -5, None, NOW)).expect("joins");
    assert!(engine.meter().take_read(Family::Cells) <= 2);
    assert_eq!(store.reader().counter(NOW, "default", b"n"), Ok(Some(sum - 3)));
    assert!(engine.meter().take_read(Family::Cells) <= 2);
    // A node that only reads: the first read asks for the total.
    let mut other = open(engine.clone(), 2);
    engine.meter().take_read(Family::Cells);
    assert_eq!(other.reader().counter(NOW, "default", b"n"), Ok(Some(sum - 3)));
    assert!(engine.meter().take_read(Family::Cells) > ACTORS as u64);
    while other.maintain(NOW).expect("maintains") {
        assert!(engine.meter().take_read(Family::Cells) <= 10_001);
    }
    engine.meter().take_read(Family::Cells);
    assert_eq!(other.reader().counter(NOW, "default", b"n"), Ok(Some(sum - 3)));
    assert!(engine.meter().take_read(Family::Cells) <= 2);
}

#[test]
fn a_batch_that_waits_for_a_total_has_no_effect_before() {
    let mut store = counted_by_starts(&MemoryEngine::new(), 1);
    let incr = |key| write(key, Op::Incr { by: 1 });
    let batch = |writes: Vec<Write>| Batch { writes };
    let batches =
        vec![batch(vec![put("a", "1")]), batch(vec![put("b", "2"), incr("n")]), batch(vec![put("c", "3")])];
    let committed = store.commit(NOW, batches.clone()).expect("commits");
    assert_eq!((committed.results.len(), &committed.rest[..]), (1, &batches[1..]));
    let read = |store: &Store<MemoryEngine>, key: &[u8]| {
        store.reader().register(NOW, "default", key).expect("reads").is_some()
    };
    assert_eq!([b"a", b"b", b"c"].map(|key| read(&store, key)), [true, false, false]);
    let committed = store.commit(NOW, committed.rest).expect("commits");
    let committed = store.commit(NOW, committed.rest).expect("commits");
    assert_eq!((committed.results.len(), committed.rest.len()), (2, 0));
    assert_eq!([b"a", b"b", b"c"].map(|key| read(&store, key)), [true, true, true]);
    assert_sound(&store);
}

/// A step of a history of one counter with many fields.
#[derive(Clone, Debug)]
enum Step {
    Increment {
        by: i64,
        ttl_ms: Option<u64>,
    },
    Join {
        by: i64,
        ttl_ms: Option<u64>,
    },
    /// An increment of the past is joined again, or of two copies of one machine.
    JoinAgain {
        start: usize,
        by: i64,
    },
    Delete,
    Pass {
        ms: u64,
    },
    Expire,
    Maintain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ttl = || prop::option::weighted(0.4, (1u64..60).prop_map(|n| n * 1_000));
    prop::collection::vec(
        prop_oneof![
            4 => (-9i64..9, ttl()).prop_map(|(by, ttl_ms)| Step::Increment { by, ttl_ms }),
            4 => (-9i64..9, ttl()).prop_map(|(by, ttl_ms)| Step::Join { by, ttl_ms }),
            2 => (0usize..90, -9i64..9).prop_map(|(start, by)| Step::JoinAgain { start, by }),
            1 => Just(Step::Delete),
            3 => (1u64..40).prop_map(|n| Step::Pass { ms: n * 2_000 }),
            1 => Just(Step::Expire),
            2 => Just(Step::Maintain),
        ],
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A store that has counted reads what a store reads that has just been opened, and what it answers to increments.
    #[test]
    fn a_total_is_the_sum_of_the_fields(steps in steps()) {
        let engine = MemoryEngine::new();
        let mut store = open(engine.clone(), 1);
        for start in 0..100 {
            store.join(NOW, &increment_of_a_start(start, 1, None, NOW)).expect("joins");
        }
        let (mut now, mut starts) = (NOW, 100);
        for step in steps {
            let mut answer = None;
            match step {
                Step::Increment { by, ttl_ms } => {
                    let write = Write { ttl_ms, ..write("n", Op::Incr { by }) };
                    let committed = commit(&mut store, now, vec![write]);
                    let outcomes = committed.results[0].clone().expect("is valid");
                    answer = Some(outcomes[0]);
                }
                Step::Join { by, ttl_ms } => {
                    starts += 1;
                    store.join(now, &increment_of_a_start(starts, by, ttl_ms, now)).expect("joins");
                }
                Step::JoinAgain { start, by } => {
                    store.join(now, &increment_of_a_start(start, by, None, NOW)).expect("joins");
                }
                Step::Delete => drop(commit(&mut store, now, vec![write("n", Op::Delete)])),
                Step::Pass { ms } => now += ms,
                Step::Expire => drop(store.expire(now).expect("expires")),
                Step::Maintain => while store.maintain(now).expect("maintains") {},
            }
            let fresh = Store::open(engine.copy(), Options::default(), [9; 32]).expect("opens");
            let expected = fresh.reader().counter(now, "default", b"n").expect("reads");
            prop_assert_eq!(store.reader().counter(now, "default", b"n"), Ok(expected));
            if let Some(answer) = answer {
                prop_assert_eq!(answer, Outcome::Counter { value: expected.unwrap_or_default() });
            }
        }
    }
}
