//! Optimizations that would be wrong, each shown beside the rule that it breaks.

mod common;

use common::*;
use starling_kv::delta::decode;
use starling_kv::{DotRange, MemoryEngine, Op, Store};

/// Trap one: dropping a full rumor because its dots are known. A known dot may still bring news of
/// what it superseded.
#[test]
fn a_rumor_of_known_dots_is_joined_all_the_same() {
    let play = |filters: bool| {
        let (mut a, mut b, mut c) = (fresh(1), fresh(2), fresh(3));
        let first = commit(&mut a, NOW, vec![put("k", "first")]).rumors.remove(0);
        b.join(NOW, &first.1).expect("joins");
        let second = commit(&mut a, NOW, vec![put("k", "second")]).rumors.remove(0);
        // Repair brings C the second dot from A, then the first from B, who has not heard more.
        let (repair, _) = a.restrict(&[second.0], usize::MAX).expect("reads");
        c.join(NOW, &repair).expect("joins");
        let (repair, _) = b.restrict(&[first.0], usize::MAX).expect("reads");
        c.join(NOW, &repair).expect("joins");
        // Only now the second rumor arrives. It names no dot that is new.
        assert!(c.contains(&second.0));
        if !(filters && c.contains(&second.0)) {
            assert!(c.join(NOW, &second.1).expect("joins").changed);
        }
        (a.root(), c.root(), versions(&c))
    };
    let (a, c, versions) = play(true);
    assert_ne!(a, c, "the filter leaves a superseded version for ever");
    assert_eq!(versions, 2);
    let (a, c, versions) = play(false);
    assert_eq!(a, c);
    assert_eq!(versions, 1);
}

/// Trap two: refusing an entry while claiming its dot. A node with a slow clock that finds entries
/// "too far in the future" then empties its neighbours.
#[test]
fn an_entry_is_never_refused() {
    let slow = NOW - 3_600_000;
    let play = |refuses: bool| {
        let (mut a, mut b, mut c) = (fresh(1), fresh(2), fresh(3));
        let (range, delta) = commit(&mut a, NOW, vec![put("k", "v")]).rumors.remove(0);
        c.join(NOW, &delta).expect("joins");
        let taken = if refuses { claim_only(&delta) } else { delta.to_vec() };
        b.join(slow, &taken).expect("joins");
        assert_eq!(b.stats().future_timestamps, u64::from(!refuses), "counted, as every odd clock is");
        // Repair with the node of the slow clock.
        for peer in [&mut a, &mut c] {
            let (repair, _) = b.restrict(&[range], usize::MAX).expect("reads");
            peer.join(NOW, &repair).expect("joins");
        }
        [versions(&a), versions(&b), versions(&c)]
    };
    assert_eq!(play(true), [0, 0, 0], "one refusal deletes everywhere");
    assert_eq!(play(false), [1, 1, 1]);
}

fn versions(store: &Store<MemoryEngine>) -> usize {
    store.reader().register(NOW, "default", b"k").expect("reads").map_or(0, |read| 1 + read.siblings.len())
}

/// The delta with its claims and without its entries: what a replica that refused them would hold.
fn claim_only(delta: &[u8]) -> Vec<u8> {
    let decoded = decode(delta).expect("a delta");
    let mut bytes = vec![1, decoded.actors.len() as u8];
    for section in &decoded.actors {
        bytes.extend(section.actor.0);
        bytes.push(section.claimed.spans().len() as u8);
        let mut floor = 1;
        for &(first, last) in section.claimed.spans() {
            bytes.extend([(first - floor) as u8, (last - first) as u8]);
            floor = last + 2;
        }
        bytes.push(0);
    }
    assert_eq!(decode(&bytes).expect("a delta").actors[0].entries, []);
    bytes
}

/// A third: claiming a peer's whole context after exchanging with it. It has moved on meanwhile, and
/// what it learned in between would be deleted. A restriction claims what it carries and no more.
#[test]
fn a_restriction_claims_exactly_what_it_carries() {
    let mut a = fresh(1);
    for n in 0..10 {
        commit(&mut a, NOW, vec![put(&format!("k{n}"), "v")]);
    }
    commit(&mut a, NOW, vec![write("k4", Op::Delete)]);
    let actor = a.own_actor().expect("has written");
    let asked = [DotRange { actor, first: 3, last: 6 }, DotRange { actor, first: 11, last: 40 }];
    let (delta, rest) = a.restrict(&asked, usize::MAX).expect("reads");
    let delta = decode(&delta).expect("a delta");
    assert!(rest.is_empty());
    assert_eq!(delta.actors[0].claimed.spans(), [(3, 6), (11, 11)]);
    assert_eq!(delta.actors[0].entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3, 4, 6]);
}

/// A fourth: joining a part of a state that has the death of a version and not yet what replaced it. If the rest never
/// comes, the value is gone everywhere.
#[test]
fn a_death_waits_for_what_replaced_the_version() {
    let (mut a, mut b, mut c) = (fresh(1), fresh(2), fresh(3));
    let old = commit(&mut a, NOW, vec![put("k", "old"), put("other", "v")]).rumors;
    for store in [&mut b, &mut c] {
        store.join(NOW, &old[0].1).expect("joins");
    }
    let new = commit(&mut b, NOW + 1, vec![put("k", "new")]).rumors[0].0;
    let value = |store: &Store<MemoryEngine>, key: &str| {
        let found = store.reader().register(NOW, "default", key.as_bytes()).expect("reads");
        found.map(|register| register.value.to_vec())
    };

    let (part, _) = b.restrict(&[old[0].0], usize::MAX).expect("reads");
    let joined = a.join_part(NOW, &part, 10).expect("joins");
    let dead = DotRange { last: old[0].0.first, ..old[0].0 };
    assert_eq!((joined.withheld, value(&a, "k")), (vec![dead], Some(b"old".to_vec())));

    let part = b.restrict_to_live(&[new], usize::MAX).expect("reads");
    let joined = a.join_part(NOW, &part.delta, 10).expect("joins");
    assert_eq!((joined.suspects, value(&a, "k")), (vec![dead], Some(b"new".to_vec())));
    let suspects = b.dead_among(&[dead]).expect("reads");
    assert_eq!(a.join_part(NOW, &suspects, 10).expect("joins").withheld, []);
    assert_eq!(everything(&a), everything(&b));

    // A dot that was never seen and is dead is withheld as well, while there is room.
    let mut late = fresh(4);
    let (part, _) = b.restrict(&[old[0].0], usize::MAX).expect("reads");
    assert_eq!(late.join_part(NOW, &part, 10).expect("joins").withheld, [dead]);
    assert!(!late.contains(&dead) && value(&late, "other").is_some());
    assert_eq!(late.join_part(NOW, &part, 0).expect("joins").withheld, []);
    assert!(late.contains(&dead));
    // Without room a version that is live here stays all the same.
    assert_eq!(c.join_part(NOW, &part, 0).expect("joins").withheld, []);
    assert_eq!(value(&c, "k"), Some(b"old".to_vec()));
}
