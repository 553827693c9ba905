//! What is particular to RocksDB: errors of opening, survival of a kill, equality with memory.

mod common;

use common::*;
use proptest::prelude::*;
use starling_kv::{Engine, Error, MemoryEngine, Options, RocksEngine, RocksOptions, Store};
use tempfile::TempDir;

fn rocks(dir: &TempDir) -> RocksEngine {
    RocksEngine::open(dir.path(), &RocksOptions::default()).expect("opens")
}

/// Plays the local part of a history: what is written, in order, to one store.
fn play<E: Engine>(store: &mut Store<E>, steps: &[Step]) -> Vec<String> {
    let mut told = Vec::new();
    for step in steps {
        match step {
            Step::Write { writes, .. } => {
                told.push(format!("{:?}", commit(store, NOW, writes.clone())));
            }
            Step::Repair { actor, first, length, .. } => {
                let ranges = choose(store, *actor, *first, *length);
                told.push(format!("{:?}", store.restrict(&ranges, 300).expect("reads")));
            }
            _ => {
                store.expire(NOW + 70_000).expect("sweeps");
                told.push(format!("{:?}", store.root()));
            }
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_do_the_same(steps in history(60)) {
        let dir = TempDir::new().expect("a directory");
        let mut on_disk = open(rocks(&dir), 1);
        let mut in_memory = open(MemoryEngine::new(), 1);
        prop_assert_eq!(play(&mut on_disk, &steps), play(&mut in_memory, &steps));
        prop_assert_eq!(on_disk.root(), in_memory.root());
        prop_assert_eq!(whole(&on_disk), whole(&in_memory));
        let list = |held: Result<starling_kv::Page, Error>| held.expect("lists");
        let range = starling_kv::Range::default();
        prop_assert_eq!(
            list(on_disk.reader().list(NOW, "default", &range, 3, 2)),
            list(in_memory.reader().list(NOW, "default", &range, 3, 2))
        );
        assert_sound(&on_disk);
        drop(on_disk);
        let again = open(rocks(&dir), 2);
        prop_assert_eq!(again.root(), in_memory.root());
    }
}

#[test]
fn a_database_in_use_is_named() {
    let dir = TempDir::new().expect("a directory");
    let _open = rocks(&dir);
    let second = RocksEngine::open(dir.path(), &RocksOptions::default());
    assert_eq!(second.err(), Some(Error::Locked { path: dir.path().to_owned() }));
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, b"not a directory").expect("writes");
    let opened = RocksEngine::open(&file.join("store"), &RocksOptions::default());
    assert!(matches!(opened.err(), Some(Error::Unwritable { .. })));
}

#[test]
fn a_damaged_database_is_reported_as_such() {
    let dir = TempDir::new().expect("a directory");
    let mut store = open(rocks(&dir), 1);
    commit(&mut store, NOW, vec![put("k", "v")]);
    drop(store);
    for entry in std::fs::read_dir(dir.path()).expect("reads") {
        let path = entry.expect("reads").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST")) {
            std::fs::write(path, b"nonsense").expect("writes");
        }
    }
    let opened = RocksEngine::open(dir.path(), &RocksOptions::default());
    assert!(matches!(opened.err(), Some(Error::Corrupt { .. })));
}

#[test]
fn the_doctor_works_beside_a_running_node_and_writes_nothing() {
    let dir = TempDir::new().expect("a directory");
    let mut store = open(rocks(&dir), 1);
    commit(&mut store, NOW, vec![put("k", "v")]);
    let engine = RocksEngine::open_read_only(dir.path(), &RocksOptions::default()).expect("opens");
    let mut offline = Store::open(engine, Options::default(), [2; 32]).expect("opens");
    let report = offline.reader().doctor().expect("reads");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.entries, report.root), (1, store.root()));
    let refused = offline.commit(NOW, vec![starling_kv::Batch { writes: vec![put("k", "w")] }]);
    assert_eq!(refused.err(), Some(Error::ReadOnly));
}

#[test]
fn what_was_synced_survives_a_copy_of_the_files_as_they_are() {
    let dir = TempDir::new().expect("a directory");
    let engine = rocks(&dir);
    let mut store = open(engine.clone(), 1);
    commit(&mut store, NOW, vec![put("k", "v")]);
    engine.sync().expect("syncs");
    // The files under a running process, as a crash of the machine would leave them.
    let copy = TempDir::new().expect("a directory");
    for entry in std::fs::read_dir(dir.path()).expect("reads") {
        let path = entry.expect("reads").path();
        let name = path.file_name().expect("has a name").to_owned();
        if name != "LOCK" {
            std::fs::copy(&path, copy.path().join(name)).expect("copies");
        }
    }
    let survived = open(rocks(&copy), 2);
    assert_eq!(survived.root(), store.root());
    assert_sound(&survived);
}
