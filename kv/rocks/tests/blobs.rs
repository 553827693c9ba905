//! Large values are written to files of their own once, and their space is given back after they were replaced.

#![expect(clippy::disallowed_methods, reason = "RocksDB flushes and compacts on threads of its own")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use starling_kv::Engine;
use starling_kv::engine::{Family, RowOp};
use starling_rocks::{RocksEngine, RocksOptions};
use tempfile::TempDir;

const VALUE_BYTES: usize = 100_000;
/// Values that are flushed together: one blob file, because a write buffer has room for them.
const VALUES: usize = 35;
const DEADLINE: Duration = Duration::from_secs(120);

fn open(dir: &TempDir) -> RocksEngine {
    RocksEngine::open(dir.path(), &RocksOptions::default()).expect("opens")
}

/// Writes large values under these keys, and flushes them.
fn write(engine: &RocksEngine, keys: impl Iterator<Item = String>) {
    let value = vec![7; VALUE_BYTES];
    for key in keys {
        let row = RowOp::Put(Family::StrongNow, key.into_bytes(), value.clone());
        engine.write_unlogged(vec![row]).expect("writes");
    }
    engine.begin_flush();
    wait_until("the flush", || engine.flushed() == engine.written());
}

fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < DEADLINE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn files(dir: &TempDir, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.path()).expect("a directory").flatten();
    let is_one = |path: &PathBuf| path.extension().is_some_and(|it| it == extension);
    entries.map(|entry| entry.path()).filter(is_one).collect()
}

fn blob_bytes(dir: &TempDir) -> u64 {
    // A file may be removed between the two looks.
    files(dir, "blob").iter().map(|path| path.metadata().map_or(0, |it| it.len())).sum()
}

#[test]
fn values_that_stay_are_not_written_again() {
    let dir = TempDir::new().expect("a directory");
    let engine = open(&dir);
    let mut written = BTreeSet::new();
    for round in 0..20 {
        // The keys of the rounds lie between each other, so that a compaction merges what was flushed.
        write(&engine, (0..VALUES).map(|key| format!("{key:02}/{round:02}")));
        engine.sync().expect("syncs");
        written.extend(files(&dir, "blob"));
    }
    wait_until("a compaction", || files(&dir, "sst").len() < 10);
    let gone: Vec<&PathBuf> = written.iter().filter(|path| !path.exists()).collect();
    assert_eq!(gone, Vec::<&PathBuf>::new(), "of {} files", written.len());
}

#[test]
fn the_space_of_replaced_values_is_given_back_although_each_file_has_one_that_stays() {
    let dir = TempDir::new().expect("a directory");
    let engine = open(&dir);
    let round = |round: usize| {
        let stays = format!("stays/{round:04}");
        write(&engine, (1..VALUES).map(|key| format!("replaced/{key:02}")).chain([stays]));
    };
    (0..30).for_each(round);
    assert!(blob_bytes(&dir) > 90_000_000, "{} bytes", blob_bytes(&dir));
    for more in 30.. {
        for _ in 0..256 {
            engine.sync().expect("syncs");
        }
        round(more);
        if blob_bytes(&dir) < 70_000_000 {
            break;
        }
        assert!(more < 300, "{} bytes after {more} rounds", blob_bytes(&dir));
    }
    for kept in 0..30 {
        let value = engine.get(Family::StrongNow, format!("stays/{kept:04}").as_bytes()).expect("reads");
        assert_eq!(value.map(|value| value.len()), Some(VALUE_BYTES), "{kept}");
    }
}
