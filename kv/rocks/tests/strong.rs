//! The state machine behaves on the engine of a real node as on the memory engine.

#[path = "../../strong/tests/common/mod.rs"]
mod common;

use common::plans::{self, Planned};
use common::*;
use proptest::prelude::*;
use starling_kv::MemoryEngine;
use starling_rocks::{RocksEngine, RocksOptions};
use starling_strong::machine::{Command, Config, Cursor, Machine, Next};
use tempfile::TempDir;

fn open_rocks(dir: &TempDir) -> (RocksEngine, Machine<RocksEngine>) {
    let engine = RocksEngine::open(dir.path(), &RocksOptions::default()).expect("opens");
    (engine.clone(), Machine::open(engine, GROUP, Config::default()).expect("opens"))
}

fn command((index, planned): (u64, &Planned)) -> (u64, Option<Command>) {
    let Planned { id, fence, write } = planned.clone();
    (index, Some(Command::Write { id, fence, write }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_do_the_same(
        planned in prop::collection::vec(plans::planned(), 1..120),
        batch in 1usize..20,
        ranges in prop::collection::vec(plans::range(), 20),
    ) {
        let dir = TempDir::new().expect("a directory");
        let in_memory = MemoryEngine::new();
        let (mut memory, (_, mut rocks)) = (open(&in_memory), open_rocks(&dir));
        for (number, part) in planned.chunks(batch).enumerate() {
            let first = memory.applied() + 1;
            let entries = || (first..).zip(part).map(command).collect();
            prop_assert_eq!(memory.apply(0, entries()), rocks.apply(0, entries()));
            if number % 5 == 0 {
                prop_assert_eq!(memory.maintain(), rocks.maintain());
            }
        }
        for range in ranges {
            prop_assert_eq!(read(&memory, range.clone()), read(&rocks, range));
        }
        // A snapshot goes from one to the other.
        let snapshot = memory.snapshot().expect("begins");
        let mut restore = rocks.restore().expect("begins");
        let mut cursor = Cursor::default();
        while let Next::Chunk(next) =
            restore.push(&snapshot.chunk(&cursor, 300).expect("reads")).expect("takes it in")
        {
            cursor = next;
        }
        rocks.install(restore, Vec::new()).expect("installs");
        drop((rocks, snapshot));
        let (engine, mut rocks) = open_rocks(&dir);
        while memory.maintain().expect("maintains") {}
        while rocks.maintain().expect("maintains") {}
        prop_assert_eq!((rocks.hash(), rocks.bytes()), (memory.hash(), memory.bytes()));
        let rows = dump(&engine).into_iter().filter(|(_, key, _)| key.len() > 16);
        let without_generation = |(family, key, row): (&'static str, Vec<u8>, Vec<u8>)| (family, key[20..].to_vec(), row);
        let in_memory = dump(&in_memory).into_iter().filter(|(_, key, _)| key.len() > 16);
        prop_assert!(rows.map(without_generation).eq(in_memory.map(without_generation)));
    }
}
