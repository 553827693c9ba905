//! Recovery from faults of machines: power loss, copied and restored directories, wrong clocks.

mod common;

use common::*;
use starling_kv::{DotRange, MemoryEngine, Store};

fn value(store: &Store<MemoryEngine>, wall_ms: u64, key: &str) -> Option<String> {
    let read = store.reader().register(wall_ms, "default", key.as_bytes()).expect("reads");
    read.map(|read| String::from_utf8_lossy(&read.value).into_owned())
}

fn sync(from: &Store<MemoryEngine>, to: &mut Store<MemoryEngine>) {
    to.join(NOW, &whole(from)).expect("joins");
}

#[test]
fn what_a_crash_lost_comes_back_from_a_peer() {
    let engine = MemoryEngine::new();
    let (mut a, mut b) = (open(engine.clone(), 1), fresh(2));
    commit(&mut a, NOW, vec![put("kept", "1")]);
    let synced = engine.copy();
    for (_, delta) in commit(&mut a, NOW, vec![put("kept", "2"), put("lost", "3")]).rumors {
        b.join(NOW, &delta).expect("joins");
    }
    let former = a.own_actor();
    drop(a);
    let mut a = open(synced, 3);
    assert_eq!(value(&a, NOW, "lost"), None);
    // It writes before it hears of its own lost past: under a fresh name, so no dot is minted twice.
    commit(&mut a, NOW, vec![put("kept", "after the crash")]);
    assert_ne!(a.own_actor(), former);
    sync(&b, &mut a);
    sync(&a, &mut b);
    assert_eq!(value(&a, NOW, "lost").as_deref(), Some("3"));
    let read = a.reader().register(NOW, "default", b"kept").expect("reads").expect("is there");
    assert_eq!(read.siblings.len(), 1, "concurrent with what was lost, so both are kept");
    assert_eq!(a.root(), b.root());
    assert_eq!((a.stats().equivocations, a.stats().actor_rotations), (0, 0));
    assert_sound(&a);
}

#[test]
fn a_copied_directory_started_twice_never_mints_a_dot_twice() {
    let engine = MemoryEngine::new();
    let mut original = open(engine.clone(), 1);
    commit(&mut original, NOW, vec![put("k", "before")]);
    drop(original);
    let (mut one, mut two) = (open(engine.copy(), 2), open(engine.copy(), 3));
    commit(&mut one, NOW, vec![put("k", "one")]);
    commit(&mut two, NOW, vec![put("k", "two")]);
    sync(&one, &mut two);
    sync(&two, &mut one);
    assert_eq!(one.root(), two.root());
    let read = one.reader().register(NOW, "default", b"k").expect("reads").expect("is there");
    assert_eq!(read.siblings.len(), 1);
    assert_eq!(one.stats().equivocations + two.stats().equivocations, 0);
}

#[test]
fn a_restored_backup_brings_nothing_deleted_back() {
    let engine = MemoryEngine::new();
    let (mut a, mut b) = (open(engine.clone(), 1), fresh(2));
    commit(&mut a, NOW, vec![put("k", "v")]);
    sync(&a, &mut b);
    let backup = engine.copy();
    for (_, delta) in commit(&mut a, NOW, vec![write("k", starling_kv::Op::Delete)]).rumors {
        b.join(NOW, &delta).expect("joins");
    }
    drop(a);
    let mut restored = open(backup, 3);
    assert_eq!(value(&restored, NOW, "k").as_deref(), Some("v"));
    sync(&restored, &mut b);
    assert_eq!(value(&b, NOW, "k"), None);
    sync(&b, &mut restored);
    assert_eq!(value(&restored, NOW, "k"), None);
    assert_eq!(restored.root(), b.root());
}

#[test]
fn a_clock_far_ahead_is_joined_counted_and_not_followed() {
    let (mut ahead, mut b) = (fresh(1), fresh(2));
    let year = 365 * 24 * 3_600_000;
    let future = commit(&mut ahead, NOW + year, vec![put("k", "future")]);
    b.join(NOW, &future.rumors[0].1).expect("joins");
    assert_eq!(b.stats().future_timestamps, 1);
    assert_eq!(value(&b, NOW, "k").as_deref(), Some("future"));
    commit(&mut b, NOW, vec![put("k", "now"), put("j", "now")]);
    let read = b.reader().register(NOW, "default", b"j").expect("reads").expect("is there");
    assert_eq!(read.written.wall_ms(), NOW, "the clock did not follow");
    // A write that has seen the other supersedes it, whatever the timestamps say.
    assert_eq!(value(&b, NOW, "k").as_deref(), Some("now"));
}

#[test]
fn a_clock_that_falls_back_still_orders_its_own_writes() {
    let mut a = fresh(1);
    let times = [NOW, NOW - 5_000, NOW - 10_000];
    for (index, wall_ms) in times.into_iter().enumerate() {
        commit(&mut a, wall_ms, vec![put(&format!("k{index}"), "v")]);
    }
    let written = |key: &str| {
        a.reader().register(NOW, "default", key.as_bytes()).expect("reads").expect("is there").written
    };
    assert!(written("k0") < written("k1") && written("k1") < written("k2"));
}

#[test]
fn expired_entries_go_at_the_same_step_everywhere_and_do_not_return() {
    let (mut a, mut b, mut late) = (fresh(1), fresh(2), fresh(3));
    let session = starling_kv::Write { ttl_ms: Some(5_000), ..put("session", "v") };
    let told = commit(&mut a, NOW, vec![session]).rumors.remove(0).1;
    b.join(NOW, &told).expect("joins");
    // Within one step the moment of the sweep does not matter.
    let step = (NOW + 5_000 + 60_000) / 10_000 * 10_000 + 10_000;
    a.expire(step).expect("sweeps");
    b.expire(step + 9_999).expect("sweeps");
    assert_eq!(a.root(), b.root());
    assert_eq!(a.stats().entries, 0);
    // One that was away receives it late, hides it at once, and drops it when it hears of the others.
    late.join(step, &told).expect("joins");
    assert_eq!(value(&late, step, "session"), None);
    late.join(step, &whole(&a)).expect("joins");
    assert_eq!(late.root(), a.root());
    a.join(step, &told).expect("joins");
    assert_eq!(late.root(), a.root());
}

#[test]
fn a_rolled_back_machine_is_found_by_content_and_settled_everywhere() {
    // The same seed twice stands for a machine rolled back with its memory.
    let (mut once, mut again, mut peer) = (fresh(7), fresh(7), fresh(8));
    commit(&mut once, NOW, vec![put("k", "once"), put("same", "x")]);
    commit(&mut again, NOW, vec![put("k", "again"), put("same", "x")]);
    assert_eq!(once.own_actor(), again.own_actor());
    sync(&once, &mut peer);
    sync(&again, &mut peer);
    let actor = once.own_actor().expect("has written");
    assert!(peer.contains(&DotRange { actor, first: 1, last: 2 }));
    assert_eq!(peer.stats().equivocations, 1, "one dot has two contents, the other has one");
    for store in [&mut once, &mut again] {
        sync(&peer, store);
        assert_eq!(store.root(), peer.root());
        assert_sound(store);
    }
    assert_eq!(peer.doctor().expect("reads").equivocations, 1);
}

#[test]
fn two_copies_of_one_memory_part_at_the_first_write_that_they_exchange() {
    // Both have drawn their actor before the copy was made, so the same seed and instant stand for it.
    let (mut one, mut two) = (fresh(7), fresh(7));
    for store in [&mut one, &mut two] {
        commit(store, NOW, vec![put("before", "the copy")]);
    }
    assert_eq!(one.own_actor(), two.own_actor());
    for round in 0..20_u64 {
        commit(&mut one, NOW + 2 * round, vec![put(&format!("one{round}"), "v")]);
        commit(&mut two, NOW + 2 * round + 1, vec![put(&format!("two{round}"), "v")]);
        sync(&one, &mut two);
        sync(&two, &mut one);
        assert_eq!(one.root(), two.root());
    }
    assert_ne!(one.own_actor(), two.own_actor());
    // One dot of two contents is found and counted; every write after it stays.
    assert_eq!((one.doctor().expect("reads").equivocations, one.stats().entries), (1, 1 + 2 * 20 - 1));
    assert_sound(&one);
}

/// A restart loses the clock that joins had advanced; superseded versions advance it again.
#[test]
fn a_write_after_a_restart_is_later_than_what_it_supersedes() {
    let engine = MemoryEngine::new();
    let (mut a, mut ahead) = (open(engine.clone(), 1), fresh(2));
    for (_, delta) in commit(&mut ahead, NOW + 5_000, vec![put("k", "by a clock that is ahead")]).rumors {
        a.join(NOW, &delta).expect("joins");
    }
    drop(a);
    let mut a = open(engine, 3);
    let before = a.reader().register(NOW, "default", b"k").expect("reads").expect("is there");
    commit(&mut a, NOW, vec![put("k", "after the restart")]);
    let after = a.reader().register(NOW, "default", b"k").expect("reads").expect("is there");
    assert!(after.written > before.written, "{} is not later than {}", after.written, before.written);
}
