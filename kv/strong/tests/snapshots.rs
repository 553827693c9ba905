//! A snapshot restores the state after one entry, regardless of the entries that are applied while it is read.

mod common;

use common::model::Model;
use common::plans::{self, Planned};
use common::*;
use proptest::prelude::*;
use starling_kv::{Error, MemoryEngine};
use starling_strong::api::*;
use starling_strong::machine::{Command, Cursor, Leftovers, Machine, Next, Restore, RestoreError, Snapshot};

fn commands(planned: &[Planned]) -> Vec<Command> {
    let command = |planned: &Planned| {
        let Planned { id, fence, write } = planned.clone();
        Command::Write { id, fence, write }
    };
    planned.iter().map(command).collect()
}

/// Reads all chunks, and calls `between` before each; returns how many there were.
fn fetch(
    snapshot: &Snapshot<MemoryEngine>,
    restore: &mut Restore<MemoryEngine>,
    bytes_max: usize,
    mut between: impl FnMut(usize),
) -> usize {
    let mut cursor = Cursor::default();
    for number in 1.. {
        between(number);
        let asked = Cursor::decode(&cursor.encode()).expect("round trip");
        let chunk = snapshot.chunk(&asked, bytes_max).expect("reads");
        match restore.push(&chunk).expect("takes it in") {
            Next::Chunk(next) => cursor = next,
            Next::Nothing => return number,
        }
    }
    unreachable!("a snapshot ends")
}

/// Rows without their generation, and without the state's own.
fn rows(engine: &MemoryEngine) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let rows = dump(engine).into_iter().filter(|(_, key, _)| key.len() > 16);
    rows.map(|(family, key, row)| (family, key[20..].to_vec(), row)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_replica_is_the_same(
        before in prop::collection::vec(plans::planned(), 0..60),
        meanwhile in prop::collection::vec(plans::planned(), 0..60),
        after in prop::collection::vec(plans::planned(), 0..20),
        other in prop::collection::vec(plans::planned(), 0..10),
        bytes_max in prop_oneof![Just(1usize), 1usize..400],
    ) {
        let source_engine = MemoryEngine::new();
        let (mut source, mut model) = (open(&source_engine), Model::new());
        apply_all(&mut source, commands(&before));
        for planned in &before {
            drop(model.write(planned.id, planned.fence.as_ref(), &planned.write));
        }
        let snapshot = source.snapshot().expect("begins");
        let (index, hash, revision) = (source.applied(), source.hash(), source.revision());
        prop_assert_eq!((snapshot.index(), snapshot.hash(), snapshot.revision()), (index, hash, revision));

        // The restoring replica has a state already, and keeps it until the installation.
        let engine = MemoryEngine::new();
        let mut target = open(&engine);
        let other: Vec<Planned> = other.into_iter().take(before.len()).collect();
        apply_all(&mut target, commands(&other));
        let had = read(&target, range(all(), 0));
        let mut restore = target.restore().expect("begins");
        let mut rest = &meanwhile[..];
        fetch(&snapshot, &mut restore, bytes_max, |number| {
            let (now, later) = rest.split_at((number % 3).min(rest.len()));
            apply_all(&mut source, commands(now));
            rest = later;
            source.maintain().expect("maintains");
            target.maintain().expect("maintains");
            assert_eq!(read(&target, range(all(), 0)), had);
        });
        target.install(restore, Vec::new()).expect("installs");
        drop(snapshot);

        prop_assert_eq!((target.applied(), target.hash(), target.revision()), (index, hash, revision));
        while target.maintain().expect("maintains") {}
        prop_assert_eq!(target.bytes(), counted(&engine));
        for revision in model.compacted.max(1)..=revision {
            let range = range(all(), revision);
            prop_assert_eq!(read(&target, range.clone()), model.range(&range), "at {}", revision);
        }
        // Both replicas apply further entries, and stay equal.
        while source.applied() > target.applied() {
            let planned = &meanwhile[(target.applied() - index) as usize];
            apply_all(&mut target, commands(std::slice::from_ref(planned)));
        }
        let answers = apply_all(&mut source, commands(&after));
        prop_assert_eq!(apply_all(&mut target, commands(&after)), answers);
        prop_assert_eq!(target.hash(), source.hash());
        for revision in source.compacted().max(1)..=source.revision() {
            let range = range(all(), revision);
            prop_assert_eq!(read(&target, range.clone()), read(&source, range));
        }
        while target.maintain().expect("maintains") {}
        while source.maintain().expect("maintains") {}
        prop_assert_eq!(rows(&engine), rows(&source_engine));
        prop_assert_eq!((target.bytes(), source.bytes()), (counted(&engine), counted(&source_engine)));
    }

    #[test]
    fn a_restored_replica_has_the_same_rows(before in prop::collection::vec(plans::planned(), 0..60), bytes in 1usize..900) {
        let (from, to) = (MemoryEngine::new(), MemoryEngine::new());
        let (mut source, mut target) = (open(&from), open(&to));
        apply_all(&mut source, commands(&before));
        let mut restore = target.restore().expect("begins");
        fetch(&source.snapshot().expect("begins"), &mut restore, bytes, |_| {});
        target.install(restore, Vec::new()).expect("installs");
        while target.maintain().expect("maintains") {}
        while source.maintain().expect("maintains") {}
        prop_assert_eq!(rows(&to), rows(&from));
        prop_assert_eq!(open(&to).hash(), source.hash());
    }
}

fn source() -> Machine<MemoryEngine> {
    let mut source = fresh();
    write(&mut source, Write::LeaseGrant { id: 7, ttl_ms: 5000 }).expect("grants");
    for number in 0..50 {
        write(&mut source, put_leased(&format!("key {number}"), "value", 7)).expect("puts");
    }
    source
}

#[test]
fn a_crash_while_restoring_leaves_the_old_state() {
    let engine = MemoryEngine::new();
    let source = source();
    let snapshot = source.snapshot().expect("begins");
    let mut target = open(&engine);
    write(&mut target, put("mine", "kept")).expect("puts");
    let rows_before = dump(&engine).len();
    let mut restore = target.restore().expect("begins");
    let chunk = snapshot.chunk(&Cursor::default(), 200).expect("reads");
    restore.push(&chunk).expect("takes it in");
    let mut again = open(&engine);
    assert_eq!(value(&again, "mine").as_deref(), Some("kept"));
    while again.maintain().expect("maintains") {}
    assert_eq!(dump(&engine).len(), rows_before, "what was half restored is removed");
    // A dropped restoration does not continue: its rows may have been removed.
    assert!(matches!(again.install(restore, Vec::new()), Err(Error::Corrupt { .. })));
    let mut restore = again.restore().expect("begins");
    fetch(&snapshot, &mut restore, 300, |_| {});
    again.install(restore, Vec::new()).expect("installs");
    assert_eq!((value(&again, "mine"), again.hash()), (None, source.hash()));
    assert_eq!(open(&engine).hash(), source.hash());
}

#[test]
fn a_restoring_that_is_given_up_leaves_nothing() {
    let engine = MemoryEngine::new();
    let source = source();
    let snapshot = source.snapshot().expect("begins");
    let mut target = open(&engine);
    write(&mut target, put("mine", "kept")).expect("puts");
    let rows_before = dump(&engine).len();
    let mut restore = target.restore().expect("begins");
    restore.push(&snapshot.chunk(&Cursor::default(), 200).expect("reads")).expect("takes it in");
    while target.maintain().expect("maintains") {}
    assert!(dump(&engine).len() > rows_before, "still under way");
    drop(restore);
    while target.maintain().expect("maintains") {}
    assert_eq!(dump(&engine).len(), rows_before);
}

#[test]
fn wrong_chunks_are_noticed_and_the_right_one_may_follow() {
    let source = source();
    let snapshot = source.snapshot().expect("begins");
    let mut target = fresh();
    let mut restore = target.restore().expect("begins");
    let first = snapshot.chunk(&Cursor::default(), 200).expect("reads");
    for at in 0..first.len() {
        let mut damaged = first.clone();
        damaged[at] ^= 1;
        assert!(matches!(restore.push(&damaged), Err(RestoreError::Malformed(_))), "byte {at}");
    }
    let Next::Chunk(second) = restore.push(&first).expect("takes it in") else { panic!("there is more") };
    assert!(matches!(restore.push(&first), Err(RestoreError::Malformed(_))), "it had that one");
    let chunk = snapshot.chunk(&second, 200).expect("reads");
    let Next::Chunk(third) = restore.push(&chunk).expect("takes it in") else { panic!("there is more") };
    assert!(matches!(restore.push(&chunk), Err(RestoreError::Malformed(_))), "it had that one, too");
    // A chunk of another place of the same snapshot.
    let skipped = Cursor::decode(&[&third.encode()[..], b"zz"].concat()).expect("a cursor");
    assert_ne!(skipped, third);
    assert!(restore.push(&snapshot.chunk(&skipped, 200).expect("reads")).is_ok(), "rows may be few");
    assert!(matches!(target.install(restore, Vec::new()), Err(Error::Corrupt { .. })), "not complete");
}

#[test]
fn compaction_waits_for_a_snapshot() {
    let mut source = source();
    let snapshot = source.snapshot().expect("begins");
    let revision = source.revision();
    write(&mut source, Write::Compact { revision }).expect("compacts");
    write(&mut source, Write::LeaseRevoke { id: 7 }).expect("revokes");
    let bytes = source.bytes();
    while source.maintain().expect("maintains") {}
    assert_eq!(source.bytes(), bytes);
    let mut target = fresh();
    let mut restore = target.restore().expect("begins");
    fetch(&snapshot, &mut restore, 100, |_| {});
    target.install(restore, Vec::new()).expect("installs");
    assert_eq!(read(&target, range(all(), 10)).expect("reads").count, 9);
    drop(snapshot);
    while source.maintain().expect("maintains") {}
    assert!(source.bytes() < bytes);
}

#[test]
fn a_dropped_group_leaves_nothing() {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    for number in 0..5000 {
        write(&mut machine, put(&format!("key {number}"), "value")).expect("puts");
    }
    drop(machine);
    let neighbour = *b"another group...";
    let config = starling_strong::machine::Config::default();
    let mut other = Machine::open(engine.clone(), neighbour, config).expect("opens");
    write(&mut other, put("k", "v")).expect("puts");
    let (mut steps, mut at) = (0, Leftovers::default());
    while starling_strong::machine::destroy(&engine, &GROUP, &mut at).expect("removes") {
        if steps == 2 {
            // As after a restart.
            at = Leftovers::default();
        }
        assert_eq!(open(&engine).revision(), 1, "half removed is empty");
        steps += 1;
    }
    assert!(steps > 3, "in bounded steps");
    assert!(dump(&engine).iter().all(|(_, key, _)| key.starts_with(&neighbour)));
    assert_eq!(value(&other, "k").as_deref(), Some("v"));
}
