//! Tests of one store, and of two stores that exchange their deltas.

use bytes::Bytes;

use super::*;
use starling_types::eventual::Data;

use crate::{Batch, Check, Field, Kind, MemoryEngine, Op, Range, Version, Write};

const NOW: u64 = 1_700_000_000_000;

fn store(seed: u8) -> Store<MemoryEngine> {
    let mut store = Store::open(MemoryEngine::new(), Options::default(), [seed; 32]).expect("opens");
    while store.maintain(NOW).expect("maintains") {}
    store
}

fn write(key: &str, op: Op) -> Write {
    Write { keyspace: "default".into(), key: key.into(), op, ttl_ms: None, check: None }
}

fn put(key: &str, value: &str) -> Write {
    write(key, Op::Put { value: Bytes::copy_from_slice(value.as_bytes()) })
}

fn commit(store: &mut Store<MemoryEngine>, writes: Vec<Write>) -> Committed {
    store.commit(NOW, vec![Batch { writes }]).expect("the engine works")
}

fn accepted(store: &mut Store<MemoryEngine>, writes: Vec<Write>) -> (Vec<Outcome>, Vec<(DotRange, Bytes)>) {
    let committed = commit(store, writes);
    let mut results = committed.results;
    (results.remove(0).expect("accepted"), committed.rumors)
}

fn deliver(from: &Committed, to: &mut Store<MemoryEngine>) -> Vec<Joined> {
    from.rumors.iter().map(|(_, delta)| to.join(NOW, delta).expect("joins")).collect()
}

fn value(store: &Store<MemoryEngine>, key: &str) -> Option<String> {
    let register = store.reader().register(NOW, "default", key.as_bytes()).expect("reads");
    register.map(|register| String::from_utf8_lossy(&register.value).into_owned())
}

fn sound(store: &Store<MemoryEngine>) {
    let report = store.doctor().expect("reads");
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn a_put_is_read_overwritten_and_deleted() {
    let mut a = store(1);
    accepted(&mut a, vec![put("k", "one")]);
    assert_eq!(value(&a, "k").as_deref(), Some("one"));
    accepted(&mut a, vec![put("k", "two")]);
    assert_eq!(value(&a, "k").as_deref(), Some("two"));
    let (outcomes, _) = accepted(&mut a, vec![write("k", Op::Delete)]);
    assert_eq!(outcomes, [Outcome::Deleted { places: 1, more: false }]);
    assert_eq!(value(&a, "k"), None);
    assert_eq!(a.stats().entries, 0);
    sound(&a);
}

#[test]
fn rumors_carry_every_write_and_deleted_keys_stay_deleted() {
    let (mut a, mut b) = (store(1), store(2));
    let first = commit(&mut a, vec![put("k", "one"), put("j", "x")]);
    let joined = deliver(&first, &mut b);
    assert!(joined[0].changed);
    assert_eq!(joined[0].entries, 2);
    assert_eq!(joined[0].changes.len(), 2);
    let gone = commit(&mut a, vec![write("k", Op::Delete)]);
    deliver(&gone, &mut b);
    assert!(!deliver(&first, &mut b)[0].changed, "old news");
    assert_eq!(value(&b, "k"), None);
    assert_eq!(a.root(), b.root());
    assert!(a.root().is_some());
    sound(&b);
}

#[test]
fn a_deletion_that_arrives_first_wins() {
    let (mut a, mut b) = (store(1), store(2));
    let first = commit(&mut a, vec![put("k", "one")]);
    let gone = commit(&mut a, vec![write("k", Op::Delete)]);
    deliver(&gone, &mut b);
    deliver(&first, &mut b);
    assert_eq!(value(&b, "k"), None);
    assert_eq!(a.root(), b.root());
}

#[test]
fn a_concurrent_write_supersedes_nothing_and_may_have_another_type() {
    let (mut a, mut b) = (store(1), store(2));
    let beside = |op| Write { check: Some(Check::Concurrent), ..write("k", op) };
    let large = "y".repeat(5000);
    deliver(&commit(&mut a, vec![put("k", &large)]), &mut b);
    let value = Op::Put { value: Bytes::from_static(b"x") };
    let restored =
        commit(&mut a, vec![beside(value), beside(Op::Incr { by: 7 }), beside(Op::Incr { by: 1 })]);
    assert!(restored.results.iter().all(Result::is_ok), "{:?}", restored.results);
    deliver(&restored, &mut b);
    for store in [&a, &b] {
        let register = store.reader().register(NOW, "default", b"k").expect("reads").expect("is there");
        assert_eq!(&register.value[..], b"x", "the latest is shown");
        assert_eq!(&register.siblings[0].value[..], large.as_bytes());
        assert_eq!(store.reader().counter(NOW, "default", b"k").expect("reads"), Some(8));
    }
    assert_eq!(a.root(), b.root());
    let refused = commit(&mut a, vec![beside(Op::Delete)]).results;
    assert_eq!(refused, [Err(WriteError::CheckUnsupported)]);
}

#[test]
fn concurrent_puts_are_siblings_until_somebody_supersedes_them() {
    let (mut a, mut b) = (store(1), store(2));
    let from_a = commit(&mut a, vec![put("k", "a")]);
    let from_b = commit(&mut b, vec![put("k", "b")]);
    deliver(&from_b, &mut a);
    assert_eq!(deliver(&from_a, &mut b)[0].suspects, [], "nobody wrote later");
    let read = |store: &Store<MemoryEngine>| {
        store.reader().register(NOW, "default", b"k").expect("reads").expect("is there")
    };
    assert_eq!(read(&a), read(&b));
    assert_eq!(read(&a).siblings.len(), 1);
    let wrong = Write { check: Some(Check::Absent), ..put("k", "c") };
    let refused = commit(&mut a, vec![put("other", "x"), wrong]);
    assert_eq!(
        refused.results,
        [Err(WriteError::VersionMismatch { index: 1, expected: None, found: Some(read(&a).version) })]
    );
    assert_eq!(value(&a, "other"), None, "a batch is refused as a whole");
    assert!(refused.rumors.is_empty());
    let right = Write { check: Some(Check::Version(read(&a).version)), ..put("k", "c") };
    let merged = commit(&mut a, vec![right]);
    deliver(&merged, &mut b);
    assert_eq!(read(&b).siblings, []);
    assert_eq!(value(&b, "k").as_deref(), Some("c"));
    assert_eq!(a.root(), b.root());
}

#[test]
fn versions_are_the_same_everywhere() {
    let (mut a, mut b) = (store(1), store(2));
    let committed = commit(&mut a, vec![put("k", "a")]);
    deliver(&committed, &mut b);
    let read = b.reader().register(NOW, "default", b"k").expect("reads").expect("is there");
    let outcome = committed.results[0].as_ref().expect("accepted")[0];
    assert_eq!(outcome, Outcome::Put { version: read.version });
    assert_eq!(read.version.to_string().parse::<Version>(), Ok(read.version));
}

#[test]
fn sets_maps_flags_and_counters() {
    let mut a = store(1);
    let names =
        |names: &[&str]| names.iter().map(|n| Bytes::copy_from_slice(n.as_bytes())).collect::<Vec<_>>();
    let (outcomes, _) = accepted(
        &mut a,
        vec![
            write("s", Op::SetAdd { members: names(&["x", "y", "z"]) }),
            write("s", Op::SetAdd { members: names(&["x", "w"]) }),
            write("s", Op::SetRemove { members: names(&["y", "nothing", "y"]) }),
            write("m", Op::MapPut { fields: vec![Field::new("f", "1"), Field::new("g", "2")] }),
            write("m", Op::MapDelete { names: names(&["g"]) }),
            write("c", Op::Incr { by: 5 }),
            write("c", Op::Incr { by: -7 }),
            write("on", Op::Flag { enabled: true }),
            write("off", Op::Flag { enabled: false }),
        ],
    );
    let changed = |fields| Outcome::Changed { fields };
    assert_eq!(outcomes[..5], [changed(3), changed(1), changed(1), changed(2), changed(1)]);
    assert_eq!(outcomes[5..7], [Outcome::Counter { value: 5 }, Outcome::Counter { value: -2 }]);
    let reader = a.reader();
    let members = reader.set_members(NOW, "default", b"s", None, 10).expect("reads");
    assert_eq!(members.items, names(&["w", "x", "z"]));
    let page = reader.set_members(NOW, "default", b"s", Some(b"w"), 1).expect("reads");
    assert_eq!((page.items, page.more), (names(&["x"]), true));
    assert!(reader.set_contains(NOW, "default", b"s", b"x").expect("reads"));
    assert!(!reader.set_contains(NOW, "default", b"s", b"y").expect("reads"));
    let map = reader.map_entries(NOW, "default", b"m", None, 10).expect("reads");
    assert_eq!(map.items.len(), 1);
    assert_eq!(map.items[0].1.value, "1");
    assert!(reader.map_get(NOW, "default", b"m", b"g").expect("reads").is_none());
    assert_eq!(reader.counter(NOW, "default", b"c").expect("reads"), Some(-2));
    assert!(reader.flag(NOW, "default", b"on").expect("reads"));
    assert!(!reader.flag(NOW, "default", b"off").expect("reads"));
    let page = reader.list(NOW, "default", &Range::default(), 10, 1).expect("lists");
    let kinds: Vec<_> = page.items.iter().map(|(key, held)| (&key[..], held.kinds())).collect();
    assert_eq!(
        kinds,
        [
            (&b"c"[..], vec![Kind::Counter]),
            (b"m", vec![Kind::Map]),
            (b"on", vec![Kind::Flag]),
            (b"s", vec![Kind::Set])
        ]
    );
    assert!(
        matches!(&page.items[3].1.data[..], [Data::Set(set)] if set.next.is_some() && set.members.len() == 1)
    );
    sound(&a);
}

#[test]
fn counters_add_up_over_actors_and_restarts() {
    let (mut a, mut b) = (store(1), store(2));
    let from_a = commit(&mut a, vec![write("c", Op::Incr { by: 5 })]);
    let from_b = commit(&mut b, vec![write("c", Op::Incr { by: 10 })]);
    deliver(&from_b, &mut a);
    deliver(&from_a, &mut b);
    let (outcomes, _) = accepted(&mut a, vec![write("c", Op::Incr { by: 1 })]);
    assert_eq!(outcomes, [Outcome::Counter { value: 16 }]);
    let mut again = Store::open(a.engine.clone(), Options::default(), [3; 32]).expect("opens");
    let (outcomes, _) = accepted(&mut again, vec![write("c", Op::Incr { by: 1 })]);
    assert_eq!(outcomes, [Outcome::Counter { value: 17 }]);
    assert_ne!(again.own_actor(), a.own_actor());
}

#[test]
fn adding_wins_over_a_concurrent_removal() {
    let (mut a, mut b) = (store(1), store(2));
    let added = commit(
        &mut a,
        vec![write("s", Op::SetAdd { members: vec!["x".into()] }), write("f", Op::Flag { enabled: true })],
    );
    deliver(&added, &mut b);
    let again = commit(
        &mut a,
        vec![write("s", Op::SetAdd { members: vec!["x".into()] }), write("f", Op::Flag { enabled: true })],
    );
    let gone = commit(
        &mut b,
        vec![
            write("s", Op::SetRemove { members: vec!["x".into()] }),
            write("f", Op::Flag { enabled: false }),
        ],
    );
    deliver(&gone, &mut a);
    deliver(&again, &mut b);
    for store in [&a, &b] {
        assert!(store.reader().set_contains(NOW, "default", b"s", b"x").expect("reads"));
        assert!(store.reader().flag(NOW, "default", b"f").expect("reads"));
    }
    assert_eq!(a.root(), b.root());
}

#[test]
fn the_door_refuses_what_the_limits_say() {
    let mut a = store(1);
    let limits = Limits::default();
    let long = Bytes::from(vec![0; limits.value_bytes_max + 1]);
    let cases = [
        (Write { keyspace: "No".into(), ..put("k", "v") }, WriteError::InvalidKeyspace { name: "No".into() }),
        (put("", "v"), WriteError::KeyEmpty),
        (put(&"k".repeat(5000), "v"), WriteError::KeyTooLong { size: 5000, max: 4096 }),
        (
            write("k", Op::Put { value: long.clone() }),
            WriteError::ValueTooLarge { size: long.len(), max: 1 << 20 },
        ),
        (
            write("k", Op::SetAdd { members: vec![Bytes::from(vec![1; 4097])] }),
            WriteError::FieldTooLong { size: 4097, max: 4096 },
        ),
        (
            Write { check: Some(Check::Absent), ..write("k", Op::Incr { by: 1 }) },
            WriteError::CheckUnsupported,
        ),
    ];
    for (write, error) in cases {
        assert_eq!(commit(&mut a, vec![put("fine", "v"), write]).results, [Err(error)]);
    }
    let large = write("k", Op::Put { value: Bytes::from(vec![0; 1 << 20]) });
    let results = commit(&mut a, vec![large.clone(), large]).results;
    assert!(matches!(results[0], Err(WriteError::BatchTooLarge { .. })));
    assert_eq!(a.stats().entries, 0);
    assert_eq!(a.own_actor(), None, "nothing was minted");
    accepted(&mut a, vec![put("k", "v")]);
    let refused = commit(&mut a, vec![write("k", Op::Incr { by: 1 })]).results;
    let mismatch =
        WriteError::TypeMismatch { key: b"k".to_vec(), holds: Kind::Register, wanted: Kind::Counter };
    assert_eq!(refused, [Err(mismatch)]);
    accepted(&mut a, vec![write("k", Op::Delete), write("k", Op::Incr { by: 1 })]);
}

#[test]
fn a_commit_takes_some_batches_and_refuses_others() {
    let mut a = store(1);
    let batch = |writes| Batch { writes };
    let committed = a
        .commit(
            NOW,
            vec![batch(vec![put("x", "1")]), batch(vec![put("", "")]), batch(vec![write("x", Op::Delete)])],
        )
        .expect("the engine works");
    assert!(committed.results[0].is_ok() && committed.results[1].is_err() && committed.results[2].is_ok());
    assert_eq!(committed.rumors.len(), 1);
    assert_eq!((committed.rumors[0].0.first, committed.rumors[0].0.last), (1, 2));
    let mut b = store(2);
    deliver(&committed, &mut b);
    assert_eq!(value(&b, "x"), None);
    assert_eq!(a.root(), b.root());
}

#[test]
fn prefixes_are_deleted_in_chunks() {
    let limits = Limits { delete_places_max: 3, ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    let mut a = Store::open(MemoryEngine::new(), options, [1; 32]).expect("opens");
    for key in ["p1", "p2", "p3", "p4", "q"] {
        accepted(&mut a, vec![put(key, "v")]);
    }
    let delete = || write("p", Op::DeletePrefix);
    let deleted = |places, more| Outcome::Deleted { places, more };
    let (outcomes, _) = accepted(&mut a, vec![delete(), delete()]);
    assert_eq!(outcomes, [deleted(3, true), deleted(0, true)], "the limit is that of the batch");
    assert_eq!(accepted(&mut a, vec![delete(), delete()]).0, [deleted(1, false), deleted(0, false)]);
    assert_eq!(value(&a, "q").as_deref(), Some("v"));
    sound(&a);
}

#[test]
fn large_values_live_beside_their_siblings() {
    let (mut a, mut b) = (store(1), store(2));
    let large = |byte| write("k", Op::Put { value: Bytes::from(vec![byte; 100_000]) });
    let from_a = commit(&mut a, vec![large(1)]);
    let from_b = commit(&mut b, vec![large(2)]);
    deliver(&from_b, &mut a);
    deliver(&from_a, &mut b);
    let read = a.reader().register(NOW, "default", b"k").expect("reads").expect("is there");
    assert_eq!(read.siblings.len(), 1);
    assert_eq!(read.value.len() + read.siblings[0].value.len(), 200_000);
    assert_eq!(a.root(), b.root());
    sound(&a);
    let gone = commit(&mut a, vec![write("k", Op::Delete)]);
    deliver(&gone, &mut b);
    sound(&a);
    sound(&b);
}

#[test]
fn what_expires_is_hidden_then_removed() {
    let mut a = store(1);
    let short = |key| Write { ttl_ms: Some(1_000), ..put(key, "v") };
    let committed = commit(&mut a, vec![short("k"), short("j")]);
    accepted(&mut a, vec![put("j", "stays")]);
    let at = |store: &Store<MemoryEngine>, wall_ms| {
        store.reader().register(wall_ms, "default", b"k").expect("reads").is_some()
    };
    assert!(at(&a, NOW + 999));
    assert!(!at(&a, NOW + 1_000));
    let absent = Write { check: Some(Check::Absent), ..put("k", "w") };
    assert_eq!(a.expired(NOW).expect("looks"), Expired::default());
    assert_eq!(a.next_expiry_ms(), Some(NOW + 1_000));
    assert_eq!(a.expired(NOW + 999).expect("looks"), Expired::default());
    let k = Change { keyspace: "default".into(), key: b"k".to_vec() };
    assert_eq!(a.expired(NOW + 1_000).expect("looks").changes, [k]);
    assert_eq!((a.expired(NOW + 5_000).expect("looks"), a.next_expiry_ms()), (Expired::default(), None));
    a.expire(NOW + 61_000).expect("sweeps");
    assert_eq!(a.stats().expired, 0, "not before the aligned step");
    let mut late = store(2);
    deliver(&committed, &mut late);
    let removed = a.expire(NOW + 72_000).expect("sweeps");
    assert_eq!((removed, a.stats().expired), (Expired::default(), 1), "no key changes a second time");
    sound(&a);
    assert!(!deliver(&committed, &mut a)[0].changed, "it does not come back");
    assert!(a.commit(NOW + 72_000, vec![Batch { writes: vec![absent] }]).expect("works").results[0].is_ok());
}

#[test]
fn restrictions_carry_what_was_asked_and_name_the_rest() {
    let (mut a, mut b) = (store(1), store(2));
    for index in 0..300 {
        accepted(&mut a, vec![put(&format!("k{}", index % 250), &format!("{index}"))]);
    }
    let actor = a.own_actor().expect("has written");
    let mut ranges = vec![DotRange { actor, first: 1, last: 1_000 }];
    let mut rounds = 0;
    while !ranges.is_empty() {
        let (delta, rest) = a.restrict(&ranges, 2_000).expect("reads");
        assert!(delta.len() < 3_000);
        b.join(NOW, &delta).expect("joins");
        ranges = rest;
        rounds += 1;
    }
    assert!(rounds > 3);
    assert_eq!(a.root(), b.root());
    assert_eq!(
        b.missing(&[DotRange { actor, first: 299, last: 302 }]),
        [DotRange { actor, first: 301, last: 302 }]
    );
    assert!(b.contains(&DotRange { actor, first: 1, last: 300 }));
    let gone = commit(&mut a, vec![write("k7", Op::Delete)]);
    let dead = a.dead_among(&[DotRange { actor, first: 1, last: 301 }]).expect("reads");
    assert!(b.join(NOW, &dead).expect("joins").changed);
    assert_eq!(a.root(), b.root());
    assert!(!deliver(&gone, &mut b)[0].changed);
    sound(&b);
}

#[test]
fn the_tree_finds_what_differs() {
    let (mut a, mut b) = (store(1), store(2));
    for index in 0..200 {
        deliver(&commit(&mut a, vec![put(&format!("k{index}"), "v")]), &mut b);
    }
    let actor = a.own_actor().expect("has written");
    let hashes =
        |store: &Store<MemoryEngine>, limit| store.child_hashes(actor, limit, 1, 0, 7).expect("reads");
    assert_eq!(a.actors(7), b.actors(7));
    assert_eq!(a.group_hashes(7), b.group_hashes(7));
    assert_eq!(hashes(&a, 200), hashes(&b, 200));
    assert_eq!(hashes(&a, 200).len(), 4);
    commit(&mut a, vec![write("k70", Op::Delete)]);
    let differ: Vec<_> =
        hashes(&a, 200).iter().zip(hashes(&b, 200)).map(|(ours, theirs)| *ours != theirs).collect();
    assert_eq!(differ, [false, true, false, false]);
    let (ours, theirs) = (a.leaf(actor, 200, 1, 7).expect("reads"), b.leaf(actor, 200, 1, 7).expect("reads"));
    assert_eq!(ours.seen, theirs.seen);
    assert_eq!(ours.live ^ theirs.live, 1 << (71 - 64));
    assert_eq!(theirs.hashes.len(), 64);
    // A limit in the middle of a bucket compares only what is below it.
    assert_eq!(hashes(&a, 70), hashes(&b, 70));
    assert_ne!(hashes(&a, 71), hashes(&b, 71));
    assert!(a.child_hashes(actor, u64::MAX, 200, u64::MAX, 7).expect("reads").is_empty());
}

#[test]
fn fingerprints_survive_restarts_with_and_without_checkpoint() {
    let mut a = store(1);
    for index in 0..500 {
        accepted(&mut a, vec![put(&format!("k{}", index % 400), "v")]);
    }
    let root = a.root().expect("complete");
    let crashed = Store::open(a.engine.copy(), Options::default(), [2; 32]).expect("opens");
    assert_eq!(crashed.root(), None, "they are being rebuilt");
    let mut crashed = crashed;
    // Writes continue meanwhile, before and after the rebuild's position.
    let during = commit(&mut crashed, vec![put("k1", "w"), put("new", "w")]);
    while crashed.maintain(NOW).expect("maintains") {}
    sound(&crashed);
    deliver(&during, &mut a);
    assert_eq!(crashed.root(), a.root());
    assert_ne!(Some(root), a.root());
    a.checkpoint().expect("writes");
    let clean = Store::open(a.engine.copy(), Options::default(), [3; 32]).expect("opens");
    assert_eq!(clean.root(), a.root());
    sound(&clean);
}

#[test]
fn a_foreign_dot_of_our_own_actor_makes_us_take_a_new_one() {
    let mut a = store(1);
    accepted(&mut a, vec![put("k", "v")]);
    let actor = a.own_actor();
    // The same seed after the same start stands for a machine rolled back with its memory.
    let mut twin = store(1);
    let first = commit(&mut twin, vec![put("k", "other")]);
    let second = commit(&mut twin, vec![put("j", "ahead")]);
    assert_eq!(twin.own_actor(), actor);
    deliver(&second, &mut a);
    assert_eq!((a.own_actor(), a.stats().actor_rotations), (None, 1));
    deliver(&first, &mut a);
    assert_eq!(a.stats().equivocations, 1);
    let everything = [DotRange { actor: actor.expect("has written"), first: 1, last: 9 }];
    let (delta, _) = a.restrict(&everything, 1 << 20).expect("reads");
    twin.join(NOW, &delta).expect("joins");
    assert_eq!(a.root(), twin.root(), "the larger hash wins on both");
    assert_eq!(a.doctor().expect("reads").equivocations, 1);
    sound(&a);
    sound(&twin);
}

#[test]
fn other_networks_and_formats_are_refused() {
    let engine = MemoryEngine::new();
    let of = |network| Options { network: Some([network; 16]), ..Options::default() };
    Store::open(engine.clone(), of(1), [1; 32]).expect("opens");
    Store::open(engine.clone(), of(1), [1; 32]).expect("opens again");
    assert_eq!(Store::open(engine.clone(), of(2), [1; 32]).err(), Some(Error::OtherNetwork));
    let newer = crate::engine::RowOp::Put(crate::engine::Family::Meta, b"format".to_vec(), vec![0, 0, 0, 9]);
    engine.write(vec![newer]).expect("writes");
    assert_eq!(Store::open(engine, of(1), [1; 32]).err(), Some(Error::Format { found: 9, supported: 1 }));
}

#[test]
fn pages_of_keys_join_up() {
    let mut a = store(1);
    let keys = ["a", "a\0", "a\0b", "ab", "b", "c"];
    for key in keys {
        accepted(&mut a, vec![put(key, "v")]);
    }
    let reader = a.reader();
    let list = |range: Range, limit| {
        let page = reader.list(NOW, "default", &range, limit, 0).expect("lists");
        (page.items.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), page.next)
    };
    let mut seen = Vec::new();
    let mut range = Range::default();
    loop {
        let (mut keys, next) = list(range.clone(), 2);
        seen.append(&mut keys);
        match next {
            Some(next) => range.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, keys.map(|key| key.as_bytes().to_vec()));
    let prefix = Range { prefix: b"a\0".to_vec(), ..Range::default() };
    assert_eq!(list(prefix, 9).0, [b"a\0".to_vec(), b"a\0b".to_vec()]);
    let between = Range { start: Some(b"a\0".to_vec()), end: Some(b"ab".to_vec()), ..Range::default() };
    assert_eq!(list(between, 9).0, [b"a\0".to_vec(), b"a\0b".to_vec()]);
    accepted(&mut a, vec![Write { keyspace: "x".into(), ..put("k", "v") }]);
    assert_eq!(reader.keyspaces().expect("reads"), ["x", "default"]);
    assert!(reader.keyspace_exists("x").expect("reads"));
    assert!(!reader.keyspace_exists("y").expect("reads"));
}

#[test]
fn large_commits_become_several_rumors_and_no_batch_is_split() {
    let mut a = store(1);
    let batch = |index| Batch {
        writes: (0..10)
            .map(|n| write(&format!("{index}/{n}"), Op::Put { value: Bytes::from(vec![7; 5_000]) }))
            .collect(),
    };
    let committed = a.commit(NOW, (0..20).map(batch).collect()).expect("works");
    assert!(committed.rumors.len() > 3);
    let mut next = 1;
    for (range, delta) in &committed.rumors {
        assert_eq!(range.first, next);
        assert_eq!((range.last + 1 - range.first) % 10, 0);
        assert!(delta.len() <= RUMOR_BYTES);
        next = range.last + 1;
    }
    assert_eq!(next, 201);
    let mut b = store(2);
    for (_, delta) in committed.rumors.iter().rev() {
        b.join(NOW, delta).expect("joins");
    }
    assert_eq!(a.root(), b.root());
}
