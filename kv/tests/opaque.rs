//! Entries of a later version: of a data type, or with a layout of their bodies, that this version does not
//! know. They are kept and forwarded byte for byte, and not shown to clients.

mod common;

use bytes::Bytes;
use common::*;
use starling_kv::delta::decode;
use starling_kv::{MemoryEngine, Op, Range, Store};

/// Tag of a data type that no version has yet.
const UNKNOWN_TAG: u8 = 200;
/// What precedes the type in the place of key `k`.
const KEY_END: &[u8] = b"k\0\x01";

/// The first position of `part` in `whole`.
fn find(whole: &[u8], part: &[u8]) -> usize {
    whole.windows(part.len()).position(|window| window == part).expect("is in it")
}

/// A delta as a later version would write it: a register under `k`, changed by `change`, which is given the
/// position of the type; the body begins two bytes later.
fn later(change: impl Fn(&mut Vec<u8>, usize)) -> Bytes {
    let mut author = fresh(1);
    let mut delta = commit(&mut author, NOW, vec![put("k", "from the future")]).rumors.remove(0).1.to_vec();
    let at = find(&delta, KEY_END) + KEY_END.len();
    change(&mut delta, at);
    delta.into()
}

/// A later type, and a known type with a later layout of its body.
fn examples() -> [Bytes; 2] {
    [later(|delta, at| delta[at] = UNKNOWN_TAG), later(|delta, at| delta[at + 2] = 9)]
}

fn joined(delta: &[u8]) -> (MemoryEngine, Store<MemoryEngine>) {
    let engine = MemoryEngine::new();
    let mut store = open(engine.clone(), 2);
    assert!(store.join(NOW, delta).expect("is never refused").changed);
    (engine, store)
}

/// Place and body of the only entry.
fn entry(delta: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let decoded = decode(delta).expect("a delta");
    let [section] = &decoded.actors[..] else { panic!("one actor: {decoded:?}") };
    let [entry] = &section.entries[..] else { panic!("one entry: {decoded:?}") };
    (entry.place.clone(), entry.body.to_vec())
}

#[test]
fn they_are_forwarded_byte_for_byte_also_after_a_restart() {
    for delta in examples() {
        let (engine, store) = joined(&delta);
        assert_eq!(entry(&whole(&store)), entry(&delta));
        let root = store.root();
        drop(store);
        let store = open(engine, 3);
        assert_eq!(store.root(), root);
        let mut peer = fresh(4);
        peer.join(NOW, &whole(&store)).expect("joins");
        assert_eq!(entry(&whole(&peer)), entry(&delta));
        assert_eq!(peer.root(), root, "two nodes of the old version are equal");
        assert!(!peer.join(NOW, &delta).expect("joins").changed, "and hold what the author sent");
    }
}

#[test]
fn the_doctor_finds_nothing_wrong() {
    for delta in examples() {
        let (_, store) = joined(&delta);
        assert_sound(&store);
    }
}

#[test]
fn reads_leave_out_a_later_type_and_what_is_beside_it_is_read() {
    let [delta, _] = examples();
    let (_, mut store) = joined(&delta);
    let reader = store.reader();
    assert!(reader.read(NOW, "default", b"k", 10).expect("reads").is_none_or(|held| held.kinds().is_empty()));
    assert!(reader.register(NOW, "default", b"k").expect("reads").is_none());
    commit(&mut store, NOW, vec![put("j", "1"), put("k", "2"), put("l", "3")]);
    let page = store.reader().list(NOW, "default", &Range::default(), 10, 10).expect("reads");
    let keys: Vec<&[u8]> = page.items.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(keys, [b"j", b"k", b"l"]);
    assert_eq!(store.reader().register(NOW, "default", b"k").expect("reads").expect("is there").value, "2");
    let decoded = whole(&store);
    let decoded = decode(&decoded).expect("a delta");
    let places = decoded.actors.iter().flat_map(|section| &section.entries).map(|entry| &entry.place);
    let is_later = |place: &&Vec<u8>| place[find(place, KEY_END) + KEY_END.len()] == UNKNOWN_TAG;
    let of_k = places.filter(|place| place.windows(KEY_END.len()).any(|window| window == KEY_END));
    assert_eq!(of_k.filter(is_later).count(), 1, "a write of another type supersedes nothing of it");
}

#[test]
fn deleting_the_key_deletes_them_too() {
    for delta in examples() {
        let (_, mut store) = joined(&delta);
        let mut author = fresh(5);
        author.join(NOW, &delta).expect("joins");
        let rumor = commit(&mut store, NOW, vec![write("k", Op::Delete)]).rumors.remove(0).1;
        author.join(NOW, &rumor).expect("joins");
        for replica in [&store, &author] {
            assert!(state(replica).values().all(Option::is_none), "nothing is live");
        }
        assert_eq!(store.root(), author.root());
    }
}
