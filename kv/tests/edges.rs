//! Edges that a small change of the code moves: sizes, steps and instants at which one case ends and the next begins.

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::*;
use starling_kv::engine::{Family, RowOp};
use starling_kv::{Check, Engine, Error, MemoryEngine, Op, Options, Outcome, Store, Write, WriteError};

/// Rows of one step of a rebuild.
const REBUILD_ROWS: usize = 20_000;

fn value<E: Engine>(store: &Store<E>, wall_ms: u64, key: &str) -> Option<Bytes> {
    store.reader().register(wall_ms, "default", key.as_bytes()).expect("reads").map(|found| found.value)
}

#[test]
fn values_around_the_size_from_which_bodies_are_split_can_be_read() {
    let mut store = fresh(1);
    let mut other = fresh(2);
    for bytes in 4_050..4_110 {
        let key = format!("k{bytes}");
        let written = Bytes::from(vec![7; bytes]);
        let rumor =
            commit(&mut store, NOW, vec![write(&key, Op::Put { value: written.clone() })]).rumors.remove(0);
        other.join(NOW, &rumor.1).expect("joins");
        assert_eq!(
            [value(&store, NOW, &key), value(&other, NOW, &key)],
            [Some(written.clone()), Some(written)]
        );
    }
    assert_sound(&store);
    assert_eq!(whole(&store), whole(&other));
}

/// A store with more entries than two steps of a rebuild count, all of one actor, and a peer that has deleted them.
fn rebuilding() -> (Store<MemoryEngine>, Store<MemoryEngine>) {
    let engine = MemoryEngine::new();
    let (mut store, mut peer) = (open(engine.clone(), 1), fresh(2));
    for first in (0..2 * REBUILD_ROWS + 500).step_by(500) {
        let writes = (first..first + 500).map(|n| put(&format!("k{n}"), "v")).collect();
        for (_, rumor) in commit(&mut store, NOW, writes).rumors {
            peer.join(NOW, &rumor).expect("joins");
        }
    }
    drop(store);
    let mut store = Store::open(engine, Options::default(), [3; 32]).expect("opens");
    assert!(store.maintain(NOW).expect("one step"));
    assert_eq!(store.root(), None, "it is not done");
    (store, peer)
}

#[test]
fn deletes_that_arrive_during_a_rebuild_reach_all_entries() {
    let (mut store, mut peer) = rebuilding();
    while let Outcome::Deleted { more: true, .. } =
        commit(&mut peer, NOW, vec![write("k", Op::DeletePrefix)]).results[0].as_ref().expect("accepted")[0]
    {
    }
    store.join(NOW, &whole(&peer)).expect("joins");
    while store.maintain(NOW).expect("maintains") {}
    assert_eq!(store.stats().entries, 0);
    assert_sound(&store);
    assert_eq!(store.root(), peer.root());
}

#[test]
fn the_entry_at_which_a_rebuild_goes_on_is_counted_once() {
    let (mut store, mut peer) = rebuilding();
    // Rows are in the order of the dots, which is that of the writes.
    for at in [REBUILD_ROWS - 1, REBUILD_ROWS, REBUILD_ROWS + 1] {
        let writes = vec![write(&format!("k{at}"), Op::Delete)];
        for (_, rumor) in commit(&mut peer, NOW, writes).rumors {
            store.join(NOW, &rumor).expect("joins");
        }
    }
    while store.maintain(NOW).expect("maintains") {}
    assert_sound(&store);
    assert_eq!(store.root(), peer.root());
}

/// An entry that has expired is there until it is removed a grace later, and counts nowhere.
#[test]
fn what_has_expired_and_is_not_removed_yet_is_absent_to_writes() {
    let mut store = fresh(1);
    let passing = |write: Write| Write { ttl_ms: Some(1_000), ..write };
    commit(&mut store, NOW, vec![passing(put("k", "old")), passing(put("typed", "old"))]);
    commit(&mut store, NOW, vec![passing(write("n", Op::Incr { by: 40 }))]);
    let add = |key: &str| write(key, Op::SetAdd { members: vec![Bytes::from("m")] });
    commit(&mut store, NOW, vec![passing(add("set")), passing(add("retyped"))]);
    let absent = |key: &str, value: &str| Write { check: Some(Check::Absent), ..put(key, value) };
    let at = |store: &mut Store<MemoryEngine>, wall_ms, write| {
        commit(store, wall_ms, vec![write]).results.remove(0)
    };

    let early = NOW + 999;
    let refused = at(&mut store, early, absent("k", "new"));
    assert!(matches!(refused, Err(WriteError::VersionMismatch { found: Some(_), .. })), "{refused:?}");
    let refused = at(&mut store, early, write("typed", Op::Incr { by: 1 }));
    assert!(matches!(refused, Err(WriteError::TypeMismatch { .. })), "{refused:?}");

    let late = NOW + 1_000;
    assert!(at(&mut store, late, absent("k", "new")).is_ok());
    assert_eq!(
        at(&mut store, late, write("typed", Op::Incr { by: 1 })),
        Ok(vec![Outcome::Counter { value: 1 }])
    );
    assert_eq!(at(&mut store, late, write("n", Op::Incr { by: 2 })), Ok(vec![Outcome::Counter { value: 2 }]));
    assert_eq!(value(&store, late, "k"), Some(Bytes::from("new")));
    assert_eq!(at(&mut store, late, add("set")), Ok(vec![Outcome::Changed { fields: 1 }]));
    assert!(at(&mut store, late, put("retyped", "v")).is_ok());
    let refused = at(&mut store, late, add("retyped"));
    assert!(matches!(refused, Err(WriteError::TypeMismatch { .. })), "{refused:?}");
}

/// Replicas whose clocks differ by less than a step remove the same entries.
#[test]
fn entries_are_removed_at_multiples_of_a_step_only() {
    let mut store = fresh(1);
    commit(&mut store, NOW, vec![Write { ttl_ms: Some(5_000), ..put("k", "v") }]);
    let due = NOW + 5_000 + 60_000;
    let step = due / 10_000 * 10_000 + 10_000;
    for early in [due, due + 1, step - 1] {
        assert_eq!(store.expire(early).expect("sweeps").changes, [], "{early}");
        assert_eq!(store.stats().entries, 1);
    }
    store.expire(step).expect("sweeps");
    assert_eq!(store.stats().entries, 0);
}

/// Part of a failed write may be on the disk, so that its dots must not be created again.
#[test]
fn after_a_write_that_failed_another_actor_writes() {
    let engine = MemoryEngine::new();
    let mut store = open(engine.clone(), 1);
    commit(&mut store, NOW, vec![put("a", "1")]);
    let before = store.own_actor();
    engine.set_full(true);
    let batch = starling_kv::Batch { writes: vec![put("b", "2")] };
    assert!(matches!(store.commit(NOW, vec![batch]), Err(Error::Full)));
    assert_eq!((store.own_actor(), value(&store, NOW, "b")), (None, None));
    engine.set_full(false);
    commit(&mut store, NOW, vec![put("c", "3")]);
    assert!(store.own_actor().is_some() && store.own_actor() != before);
    assert_sound(&store);
    let reopened = open(engine, 2);
    assert_eq!((reopened.root(), reopened.stats().actors), (store.root(), 2));
}

#[test]
fn what_was_seen_since_a_mark_is_remembered_for_a_while() {
    /// Ranges that a store remembers.
    const REMEMBERED: usize = 65_536;
    let (mut store, mut peer) = (fresh(1), fresh(2));
    assert_eq!(store.seen_since(store.mark()), Some(Vec::new()));
    let first = store.mark();
    let own = commit(&mut store, NOW, vec![put("a", "1"), put("b", "2")]).rumors.remove(0).0;
    let second = store.mark();
    let (theirs, rumor) = commit(&mut peer, NOW, vec![put("a", "3")]).rumors.remove(0);
    store.join(NOW, &rumor).expect("joins");
    store.join(NOW, &rumor).expect("joins");
    assert_eq!(store.seen_since(first), Some(vec![own, theirs]));
    assert_eq!(store.seen_since(second), Some(vec![theirs]));
    for n in 0..REMEMBERED - 1 {
        commit(&mut store, NOW, vec![put("a", &n.to_string())]);
    }
    assert_eq!(store.seen_since(first), None);
    assert_eq!(store.seen_since(second).map(|seen| seen.len()), Some(REMEMBERED));
    commit(&mut store, NOW, vec![put("a", "last")]);
    assert_eq!(store.seen_since(second), None);
    assert_eq!(store.seen_since(store.mark()), Some(Vec::new()));
}

/// A memory engine in which something happens right after a row of a cell was read.
#[derive(Clone, Default)]
struct Interrupted {
    engine: MemoryEngine,
    next: Arc<Mutex<Option<Interruption>>>,
}

type Interruption = Box<dyn FnOnce() + Send>;

impl Engine for Interrupted {
    type View<'a> = <MemoryEngine as Engine>::View<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row = self.engine.get(family, key);
        let next = self.next.lock().expect("no test panics with it").take_if(|_| family == Family::Cells);
        if let Some(next) = next {
            next();
        }
        row
    }

    fn view(&self) -> Self::View<'_> {
        self.engine.view()
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.engine.write(ops)
    }
}

#[test]
fn a_large_value_that_is_overwritten_while_it_is_read_is_read() {
    let large = |byte: u8| Op::Put { value: vec![byte; 100_000].into() };
    let interrupted = Interrupted::default();
    let mut writer = open(interrupted.engine.clone(), 1);
    commit(&mut writer, NOW, vec![write("k", large(1))]);
    let reader = open(interrupted.clone(), 2).reader();
    *interrupted.next.lock().expect("no test panics with it") =
        Some(Box::new(move || drop(commit(&mut writer, NOW, vec![write("k", large(2))]))));
    let found = reader.register(NOW, "default", b"k").expect("reads").expect("is there");
    assert!(interrupted.next.lock().expect("no test panics with it").is_none(), "it was overwritten");
    assert_eq!(found.value, vec![2; 100_000]);
}
