//! Keys of the authority that follow one another: nodes agree on them and on what they have signed, whoever meets whom first, and
//! a retired key has no say.

use std::convert::Infallible;

use proptest::collection::vec;
use proptest::prelude::*;
use starling_proto::NodeId;
use starling_proto::trust::{Claim, KEYS_MAX, Statement, Trust};

fn key(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn by(n: u8, serial: u64, claim: Claim) -> Statement {
    Statement { authority: key(n), serial, claim, signature: Vec::new() }
}

fn follows(old: u8, new: u8) -> Statement {
    by(old, 1, Claim::Successor { key: key(new), endorsement: Vec::new() })
}

fn retires(old: u8, signer: u8) -> Statement {
    by(signer, 1, Claim::Retired { key: key(old) })
}

fn issuer(n: u8, is_granted: bool) -> Claim {
    Claim::Issuer { node: NodeId([0x80 + n; 32]), addresses: Vec::new(), is_granted }
}

fn revoked(n: u8) -> Claim {
    Claim::Revoked { node: NodeId([0x80 + n; 32]) }
}

fn learn(trust: &mut Trust, statements: &[Statement]) {
    let Ok(_) = trust.learn_all(statements, |_| Ok::<_, Infallible>(()));
}

/// What a node has that has begun with this key.
fn after(anchor: u8, statements: &[Statement]) -> Trust {
    let mut trust = Trust::default();
    assert!(trust.adopt(key(anchor)));
    learn(&mut trust, statements);
    trust
}

fn all_of(trust: &Trust) -> Vec<Statement> {
    trust.statements().cloned().collect()
}

/// Key 1, from which 2 and 3 came, and 4, which came from 2: the others are retired by 2 and 4 only.
fn statements() -> impl Strategy<Value = Statement> {
    let chain = prop::sample::select(vec![
        follows(1, 2),
        follows(1, 3),
        follows(2, 4),
        retires(1, 2),
        retires(1, 4),
        retires(2, 4),
    ]);
    let claim = prop_oneof![
        Just(Claim::Required),
        (0..2_u8, any::<bool>()).prop_map(|(n, is_granted)| issuer(n, is_granted)),
        (0..2_u8).prop_map(revoked),
    ];
    let other = (1..5_u8, 0..3_u64, claim).prop_map(|(signer, serial, claim)| by(signer, serial, claim));
    prop_oneof![chain, other]
}

proptest! {
    /// Two nodes exchange all that they have, as in a handshake, until nothing is new.
    #[test]
    fn nodes_that_have_met_agree(mine in vec(statements(), 0..16), theirs in vec(statements(), 0..16)) {
        let (mut a, mut b) = (after(1, &mine), after(1, &theirs));
        for _ in 0..2 {
            learn(&mut b, &all_of(&a));
            learn(&mut a, &all_of(&b));
        }
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(a.digest(), b.digest());
    }

    /// Also in whatever order statements come, and where a node has begun with a later key.
    #[test]
    fn the_order_and_the_first_key_do_not_matter(all in vec(statements(), 0..16), order in any::<u64>()) {
        let all = [all, vec![follows(1, 2), follows(2, 4)]].concat();
        let one = after(1, &all);
        let mut other = all.clone();
        other.rotate_left(order as usize % all.len());
        other.reverse();
        let mut shuffled = after(1, &other);
        prop_assert_eq!(&shuffled, &one);
        let mut late = after(4, &all_of(&one));
        for _ in 0..2 {
            learn(&mut shuffled, &all_of(&late));
            learn(&mut late, &all_of(&shuffled));
        }
        prop_assert_eq!(&late, &shuffled);
        // The next start reads them in this order.
        let root = one.authority().expect("a key").0[0];
        prop_assert_eq!(after(root, &all_of(&one)), one);
    }
}

#[test]
fn both_keys_count_until_the_older_one_is_retired_and_the_word_of_the_later_one_counts_more() {
    let mut trust = after(1, &[by(1, 5, issuer(0, true)), by(1, 5, Claim::Required)]);
    assert!(!trust.learn(&by(2, 9, revoked(1))), "it is no key of the authority yet");
    assert!(trust.learn(&follows(1, 2)) && trust.learn(&by(2, 1, revoked(1))));
    assert!(trust.learn(&by(1, 6, revoked(2))), "the first one counts as well");
    let keys: Vec<_> = trust.keys().collect();
    assert_eq!(keys, [(key(1), None), (key(2), Some(key(1)))]);
    // Whatever the serial numbers are: a clock may be wrong.
    assert!(trust.learn(&by(2, 1, issuer(0, false))));
    assert!(!trust.learn(&by(1, 9, issuer(0, true))));
    assert_eq!(trust.issuers().count(), 0);

    assert!(!trust.learn(&retires(2, 1)), "an older key cannot retire a later one");
    assert!(trust.learn(&retires(1, 2)));
    assert_eq!(trust.authority(), Some(key(2)));
    assert!(!trust.is_required() && trust.is_revoked(&NodeId([0x81; 32])), "what it stated is gone");
    assert!(!trust.is_revoked(&NodeId([0x82; 32])), "all of it");
    assert!(!trust.learn(&by(1, 10, Claim::Required)));
    // Its tickets, and nodes that were away, still lead here.
    assert!(trust.is_known(&key(1)) && !trust.is_live(&key(1)));
    let mut away = after(1, &[by(1, 5, Claim::Required)]);
    learn(&mut away, &all_of(&trust));
    assert_eq!(away, trust);
}

#[test]
fn a_stolen_key_makes_no_other_one_once_it_is_retired() {
    let mut trust = after(1, &[follows(1, 2), retires(1, 2)]);
    learn(&mut trust, &[follows(1, 3), by(3, 9, revoked(0)), retires(1, 3), retires(2, 3)]);
    assert_eq!(trust, after(1, &[follows(1, 2), retires(1, 2)]));
    // A node that has met the thief first does not take the other nodes for its own, and they not it.
    let mut fooled = after(1, &[follows(1, 3), retires(1, 3)]);
    learn(&mut fooled, &all_of(&trust));
    assert!(!fooled.is_known(&key(2)) && !trust.is_known(&fooled.authority().expect("a key")));
}

#[test]
fn of_two_exchanges_at_once_both_count_until_one_of_them_retires_the_key() {
    let (near, far) = ([follows(1, 2), by(2, 1, revoked(0))], [follows(1, 3), by(3, 9, revoked(1))]);
    let mut trust = after(1, &[&near[..], &far].concat());
    assert_eq!(trust.keys().count(), 3);
    assert_eq!(trust.revoked().count(), 2);
    // Both state something about one subject: neither came from the other, and the later statement counts.
    learn(&mut trust, &[by(2, 3, issuer(2, true)), by(3, 4, issuer(2, false))]);
    assert_eq!(trust.issuers().count(), 0);
    // The remaining key states again what it wants to keep.
    learn(&mut trust, &[by(2, 1, revoked(1)), retires(1, 2)]);
    assert_eq!(trust.keys().collect::<Vec<_>>(), [(key(2), None)]);
    assert_eq!(trust.revoked().count(), 2);
    assert_eq!(trust.issuers().count(), 1, "the third key has no say any more");
}

#[test]
fn keys_are_bounded() {
    let mut trust = after(0, &[]);
    let taken = (1..=u8::MAX).filter(|n| trust.learn(&follows(0, *n))).count();
    assert_eq!(taken, KEYS_MAX);
    assert!(!trust.learn(&follows(1, 1)) && !trust.learn(&follows(1, 0)), "no key comes from itself");
}
