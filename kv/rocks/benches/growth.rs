//! Measures what a store costs after many starts of processes, each of which has written once as a new actor.
//!
//! `cargo bench --workspace --all-features --bench growth [-- ACTORS..]`

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_kv::{Batch, Error, MemoryEngine, Op, Options, Store, Write};
use starling_rocks::{RocksEngine, RocksOptions};
use starling_types::ActorGroup;
use tempfile::TempDir;

/// The allocator of a real node.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Wall clock of all writes, milliseconds.
const NOW: u64 = 1_700_000_000_000;
/// The argument with which this program measures the opening of a directory in a process of its own.
const OPEN: &str = "open=";

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(dir) = args.iter().find_map(|arg| arg.strip_prefix(OPEN)) {
        return open(Path::new(dir));
    }
    let mut counts: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10_000, 100_000, 1_000_000];
    }
    for actors in counts {
        println!("{actors} starts, each with a key that is deleted again");
        measure(actors, |_| {
            vec![write("key", Op::Put { value: Bytes::from_static(b"v") }), write("key", Op::Delete)]
        })?;
        println!("{actors} starts, each with an increment of one counter");
        measure(actors, |_| vec![increment("shared")])?;
    }
    Ok(())
}

fn write(key: &str, op: Op) -> Write {
    Write { keyspace: "default".into(), key: key.into(), op, ttl_ms: None, check: None }
}

fn increment(key: &str) -> Write {
    write(key, Op::Incr { by: 1 })
}

fn measure(actors: usize, writes: impl Fn(usize) -> Vec<Write>) -> Result<(), Error> {
    let dir = TempDir::new().expect("a directory");
    {
        let engine = RocksEngine::open(dir.path(), &RocksOptions::default())?;
        let mut store = Store::open(engine, Options::default(), [1; 32])?;
        while store.maintain(NOW)? {}
        let mut joining = Duration::ZERO;
        for start in 0..actors {
            let rumor = rumor_of_a_start(start, writes(start))?;
            let began = Instant::now();
            store.join(NOW, &rumor)?;
            joining += began.elapsed();
        }
        show("join of a rumor by a new actor", joining / actors as u32);
        operations(&mut store)?;
        show("checkpoint after all of it", timed(|| store.checkpoint())?);
        store.commit(NOW, vec![Batch { writes: vec![increment("own")] }])?;
        show("checkpoint after one write", timed(|| store.checkpoint())?);
    }
    let program = std::env::current_exe().expect("Linux");
    let status = Command::new(program).arg(format!("{OPEN}{}", dir.path().display())).status();
    assert!(status.expect("starts").success());
    Ok(())
}

fn operations(store: &mut Store<RocksEngine>) -> Result<(), Error> {
    // The longest commit of those that an increment takes.
    let mut commit = |key: &str| {
        let mut batches = vec![Batch { writes: vec![increment(key)] }];
        let mut longest = Duration::ZERO;
        while !batches.is_empty() {
            let began = Instant::now();
            batches = store.commit(NOW, batches)?.rest;
            longest = longest.max(began.elapsed());
        }
        Ok::<_, Error>(longest)
    };
    commit("own")?;
    show(
        "increment of a counter of its own",
        timed(|| (0..100).try_for_each(|_| commit("own").map(drop)))? / 100,
    );
    let mut longest = Duration::ZERO;
    show("first increment of the shared counter", timed(|| commit("shared").map(|step| longest = step))?);
    show("longest step of it", longest);
    show("further ones", timed(|| (0..10).try_for_each(|_| commit("shared").map(drop)))? / 10);
    let reader = store.reader();
    show("read of the shared counter", timed(|| reader.counter(NOW, "default", b"shared").map(drop))?);
    let digests = |group| {
        store.digests(group, 7);
        Ok(())
    };
    show(
        "digests of groups of actors, both levels",
        timed(|| digests(ActorGroup::All))? + timed(|| digests(ActorGroup::First(7)))?,
    );
    show(
        "hashes of groups for peers of 0.1.0",
        timed(|| {
            store.group_hashes(7);
            Ok(())
        })?,
    );
    Ok(())
}

/// The rumor of a process that has just started.
fn rumor_of_a_start(start: usize, writes: Vec<Write>) -> Result<Bytes, Error> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(start as u64).to_le_bytes());
    let mut store = Store::open(MemoryEngine::new(), Options::default(), seed)?;
    let committed = store.commit(NOW, vec![Batch { writes }])?;
    Ok(committed.rumors.into_iter().next().expect("it has written").1)
}

/// Measures the opening of a store.
fn open(dir: &Path) -> Result<(), Error> {
    // Without a cache, so that the memory is the store's alone.
    let engine = RocksEngine::open(dir, &RocksOptions { cache_bytes: 0, ..RocksOptions::default() })?;
    let (began, before) = (Instant::now(), resident_bytes());
    let store = Store::open(engine, Options::default(), [2; 32])?;
    show("open after a clean end", began.elapsed());
    let bytes = resident_bytes().saturating_sub(before);
    println!(
        "  {:<44} {:>12} bytes",
        "memory of the open store per actor",
        bytes / store.stats().actors.max(1)
    );
    Ok(())
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("has it");
    1024 * line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number")
}

fn timed(work: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}

fn show(what: &str, time: Duration) {
    println!("  {what:<44} {:>12.1} us", time.as_secs_f64() * 1e6);
}
