//! Helpers that several tests use.
#![allow(dead_code, reason = "each test uses a part")]

pub mod member;
pub mod model;
pub mod plans;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use starling_kv::engine::{Family, RowOp, View};
use starling_kv::{Engine, Error, MemoryEngine};
use starling_strong::api::*;
use starling_strong::machine::{Applied, Command, Config, GroupId, Machine};

pub const GROUP: GroupId = *b"a group of tests";

/// Opens a replica on `engine`.
pub fn open(engine: &MemoryEngine) -> Machine<MemoryEngine> {
    Machine::open(engine.clone(), GROUP, Config::default()).expect("opens")
}

pub fn fresh() -> Machine<MemoryEngine> {
    open(&MemoryEngine::new())
}

pub fn command(write: Write) -> Command {
    Command::Write { id: None, fence: None, write }
}

/// Applies commands at the next indices, at time 0.
pub fn apply_all<E: Engine>(machine: &mut Machine<E>, commands: Vec<Command>) -> Vec<Applied> {
    let first = machine.applied() + 1;
    let entries = (first..).zip(commands.into_iter().map(Some)).collect();
    machine.apply(0, entries).expect("applies")
}

/// Applies one command.
pub fn apply<E: Engine>(machine: &mut Machine<E>, command: Command) -> Result<Answer, Refusal> {
    apply_all(machine, vec![command]).remove(0).expect("somebody asked")
}

/// Applies one write without a request id.
pub fn write<E: Engine>(machine: &mut Machine<E>, write: Write) -> Result<Answer, Refusal> {
    apply(machine, command(write))
}

pub fn put(key: &str, value: &str) -> Write {
    Write::Put(Put { key: key.into(), value: Some(value.into()), lease: Some(0), prev: false })
}

pub fn put_leased(key: &str, value: &str, lease: LeaseId) -> Write {
    Write::Put(Put { key: key.into(), value: Some(value.into()), lease: Some(lease), prev: false })
}

pub fn delete(key: &str) -> Write {
    Write::Delete(Delete { keys: Keys::One(key.into()), prev: false })
}

pub fn all() -> Keys {
    Keys::Range { from: Vec::new(), to: None }
}

/// A plain range.
pub fn range(keys: Keys, revision: Revision) -> Range {
    Range { revision, ..Range::of(keys) }
}

pub fn read<E: Engine>(machine: &Machine<E>, range: Range) -> Result<Found, Refusal> {
    match machine.read(&Read::Range(range)).expect("reads")?.body {
        Body::Range(found) => Ok(found),
        other => panic!("a range is answered with {other:?}"),
    }
}

/// The value of a key, now.
pub fn value<E: Engine>(machine: &Machine<E>, key: &str) -> Option<String> {
    let mut found = read(machine, range(Keys::One(key.into()), 0)).expect("reads");
    found.kvs.pop().map(|kv| String::from_utf8(kv.value).expect("a text"))
}

/// Every row of an engine: family, key, contents.
pub fn dump<E: Engine>(engine: &E) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let mut row = |key: &[u8], row: &[u8]| {
            rows.push((family.name(), key.to_vec(), row.to_vec()));
            Ok(ControlFlow::Continue(()))
        };
        engine.view().scan(family, &[], None, &mut row).expect("reads");
    }
    rows
}

/// The value that [`Machine::bytes`] should have.
pub fn counted(engine: &MemoryEngine) -> u64 {
    let rows = dump(engine);
    let rows = rows.iter().filter(|(family, ..)| *family != "strong_state");
    rows.map(|(_, key, row)| (key.len() + row.len()) as u64).sum()
}

/// An engine that fails to write after some writes.
#[derive(Clone)]
pub struct Failing {
    pub engine: MemoryEngine,
    writes_left: Arc<AtomicU64>,
}

impl Failing {
    pub fn after(writes: u64) -> Self {
        Self { engine: MemoryEngine::new(), writes_left: Arc::new(AtomicU64::new(writes)) }
    }

    pub fn fail_after(&self, writes: u64) {
        self.writes_left.store(writes, Ordering::Relaxed);
    }
}

impl Engine for Failing {
    type View<'a> = <MemoryEngine as Engine>::View<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.engine.get(family, key)
    }

    fn view(&self) -> Self::View<'_> {
        self.engine.view()
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        let left = self.writes_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(Error::Full);
        }
        self.writes_left.store(left - 1, Ordering::Relaxed);
        self.engine.write(ops)
    }
}
