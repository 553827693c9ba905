//! Measures the store on RocksDB, and beside each figure the identical reads and writes of RocksDB
//! without the store.
//!
//! `cargo bench --workspace --all-features --bench store [-- NAME..]`

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks and starts threads")]

mod channel;
mod million;
mod recorder;

use std::time::Instant;

use bytes::Bytes;
use recorder::{Call, Recorder, replay};
use starling_kv::{Batch, Engine, Error, Op, Options, Store, Write};
use starling_rocks::{RocksEngine, RocksOptions};
use tempfile::TempDir;

/// Wall clock of all writes, milliseconds.
const NOW: u64 = 1_700_000_000_000;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;

fn main() -> Result<(), Error> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    // First, while the process is small.
    if is_wanted("million") {
        million::run()?;
    }
    println!(
        "{:<44} {:>10} {:>9} {:>12} {:>9} {:>6}",
        "", "ops/s", "CPU us/op", "RocksDB ops/s", "CPU us/op", "ratio"
    );
    for case in cases().into_iter().filter(|case| is_wanted(case.name)) {
        case.run()?;
    }
    if is_wanted("threads") {
        channel::run()?;
    }
    Ok(())
}

/// Something to measure: a preparation, then operations.
struct Case {
    name: &'static str,
    operations: usize,
    prepare: fn(&mut dyn Target) -> Result<(), Error>,
    operate: fn(&mut dyn Target, usize) -> Result<(), Error>,
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "put 100 B, new keys, 1 writer",
            operations: 200_000,
            prepare: |_| Ok(()),
            operate: |target, operations| (0..operations).try_for_each(|n| target.commit(vec![put(n)])),
        },
        Case {
            name: "put 100 B, new keys, 64 writers",
            operations: 400_000,
            prepare: |_| Ok(()),
            operate: |target, operations| grouped(target, operations, put),
        },
        Case {
            name: "put 100 B, overwrites, 1 writer",
            operations: 200_000,
            prepare: |target| grouped(target, 200_000, put),
            operate: |target, operations| {
                (0..operations).try_for_each(|n| target.commit(vec![put(mix(n) % 200_000)]))
            },
        },
        Case {
            name: "put 100 B, overwrites, 64 writers",
            operations: 400_000,
            prepare: |target| grouped(target, 200_000, put),
            operate: |target, operations| grouped(target, operations, |n| put(mix(n) % 200_000)),
        },
        Case {
            name: "point read of 200,000 registers",
            operations: 400_000,
            prepare: |target| grouped(target, 200_000, put),
            operate: |target, operations| {
                (0..operations).try_for_each(|n| target.read(&key(mix(n) % 200_000)))
            },
        },
        Case {
            name: "add to a set of 1,000",
            operations: 100_000,
            prepare: |target| grouped(target, 1_000, add),
            operate: add_new,
        },
        Case {
            name: "add to a set of 1,000,000",
            operations: 100_000,
            prepare: |target| grouped(target, 1_000_000, add),
            operate: add_new,
        },
        Case {
            name: "increment one of 1,000 counters",
            operations: 200_000,
            prepare: |_| Ok(()),
            operate: |target, operations| {
                (0..operations).try_for_each(|n| target.commit(vec![incr(mix(n) % 1_000)]))
            },
        },
        Case {
            name: "join a delta of one new key",
            operations: 200_000,
            prepare: |target| target.rumors(200_000, 1, false),
            operate: |target, _| target.join_rumors(),
        },
        Case {
            name: "join a delta of one overwrite",
            operations: 200_000,
            prepare: |target| target.rumors(200_000, 1, true),
            operate: |target, _| target.join_rumors(),
        },
        Case {
            name: "join an entry, 1,000 new keys at once",
            operations: 400_000,
            prepare: |target| target.rumors(400_000, 1_000, false),
            operate: |target, _| target.join_rumors(),
        },
    ]
}

/// 64 concurrent writers, as the daemon's group commit hands them over.
fn grouped(target: &mut dyn Target, operations: usize, write: fn(usize) -> Write) -> Result<(), Error> {
    let numbers: Vec<usize> = (0..operations).collect();
    numbers.chunks(64).try_for_each(|chunk| target.commit(chunk.iter().map(|&n| write(n)).collect()))
}

/// Adds elements that no preparation has added, one at a time.
fn add_new(target: &mut dyn Target, operations: usize) -> Result<(), Error> {
    (0..operations).try_for_each(|n| target.commit(vec![add(2_000_000 + n)]))
}

/// What a case works on: a store, measured or recorded.
trait Target {
    /// Commits each write as a batch of its own, together.
    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Error>;
    fn read(&mut self, key: &[u8]) -> Result<(), Error>;
    /// Makes the deltas of another store, to be joined.
    fn rumors(&mut self, entries: usize, batch: usize, overwrite: bool) -> Result<(), Error>;
    fn join_rumors(&mut self) -> Result<(), Error>;
}

struct Subject<E: Engine> {
    store: Store<E>,
    rumors: Vec<Bytes>,
}

impl<E: Engine> Subject<E> {
    fn open(engine: E) -> Result<Self, Error> {
        let mut store = Store::open(engine, Options::default(), [1; 32])?;
        while store.maintain(NOW)? {}
        Ok(Self { store, rumors: Vec::new() })
    }
}

impl<E: Engine> Target for Subject<E> {
    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Error> {
        let batches = writes.into_iter().map(|write| Batch { writes: vec![write] }).collect();
        let committed = self.store.commit(NOW, batches)?;
        assert!(committed.results.iter().all(Result::is_ok));
        Ok(())
    }

    fn read(&mut self, key: &[u8]) -> Result<(), Error> {
        assert!(self.store.reader().register(NOW, "default", key)?.is_some());
        Ok(())
    }

    fn rumors(&mut self, entries: usize, batch: usize, overwrite: bool) -> Result<(), Error> {
        let mut origin = Store::open(starling_kv::MemoryEngine::new(), Options::default(), [2; 32])?;
        let mut round = || -> Result<Vec<Bytes>, Error> {
            let mut rumors = Vec::new();
            for first in (0..entries).step_by(batch) {
                let writes = (first..first + batch).map(put).collect();
                let committed = origin.commit(NOW, vec![Batch { writes }])?;
                rumors.extend(committed.rumors.into_iter().map(|(_, delta)| delta));
            }
            Ok(rumors)
        };
        self.rumors = round()?;
        if overwrite {
            self.join_rumors()?;
            self.rumors = round()?;
        }
        Ok(())
    }

    fn join_rumors(&mut self) -> Result<(), Error> {
        std::mem::take(&mut self.rumors).iter().try_for_each(|delta| self.store.join(NOW, delta).map(drop))
    }
}

impl Case {
    fn run(&self) -> Result<(), Error> {
        let store = {
            let dir = TempDir::new().expect("a directory");
            let mut subject = Subject::open(rocks(&dir)?)?;
            (self.prepare)(&mut subject)?;
            measure(self.operations, || (self.operate)(&mut subject, self.operations))?
        };
        let (prepare, operate) = self.record()?;
        let bare = {
            let dir = TempDir::new().expect("a directory");
            let engine = rocks(&dir)?;
            replay(&engine, prepare)?;
            measure(self.operations, || replay(&engine, operate))?
        };
        println!(
            "{:<44} {:>10.0} {:>9.2} {:>12.0} {:>9.2} {:>6.2}",
            self.name,
            store.per_second,
            store.cpu_us,
            bare.per_second,
            bare.cpu_us,
            store.cpu_us / bare.cpu_us
        );
        Ok(())
    }

    fn record(&self) -> Result<(Vec<Call>, Vec<Call>), Error> {
        let dir = TempDir::new().expect("a directory");
        let recorder = Recorder::new(rocks(&dir)?);
        let mut subject = Subject::open(recorder.clone())?;
        (self.prepare)(&mut subject)?;
        let prepare = recorder.take();
        (self.operate)(&mut subject, self.operations)?;
        Ok((prepare, recorder.take()))
    }
}

struct Measured {
    per_second: f64,
    cpu_us: f64,
}

fn measure(operations: usize, work: impl FnOnce() -> Result<(), Error>) -> Result<Measured, Error> {
    let (began, cpu_began) = (Instant::now(), cpu_seconds());
    work()?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu_began);
    let operations = operations as f64;
    Ok(Measured { per_second: operations / seconds, cpu_us: cpu / operations * 1e6 })
}

/// CPU time of all threads of this process, those of RocksDB included.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // After the name in parentheses; user and system time are fields 14 and 15, in 1/100 s.
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("has fields").split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn rocks(dir: &TempDir) -> Result<RocksEngine, Error> {
    RocksEngine::open(dir.path(), &RocksOptions::default())
}

fn key(n: usize) -> Vec<u8> {
    format!("key/{n:012}").into_bytes()
}

fn write(key: Vec<u8>, op: Op) -> Write {
    Write { keyspace: "default".into(), key, op, ttl_ms: None, check: None }
}

fn put(n: usize) -> Write {
    // Not compressible, as a hash is not.
    let mut value = Vec::with_capacity(VALUE_BYTES);
    let mut state = n as u64;
    while value.len() < VALUE_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(VALUE_BYTES);
    write(key(n), Op::Put { value: value.into() })
}

fn add(n: usize) -> Write {
    write(b"set".to_vec(), Op::SetAdd { members: vec![format!("element/{:012}", mix(n)).into()] })
}

fn incr(n: usize) -> Write {
    write(format!("counter/{n}").into_bytes(), Op::Incr { by: 1 })
}

/// Scatters numbers.
fn mix(n: usize) -> usize {
    (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) as usize >> 20
}
