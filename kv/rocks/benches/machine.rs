//! Measures the state machine alone: no log, no network.
//!
//! `cargo bench --workspace --all-features --bench machine`

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks")]

use std::time::{Duration, Instant};

use starling_kv::{Engine, Error, MemoryEngine};
use starling_rocks::{RocksEngine, RocksOptions};
use starling_strong::api::{
    Compare, Delete, Keys, LeaseId, Operand, Put, Range, Read, Relation, RequestId, Txn, TxnOp, Watch, Write,
};
use starling_strong::machine::{Command, Config, GroupId, Machine};
use tempfile::TempDir;

/// The allocator of a real node.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const GROUP: GroupId = *b"a measured group";
/// Keys written, and bytes of a value: those of the targets (etcd's `benchmark put`).
const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 100;
/// The lease of all keys.
const LEASE: LeaseId = 7;
/// Entries applied together, as under load.
const BATCH: usize = 64;

fn main() -> Result<(), Error> {
    println!("{:<10} {:<36} {:>10} {:>9}", "", "", "ops/s", "CPU us/op");
    let mut memory = Bench::new("memory", MemoryEngine::new())?;
    memory.run()?;
    let dir = TempDir::new().expect("a directory");
    let engine = RocksEngine::open(dir.path(), &RocksOptions::default())?;
    Bench::new("rocksdb", engine)?.run()
}

struct Bench<E: Engine> {
    engine: &'static str,
    machine: Machine<E>,
}

impl<E: Engine> Bench<E> {
    fn new(name: &'static str, engine: E) -> Result<Self, Error> {
        Ok(Self { engine: name, machine: Machine::open(engine, GROUP, Config::default())? })
    }

    fn run(&mut self) -> Result<(), Error> {
        let unnamed = |write| Command::Write { id: None, fence: None, write };
        let named = |seq: usize, write| {
            let seq = seq as u64 + 1;
            let id = RequestId { client: 1, seq, answered_below: seq.saturating_sub(64) };
            Command::Write { id: Some(id), fence: None, write }
        };
        self.apply("put, new keys", KEYS, BATCH, |n| unnamed(put(n)))?;
        self.apply("put, overwrites", KEYS, BATCH, |n| unnamed(put(mix(n))))?;
        self.apply("put, overwrites, one by one", KEYS / 4, 1, |n| unnamed(put(mix(n))))?;
        self.apply("put, overwrites, named", KEYS, BATCH, |n| named(n, put(mix(n))))?;
        self.apply("put, one key", KEYS, BATCH, |_| unnamed(put(0)))?;
        self.apply("compare and set, own keys", KEYS, BATCH, |n| unnamed(swap(mix(n))))?;
        self.measure("get", KEYS, |bench, n| bench.machine.read(&Read::Range(get(mix(n)))).map(drop))?;
        self.watches()?;
        self.apply("put, 10,000 watches on single keys", KEYS, BATCH, |n| unnamed(put(mix(n))))?;
        (0..10_000).for_each(|id| self.machine.unwatch(id));
        let sequential = || Write::PutSequential { prefix: b"q/".to_vec(), value: Vec::new(), lease: 0 };
        let queue = || Keys::Range { from: b"q/".to_vec(), to: Some(b"q0".to_vec()) };
        self.apply("queue: push", KEYS / 4, BATCH, |_| unnamed(sequential()))?;
        self.apply("queue: pop", KEYS / 4, BATCH, |_| unnamed(Write::PopFirst { keys: queue() }))?;
        self.apply("delete of all keys at once", 1, 1, |_| unnamed(delete_all()))?;
        self.apply("put, new keys, one lease", KEYS, BATCH, |n| {
            unnamed(if n == 0 { grant() } else { leased(n) })
        })?;
        self.apply("revoke of that lease", 1, 1, |_| unnamed(Write::LeaseRevoke { id: LEASE }))?;
        let revision = self.machine.revision();
        self.apply("compact", 1, 1, |_| unnamed(Write::Compact { revision }))?;
        let started = (Instant::now(), cpu());
        while self.machine.maintain()? {}
        self.report("remove history, per revision", revision as usize, started);
        let snapshot = self.machine.snapshot()?;
        let started = (Instant::now(), cpu());
        let mut restore = self.machine.restore()?;
        let mut cursor = starling_strong::machine::Cursor::default();
        while let Ok(starling_strong::machine::Next::Chunk(next)) =
            restore.push(&snapshot.chunk(&cursor, 256 << 10)?)
        {
            cursor = next;
        }
        self.machine.install(restore, Vec::new())?;
        self.report("snapshot and restore, per key", KEYS, started);
        Ok(())
    }

    fn watches(&mut self) -> Result<(), Error> {
        for id in 0..10_000 {
            let keys = Keys::One(key(id));
            let watch = Watch { keys, from_revision: 0, prev: false, only: None };
            self.machine.watch(id as u64, watch).expect("there is room");
            self.machine.poll_watch(id as u64, 1)?;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        name: &str,
        count: usize,
        batch: usize,
        command: impl Fn(usize) -> Command,
    ) -> Result<(), Error> {
        let mut next = 0;
        // Commands come decoded from the log: that is measured apart.
        let mut commands = (0..count).map(&command).collect::<Vec<_>>().into_iter();
        let started = (Instant::now(), cpu());
        while next < count {
            let first = self.machine.applied() + 1;
            let entries = (first..).zip(commands.by_ref().take(batch).map(Some)).collect();
            let answers = self.machine.apply(0, entries)?;
            next += answers.len();
            for id in self.machine.take_ready() {
                while self.machine.poll_watch(id, 1 << 20)?.is_some() {}
            }
        }
        self.report(name, count, started);
        Ok(())
    }

    fn measure(
        &mut self,
        name: &str,
        count: usize,
        operate: impl Fn(&Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let started = (Instant::now(), cpu());
        (0..count).try_for_each(|n| operate(self, n))?;
        self.report(name, count, started);
        Ok(())
    }

    fn report(&self, name: &str, count: usize, (wall, cpu_before): (Instant, Duration)) {
        let per_second = count as f64 / wall.elapsed().as_secs_f64();
        let micros = cpu().saturating_sub(cpu_before).as_secs_f64() * 1e6 / count as f64;
        println!("{:<10} {name:<36} {per_second:>10.0} {micros:>9.2}", self.engine);
    }
}

/// CPU time of this process, all threads (`RocksDB` works behind the caller's back).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    // utime and stime, in hundredths of a second (proc(5)).
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn mix(n: usize) -> usize {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) % KEYS
}

fn key(n: usize) -> Vec<u8> {
    format!("some/prefix/key-{n:08}").into_bytes()
}

fn delete_all() -> Write {
    Write::Delete(Delete { keys: Keys::Range { from: Vec::new(), to: None }, prev: false })
}

fn grant() -> Write {
    Write::LeaseGrant { id: LEASE, ttl_ms: 60_000 }
}

fn leased(n: usize) -> Write {
    Write::Put(Put { key: key(n), value: Some(vec![b'v'; VALUE_BYTES]), lease: Some(LEASE), prev: false })
}

fn put(n: usize) -> Write {
    Write::Put(Put { key: key(n), value: Some(vec![b'v'; VALUE_BYTES]), lease: Some(0), prev: false })
}

/// What a client library sends to replace what it has read.
fn swap(n: usize) -> Write {
    let Write::Put(put) = put(n) else { unreachable!("a put") };
    let compare = Compare { keys: Keys::One(key(n)), is: Relation::Greater, to: Operand::ModRevision(0) };
    let otherwise = vec![TxnOp::Range(get(n))];
    Write::Txn(Txn { compare: vec![compare], then: vec![TxnOp::Put(put)], otherwise })
}

fn get(n: usize) -> Range {
    Range::of(Keys::One(key(n)))
}
