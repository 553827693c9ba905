//! The check of a replica's rows finds what reads of single keys may never meet.

mod common;

use common::*;
use starling_kv::engine::{Family, RowOp, View};
use starling_kv::{Engine, MemoryEngine};
use starling_strong::api::*;
use starling_strong::machine::inspect;

const LEASE: LeaseId = 7;

/// A replica with every kind of row: live keys, one of them with a lease, superseded and deleted ones.
fn full() -> MemoryEngine {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    write(&mut machine, Write::LeaseGrant { id: LEASE, ttl_ms: 60_000 }).expect("grants");
    for n in 0..20 {
        write(&mut machine, put(&format!("k{n}"), "one")).expect("puts");
        write(&mut machine, put(&format!("k{n}"), "two")).expect("puts");
    }
    write(&mut machine, put_leased("leased", "v", LEASE)).expect("puts");
    write(&mut machine, delete("k3")).expect("deletes");
    engine
}

fn problems(engine: &MemoryEngine) -> Vec<(&'static str, u64)> {
    inspect(&engine.view(), &GROUP).expect("reads").problems.into_iter().collect()
}

/// The first row key of a family, but for the state's.
fn first(engine: &MemoryEngine, family: Family, tag: Option<u8>) -> Vec<u8> {
    let rows = dump(engine);
    let of_family = rows.into_iter().filter(|(name, ..)| *name == family.name()).map(|(_, key, _)| key);
    let mut fits = of_family.filter(|key| key.len() > 20 && tag.is_none_or(|tag| key[20] == tag));
    fits.next().expect("there is one")
}

#[test]
fn rows_that_a_machine_has_written_are_sound() {
    let engine = full();
    assert_eq!(problems(&engine), []);
    let found = inspect(&engine.view(), &GROUP).expect("reads");
    // Twenty keys less one, and the one with the lease; a value superseded in each, and a deletion with its value.
    assert_eq!((found.keys, found.superseded), (20, 22));
    let mut machine = open(&engine);
    let revision = machine.revision();
    write(&mut machine, Write::Compact { revision }).expect("compacts");
    assert_eq!(problems(&engine), [], "while compacted rows wait for their removal");
    while machine.is_untidy() {
        machine.maintain().expect("maintains");
        assert_eq!(problems(&engine), []);
    }
    assert_eq!(inspect(&MemoryEngine::new().view(), &GROUP).expect("reads").keys, 0);
}

#[test]
fn each_kind_of_damage_is_named() {
    let size = "the rows do not add up to the keyspace's size";
    let cases = [
        (Family::StrongNow, None, true, "keys cannot be read"),
        (Family::StrongPast, None, true, "superseded records cannot be read"),
        (Family::StrongChanges, None, true, "lists of changes cannot be read"),
        (Family::StrongNow, None, false, size),
        (Family::StrongPast, None, false, size),
        (Family::StrongState, Some(b'k'), false, "keys are not among those of their lease"),
    ];
    for (family, tag, is_damaged, expected) in cases {
        let engine = full();
        let key = first(&engine, family, tag);
        let damaged = RowOp::Put(family, key.clone(), vec![0xff]);
        let op = if is_damaged { damaged } else { RowOp::Delete(family, key) };
        engine.write(vec![op]).expect("memory");
        let found = problems(&engine);
        assert!(found.contains(&(expected, 1)), "{family:?} {is_damaged}: {found:?}");
    }
    // A record of the future, as from another copy of the store.
    let engine = full();
    let (now, state) = (first(&engine, Family::StrongNow, None), GROUP.to_vec());
    let row = engine.view().get(Family::StrongNow, &now).expect("memory").expect("there");
    let early = MemoryEngine::new();
    write(&mut open(&early), put("k0", "v")).expect("puts");
    let early = early.view().get(Family::StrongState, &state).expect("memory").expect("a state");
    engine.write(vec![RowOp::Put(Family::StrongState, state, early)]).expect("memory");
    assert!(!row.is_empty());
    let found = problems(&engine);
    assert!(found.iter().any(|(what, count)| what.contains("later") && *count > 10), "{found:?}");
    // A key whose lease does not know it any more, and a lease whose key is gone.
    let engine = full();
    engine.write(vec![RowOp::Delete(Family::StrongNow, [&now[..20], b"leased"].concat())]).expect("memory");
    assert!(problems(&engine).contains(&("leases have keys that are not attached to them", 1)));
}
