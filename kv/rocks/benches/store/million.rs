//! A million keys of 100 bytes: memory, disk, and the time of a start.

use std::time::Instant;

use starling_kv::Error;
use tempfile::TempDir;

use super::{NOW, Subject, grouped, key, put, rocks};

const KEYS: usize = 1_000_000;

pub fn run() -> Result<(), Error> {
    let dir = TempDir::new().expect("a directory");
    println!("a million keys of 100 B");
    println!("  memory of an empty process          {:>8.1} MB", resident_mb());
    let mut subject = Subject::open(rocks(&dir)?)?;
    println!("  memory with an empty store          {:>8.1} MB", resident_mb());
    grouped(&mut subject, KEYS, put)?;
    println!("  memory after writing them           {:>8.1} MB", resident_mb());
    println!("  disk after writing them             {:>8.1} MB", disk_mb(&dir));
    drop(subject);
    reopen(&dir, "after a kill")?.store.checkpoint()?;
    reopen(&dir, "after a clean end")?;
    println!("  memory after that                   {:>8.1} MB", resident_mb());
    println!("  disk after that                     {:>8.1} MB\n", disk_mb(&dir));
    Ok(())
}

fn reopen(dir: &TempDir, how: &str) -> Result<Subject<starling_rocks::RocksEngine>, Error> {
    let began = Instant::now();
    let mut store = starling_kv::Store::open(rocks(dir)?, starling_kv::Options::default(), [9; 32])?;
    let answered = store.reader().register(NOW, "default", &key(KEYS / 2))?.is_some();
    assert!(answered);
    let first = began.elapsed();
    while store.maintain(NOW)? {}
    let complete = began.elapsed();
    println!("  start {how}: first answer after {first:.0?}, fingerprints complete after {complete:.0?}");
    Ok(Subject { store, rumors: Vec::new() })
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("has it");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1024.0
}

fn disk_mb(dir: &TempDir) -> f64 {
    let entries = std::fs::read_dir(dir.path()).expect("reads");
    let bytes: u64 = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum();
    bytes as f64 / f64::from(1 << 20)
}
