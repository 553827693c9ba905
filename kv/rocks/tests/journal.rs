//! The journal, and rows that are not logged, on real files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use starling_kv::engine::{Engine, Family, RowOp};
use starling_kv::journal::SEGMENT_BYTES;
use starling_rocks::{RocksEngine, RocksOptions};
use tempfile::TempDir;

fn rocks(dir: &TempDir) -> RocksEngine {
    RocksEngine::open(dir.path(), &RocksOptions::default()).expect("opens")
}

/// The names and lengths of a directory's files.
fn listed(dir: &TempDir) -> BTreeMap<OsString, u64> {
    let entries = std::fs::read_dir(dir.path()).expect("reads");
    let listed = entries.filter_map(|entry| {
        let entry = entry.expect("reads");
        // It may just have been removed.
        Some((entry.file_name(), entry.metadata().ok()?.len()))
    });
    listed.collect()
}

/// The files as a process that is killed now leaves them, in another directory: all of one moment, while the engine
/// neither makes nor removes any.
fn killed(dir: &TempDir) -> TempDir {
    loop {
        let (copy, before) = (TempDir::new().expect("a directory"), listed(dir));
        let of = |name| std::fs::copy(dir.path().join(name), copy.path().join(name));
        if before.keys().all(|name| of(name).is_ok()) && listed(dir) == before {
            return copy;
        }
    }
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir.path()).expect("reads").map(|entry| entry.expect("reads").path());
    let is_segment = |path: &PathBuf| path.to_string_lossy().contains("journal-");
    let mut files: Vec<PathBuf> = paths.filter(is_segment).collect();
    files.sort();
    files
}

fn put(family: Family, key: u32, row: &[u8]) -> Vec<RowOp> {
    vec![RowOp::Put(family, key.to_be_bytes().to_vec(), row.to_vec())]
}

fn keys(engine: &RocksEngine, family: Family) -> Vec<u32> {
    let has = |key: &u32| engine.get(family, &key.to_be_bytes()).expect("reads").is_some();
    (0..100).filter(has).collect()
}

#[test]
fn rows_that_are_not_logged_survive_once_they_are_flushed() {
    let dir = TempDir::new().expect("a directory");
    let engine = rocks(&dir);
    let both = |key: u32| [put(Family::StrongNow, key, b"v"), put(Family::StrongState, key, b"v")].concat();
    for key in 0..3 {
        engine.write_unlogged(both(key)).expect("writes");
    }
    assert!(engine.flushed() < engine.written());
    engine.flush().expect("flushes");
    assert_eq!(engine.flushed(), engine.written());
    engine.write_unlogged(both(3)).expect("writes");
    engine.write(put(Family::Meta, 1, b"v")).expect("writes");
    engine.sync().expect("syncs");
    let copy = killed(&dir);
    let after = rocks(&copy);
    for family in [Family::StrongNow, Family::StrongState] {
        assert_eq!((keys(&after, family), keys(&engine, family)), (vec![0, 1, 2], vec![0, 1, 2, 3]));
    }
    assert_eq!((keys(&after, Family::Meta), after.lost_writes()), (vec![1], None));
    // A process that ends properly flushes.
    drop(after);
    drop(engine);
    assert_eq!(keys(&rocks(&dir), Family::StrongNow), [0, 1, 2, 3]);
}

/// Families whose buffers fill at different times.
#[test]
fn rows_that_are_not_logged_survive_as_of_one_write() {
    let dir = TempDir::new().expect("a directory");
    let engine = rocks(&dir);
    for round in 0..400_u32 {
        let row = round.to_be_bytes();
        let state = put(Family::StrongState, 0, &row);
        let large = [&row[..], &vec![7; 40_000]].concat();
        let ops = [put(Family::StrongNow, round % 7, &large), state].concat();
        engine.write_unlogged(ops).expect("writes");
        if round % 80 == 79 {
            let copy = killed(&dir);
            let after = rocks(&copy);
            let number = |family, key: u32| {
                let row = after.get(family, &key.to_be_bytes()).expect("reads");
                row.map(|row| u32::from_be_bytes(*row.first_chunk().expect("a number")))
            };
            let last = number(Family::StrongState, 0);
            let newest = (0..7).filter_map(|key| number(Family::StrongNow, key)).max();
            assert_eq!(newest, last, "round {round}");
        }
    }
    let flushing = engine.written();
    engine.begin_flush();
    while engine.flushed() < flushing {
        std::thread::yield_now();
    }
}

#[test]
fn a_journal_is_there_again_and_its_files_are_reused() {
    let dir = TempDir::new().expect("a directory");
    let engine = rocks(&dir);
    assert!(files(&dir).is_empty(), "a node without strong keyspaces has none");
    let row = vec![7; SEGMENT_BYTES as usize / 3];
    for key in 0..40_u32 {
        let mut ops = put(Family::Journal, key, &row);
        ops.extend(key.checked_sub(2).map(|old| RowOp::Delete(Family::Journal, old.to_be_bytes().to_vec())));
        engine.write(ops).expect("writes");
        engine.sync().expect("syncs");
        assert!(files(&dir).len() <= 5, "{:?}", files(&dir));
    }
    let spare = |path: &PathBuf| path.to_string_lossy().ends_with("spare");
    assert!(files(&dir).iter().any(spare), "{:?}", files(&dir));
    let copy = killed(&dir);
    for after in [rocks(&copy), engine] {
        assert_eq!((keys(&after, Family::Journal), after.lost_records()), (vec![38, 39], None));
        let mixed = [put(Family::Journal, 1, b""), put(Family::Meta, 1, b"")].concat();
        assert!(after.write(mixed).is_err(), "one write is in one log");
    }
}

#[test]
fn damage_to_what_was_durable_is_told_from_a_torn_end() {
    let dir = TempDir::new().expect("a directory");
    let engine = rocks(&dir);
    for key in 0..9 {
        engine.write(put(Family::Journal, key, &[7; 100])).expect("writes");
    }
    engine.sync().expect("syncs");
    engine.write(put(Family::Journal, 9, &[8; 100])).expect("writes");
    let flipped = |byte: u8| {
        let copy = killed(&dir);
        let path = files(&copy).remove(0);
        let mut bytes = std::fs::read(&path).expect("reads");
        let at = bytes.iter().rposition(|found| *found == byte).expect("is there");
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("writes");
        copy
    };
    // The doctor of a stopped node sees the same, and changes nothing.
    let looked = |dir: &TempDir| {
        let before = listed(dir);
        let engine = RocksEngine::open_read_only(dir.path(), &RocksOptions::default()).expect("opens");
        assert_eq!(listed(dir), before);
        (keys(&engine, Family::Journal).len(), engine.lost_records().is_some())
    };
    let torn = flipped(8);
    assert_eq!(looked(&torn), (9, false));
    let engine = rocks(&torn);
    assert_eq!((keys(&engine, Family::Journal).len(), engine.lost_records()), (9, None));
    let damaged = flipped(7);
    assert_eq!(looked(&damaged), (8, true));
    let engine = rocks(&damaged);
    assert_eq!(keys(&engine, Family::Journal).len(), 8);
    assert!(engine.lost_records().is_some());
    drop(engine);
    let engine = rocks(&damaged);
    assert!(engine.lost_records().is_some(), "until it was written and synced again");
    engine.write(put(Family::Journal, 20, b"v")).expect("writes");
    engine.sync().expect("syncs");
    drop(engine);
    assert_eq!(rocks(&damaged).lost_records(), None);
}
