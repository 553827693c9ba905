//! The work of one call is bounded, whatever the store holds: expiry, deletes, commits, listings.

mod common;

use common::*;
use starling_kv::engine::Family;
use starling_kv::store::Expired;
use starling_kv::{Batch, Change, MemoryEngine, Op, Outcome, Range, Store, Write};

fn key(number: usize) -> String {
    format!("k{number:05}")
}

/// A store with this many keys that expire a second after [`NOW`].
fn expiring(keys: usize) -> (MemoryEngine, Store<MemoryEngine>) {
    let engine = MemoryEngine::new();
    let mut store = open(engine.clone(), 1);
    assert_eq!(store.expired(NOW).expect("looks"), Expired::default());
    let writes = (0..keys).map(|number| Write { ttl_ms: Some(1_000), ..put(&key(number), "v") });
    commit(&mut store, NOW, writes.collect());
    (engine, store)
}

const KEYS: usize = 2_500;
/// After every key of [`expiring`] may be removed.
const GONE: u64 = NOW + 80_000;

#[test]
fn what_expires_is_reported_once_and_removed_in_bounded_portions() {
    let (engine, mut store) = expiring(KEYS);
    let mut reported: Vec<Change> = Vec::new();
    loop {
        engine.meter().take_read(Family::Ttl);
        let Expired { changes, more } = store.expired(NOW + 1_000).expect("looks");
        assert!(engine.meter().take_read(Family::Ttl) <= 1_002);
        reported.extend(changes);
        if !more {
            break;
        }
    }
    let expected: Vec<_> = (0..KEYS).map(|number| key(number).into_bytes()).collect();
    reported.sort();
    assert_eq!(reported.into_iter().map(|change| change.key).collect::<Vec<_>>(), expected);
    let mut portions = 0;
    loop {
        engine.meter().take_read(Family::Ttl);
        let Expired { changes, more } = store.expire(GONE).expect("sweeps");
        assert!(changes.is_empty() && engine.meter().take_read(Family::Ttl) <= 1_001);
        portions += 1;
        if !more {
            break;
        }
    }
    assert_eq!((portions, store.stats().entries), (3, 0));
    assert_sound(&store);
}

#[test]
fn a_removal_that_comes_from_a_peer_changes_no_key_that_had_expired() {
    let (_, mut store) = expiring(3);
    let mut other = fresh(2);
    other.join(NOW, &whole(&store)).expect("joins");
    store.expire(GONE).expect("sweeps");
    assert_eq!(other.expired(NOW).expect("looks"), Expired::default());
    assert_eq!(other.expired(NOW + 1_000).expect("looks").changes.len(), 3);
    let joined = other.join(GONE, &whole(&store)).expect("joins");
    assert!(joined.changed && joined.changes.is_empty(), "{joined:?}");
    assert_eq!(other.stats().entries, 0);
}

#[test]
fn a_step_back_of_the_clock_reports_again_what_expires_again() {
    let (_, mut store) = expiring(1);
    assert_eq!(store.expired(NOW + 5_000).expect("looks").changes.len(), 1);
    assert_eq!(store.expired(NOW).expect("looks"), Expired::default());
    assert_eq!(store.next_expiry_ms(), Some(NOW + 1_000));
    assert_eq!(store.expired(NOW + 1_000).expect("looks").changes.len(), 1);
}

#[test]
fn deletes_of_large_values_read_no_value() {
    let engine = MemoryEngine::new();
    let mut store = open(engine.clone(), 1);
    for number in 0..100 {
        commit(&mut store, NOW, vec![put(&key(number), &"v".repeat(100_000))]);
    }
    let mut peer = open(MemoryEngine::new(), 2);
    peer.join(NOW, &whole(&store)).expect("joins");
    let expires = Write { ttl_ms: Some(1_000), ..put("expires", &"v".repeat(100_000)) };
    commit(&mut store, NOW, vec![expires]);
    engine.meter().take_read(Family::Bodies);
    let deleted = commit(&mut store, NOW, vec![write("k", Op::DeletePrefix)]);
    assert_eq!(deleted.results[0].as_deref(), Ok(&[Outcome::Deleted { places: 100, more: false }][..]));
    store.expire(GONE).expect("sweeps");
    assert_eq!((engine.meter().take_read(Family::Bodies), store.stats().entries), (0, 0));
    peer.join(NOW, &deleted.rumors[0].1).expect("joins");
    assert_eq!(peer.stats().entries, 0);
    assert_sound(&store);
    assert_sound(&peer);
}

#[test]
fn a_commit_begins_no_batch_after_many_places() {
    let mut store = fresh(1);
    let batch = |from: usize| Batch { writes: (from..from + 4_000).map(|n| put(&key(n), "v")).collect() };
    let batches: Vec<Batch> = (0..5).map(|n| batch(n * 4_000)).collect();
    let committed = store.commit(NOW, batches.clone()).expect("works");
    assert_eq!((committed.results.len(), &committed.rest[..]), (3, &batches[3..]));
    let committed = store.commit(NOW, committed.rest).expect("works");
    assert_eq!((committed.results.len(), committed.rest.len()), (2, 0));
    assert_eq!(store.stats().entries, 20_000);
}

#[test]
fn a_listing_passes_a_bounded_number_of_hidden_keys() {
    let (engine, mut store) = expiring(KEYS);
    commit(&mut store, NOW, vec![put("z", "stays")]);
    let (reader, mut range) = (store.reader(), Range::default());
    let mut pages = 0;
    let found = loop {
        engine.meter().take_read(Family::Cells);
        let page = reader.list(NOW + 1_000, "default", &range, 1, 1).expect("lists");
        assert!(engine.meter().take_read(Family::Cells) <= 4_010);
        pages += 1;
        match (page.items.into_iter().next(), page.next) {
            (Some((key, _)), _) => break key,
            (None, next) => range.after = Some(next.expect("there is more")),
        }
    };
    assert_eq!((found, pages), (b"z".to_vec(), 3));
}
