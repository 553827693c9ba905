//! Tests particular to RocksDB: errors of opening, survival of a kill, equality with the memory engine.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;

use common::*;
use proptest::prelude::*;
use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error, MemoryEngine, Options, Store};
use starling_rocks::{RocksEngine, RocksOptions};
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
fn a_store_of_before_strong_keyspaces_gets_their_families_when_it_is_opened() {
    let dir = TempDir::new().expect("a directory");
    let mut store = open(rocks(&dir), 1);
    commit(&mut store, NOW, vec![put("k", "v")]);
    let root = store.root();
    drop(store);
    let (options, families) = (rocksdb::Options::default(), Family::ALL.map(Family::name));
    let (kept, newer): (Vec<&str>, Vec<&str>) =
        families.into_iter().partition(|name| !name.starts_with("strong") && *name != Family::Raft.name());
    assert!(!kept.is_empty() && newer.len() > 1, "{kept:?} {newer:?}");
    let all = kept.iter().chain(&newer).copied();
    let mut before = rocksdb::DB::open_cf(&options, dir.path(), all).expect("opens");
    for name in newer {
        before.drop_cf(name).expect("drops");
    }
    drop(before);
    let looked = RocksEngine::open_read_only(dir.path(), &RocksOptions::default());
    assert_eq!(looked.err(), Some(Error::Older), "whoever only looks changes nothing");
    let store = open(rocks(&dir), 2);
    assert_eq!(store.root(), root);
    drop(store);
    RocksEngine::open_read_only(dir.path(), &RocksOptions::default()).expect("it has all families now");
}

#[test]
fn data_without_its_catalogue_is_damage_and_stays() {
    let dir = TempDir::new().expect("a directory");
    let mut store = open(rocks(&dir), 1);
    commit(&mut store, NOW, vec![put("k", "v")]);
    let root = store.root();
    drop(store);
    let (current, aside) = (dir.path().join("CURRENT"), dir.path().join("aside"));
    std::fs::rename(&current, &aside).expect("renames");
    let before = listed(&dir);
    for opened in [RocksEngine::open, RocksEngine::open_read_only] {
        let error = opened(dir.path(), &RocksOptions::default()).err().expect("refused");
        assert!(matches!(&error, Error::Corrupt { reason } if reason.contains("CURRENT")), "{error}");
    }
    assert_eq!(listed(&dir), before, "nothing was changed");
    std::fs::rename(&aside, &current).expect("renames");
    assert_eq!(open(rocks(&dir), 2).root(), root);
}

/// The names and lengths of a directory's files.
fn listed(dir: &TempDir) -> BTreeMap<OsString, u64> {
    let entries = std::fs::read_dir(dir.path()).expect("reads");
    let listed = entries.filter_map(|entry| {
        let entry = entry.expect("reads");
        // It may just have been removed.
        Some((entry.file_name(), entry.metadata().ok()?.len()))
    });
    listed.filter(|(name, _)| name != "LOCK").collect()
}

/// The files under a running process, as a crash of the machine would leave them: all of one moment, while the
/// engine neither makes nor removes any.
fn copied(dir: &TempDir) -> TempDir {
    loop {
        let (copy, before) = (TempDir::new().expect("a directory"), listed(dir));
        let of = |name| std::fs::copy(dir.path().join(name), copy.path().join(name));
        if before.keys().all(|name| of(name).is_ok()) && listed(dir) == before {
            return copy;
        }
    }
}

#[test]
fn what_was_synced_survives_a_copy_of_the_files_as_they_are() {
    let dir = TempDir::new().expect("a directory");
    let engine = rocks(&dir);
    let mut store = open(engine.clone(), 1);
    commit(&mut store, NOW, vec![put("k", "v")]);
    engine.sync().expect("syncs");
    let copy = copied(&dir);
    let survived = open(rocks(&copy), 2);
    assert_eq!(survived.root(), store.root());
    assert_sound(&survived);
}

/// Logs are written over: behind what was written last, a file has what it had before.
#[test]
fn what_was_synced_survives_also_in_a_log_that_had_another_content() {
    let dir = TempDir::new().expect("a directory");
    let options = RocksOptions { recycle_logs: true, ..RocksOptions::default() };
    let engine = RocksEngine::open(dir.path(), &options).expect("opens");
    let mut store = open(engine.clone(), 1);
    let value = "v".repeat(100 << 10);
    // Several times what fits into the buffers, so that logs come to their end and are used again.
    for round in 0..12 {
        for number in 0..100 {
            commit(&mut store, NOW, vec![put(&format!("k{round}.{number}"), &value)]);
        }
        commit(&mut store, NOW, vec![put("last", &round.to_string())]);
        engine.sync().expect("syncs");
        let copy = copied(&dir);
        let survived = open(rocks(&copy), 2);
        assert_eq!(survived.root(), store.root(), "round {round}");
    }
}

/// The files of a database as a process that is killed now leaves them, in another directory.
fn killed(dir: &TempDir) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    for entry in std::fs::read_dir(dir.path()).expect("reads") {
        let entry = entry.expect("reads");
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copies");
    }
    copy
}

/// The write-ahead logs of a database, oldest first.
fn logs(dir: &TempDir) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(dir.path()).expect("reads").map(|entry| entry.expect("reads").path());
    let mut logs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    logs.sort();
    logs
}

/// The write-ahead log of a new database.
fn log_file(dir: &TempDir) -> std::path::PathBuf {
    let mut logs = logs(dir);
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

fn flip_a_bit(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("reads");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("writes");
}

/// Rows that a sync has made durable, and then rows that none has; and the bytes of the log at the sync.
fn written_and_half_synced(dir: &TempDir) -> (RocksEngine, u64) {
    let engine = rocks(dir);
    let row = |n: u32| vec![RowOp::Put(Family::Meta, n.to_be_bytes().to_vec(), vec![7; 100])];
    (0..400).for_each(|n| engine.write(row(n)).expect("writes"));
    engine.sync().expect("syncs");
    let synced = std::fs::metadata(log_file(dir)).expect("is there").len();
    (400..450).for_each(|n| engine.write(row(n)).expect("writes"));
    (engine, synced)
}

#[test]
fn a_log_that_ends_before_what_was_synced_is_told_from_one_that_was_cut_after_it() {
    let dir = TempDir::new().expect("a directory");
    let (_engine, synced) = written_and_half_synced(&dir);
    let rows = |engine: &RocksEngine| {
        (0..450u32).filter(|n| engine.get(Family::Meta, &n.to_be_bytes()).expect("reads").is_some()).count()
    };
    let whole = rocks(&killed(&dir));
    assert_eq!((rows(&whole), whole.lost_writes()), (450, None));
    // Power fails: the end of the log is not there, or is not what was written.
    let cut = killed(&dir);
    let log = std::fs::OpenOptions::new().write(true).open(log_file(&cut)).expect("opens");
    log.set_len(synced + 40).expect("cuts");
    let cut = rocks(&cut);
    assert_eq!((rows(&cut), cut.lost_writes()), (400, None));
    // One bit before the sync.
    let damaged = killed(&dir);
    flip_a_bit(&log_file(&damaged), synced as usize / 2);
    let looked = RocksEngine::open_read_only(damaged.path(), &RocksOptions::default()).expect("opens");
    let engine = rocks(&damaged);
    let lost = engine.lost_writes().expect("it is noticed");
    assert_eq!(looked.lost_writes(), Some(lost));
    assert_eq!(lost.found, rows(&engine) as u64);
    assert!(lost.found < 400 && lost.synced == 400, "{lost:?}");
    // Noticed until the next sync, so that it is acted on even if the process dies before that.
    drop(engine);
    let engine = rocks(&damaged);
    assert_eq!(engine.lost_writes(), Some(lost));
    engine.sync().expect("syncs");
    drop(engine);
    assert_eq!(rocks(&damaged).lost_writes(), None);
}

/// Killed while rows are flushed, or after it: the log of these rows is still there, and the one that was begun after it.
#[test]
fn damage_to_any_of_several_logs_is_noticed_or_does_not_matter() {
    let dir = TempDir::new().expect("a directory");
    let (engine, _) = written_and_half_synced(&dir);
    let before = killed(&dir);
    engine.write_unlogged(vec![RowOp::Put(Family::StrongNow, vec![1], vec![7])]).expect("writes");
    engine.flush().expect("flushes");
    let row = |n: u32| vec![RowOp::Put(Family::Meta, n.to_be_bytes().to_vec(), vec![7; 100])];
    (450..500).for_each(|n| engine.write(row(n)).expect("writes"));
    engine.sync().expect("syncs");
    // The catalogue of the time before the flush, and the logs of now.
    for file in logs(&dir).into_iter().chain([dir.path().join("SYNCED")]) {
        std::fs::copy(&file, before.path().join(file.file_name().expect("has a name"))).expect("copies");
    }
    assert_eq!(logs(&before).len(), 2);
    let rows = |engine: &RocksEngine| {
        (0..500u32).filter(|n| engine.get(Family::Meta, &n.to_be_bytes()).expect("reads").is_some()).count()
    };
    for state in [before, dir] {
        for log in logs(&state) {
            let damaged = killed(&state);
            let name = log.file_name().expect("has a name");
            let middle = std::fs::metadata(&log).expect("is there").len() as usize / 2;
            flip_a_bit(&damaged.path().join(name), middle);
            let engine = rocks(&damaged);
            assert_eq!(engine.lost_writes().is_none(), rows(&engine) == 500, "{log:?}");
        }
    }
}

/// A store of 0.1.0: one family's rows are in data files, and an older row of another one is only in a log.
#[test]
fn a_damaged_log_before_rows_in_files_is_refused_in_words_of_our_own() {
    let dir = TempDir::new().expect("a directory");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = rocksdb::DB::open_cf(&options, dir.path(), Family::ALL.map(Family::name)).expect("opens");
    let family = |family: Family| db.cf_handle(family.name()).expect("is there");
    (0..400u32).for_each(|n| db.put_cf(family(Family::Meta), n.to_be_bytes(), [7; 100]).expect("writes"));
    db.put_cf(family(Family::Cells), b"k", b"v").expect("writes");
    db.flush_cf(family(Family::Cells)).expect("flushes");
    drop(db);
    flip_a_bit(&logs(&dir)[0], 20_000);
    for open in [RocksEngine::open_read_only, RocksEngine::open] {
        let error = open(dir.path(), &RocksOptions::default()).err().expect("refused");
        let Error::Corrupt { reason } = &error else { panic!("{error}") };
        assert!(reason.starts_with("a write-ahead log in "), "{reason}");
    }
}
