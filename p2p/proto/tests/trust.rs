//! The authority's statements converge whatever the order in which nodes receive them, and decide who is a member.

use proptest::collection::vec;
use proptest::prelude::*;
use starling_proto::trust::{Certificate, Claim, Invitation, Rejection, STATEMENTS_MAX, Statement, Trust};
use starling_proto::{NodeId, Role};

const AUTHORITY: NodeId = NodeId([0xaa; 32]);

fn node(n: u16) -> NodeId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    NodeId(id)
}

fn statement(serial: u64, claim: Claim) -> Statement {
    Statement { authority: AUTHORITY, serial, claim, signature: Vec::new() }
}

fn issuer(n: u16, is_granted: bool) -> Claim {
    Claim::Issuer { node: node(n), addresses: Vec::new(), is_granted }
}

fn trust(statements: &[Statement]) -> Trust {
    let mut trust = Trust::default();
    assert!(trust.adopt(AUTHORITY));
    for statement in statements {
        let _ = trust.learn(statement);
    }
    trust
}

fn statements() -> impl Strategy<Value = Statement> {
    let claim = prop_oneof![
        Just(Claim::Required),
        (0..3_u16, any::<bool>(), vec("/[a-c]", 0..2)).prop_map(|(n, is_granted, addresses)| {
            Claim::Issuer { node: node(n), addresses, is_granted }
        }),
        (0..3_u16).prop_map(|n| Claim::Revoked { node: node(n) }),
    ];
    (0..4_u64, claim).prop_map(|(serial, claim)| statement(serial, claim))
}

proptest! {
    /// Nodes that have received the same statements, in any order and however often, agree, and only they have equal digests.
    #[test]
    fn statements_are_a_join(all in vec(statements(), 0..12), order in any::<u64>(), again in vec(any::<prop::sample::Index>(), 0..6)) {
        let one = trust(&all);
        let mut other = all.clone();
        let count = other.len().max(1);
        other.rotate_left(order as usize % count);
        other.reverse();
        other.extend(again.iter().filter(|_| !all.is_empty()).map(|index| index.get(&all).clone()));
        let other = trust(&other);
        prop_assert_eq!(&one, &other);
        let part = trust(&all[..all.len() / 2]);
        prop_assert_eq!(part == one, part.digest() == one.digest());
        let kept: Vec<Statement> = one.statements().cloned().collect();
        prop_assert_eq!(trust(&kept), one);
    }

    #[test]
    fn nothing_takes_a_revocation_back(all in vec(statements(), 0..12), later in vec(statements(), 0..12)) {
        let before = trust(&all);
        let after = trust(&[all, later].concat());
        prop_assert!(before.revoked().all(|id| after.is_revoked(&id) && !after.is_issuer(&id)));
        prop_assert!(after.is_required() || !before.is_required());
    }
}

#[test]
fn only_statements_of_the_authority_count() {
    let mut trust = Trust::default();
    let revoked = statement(1, Claim::Revoked { node: node(1) });
    assert!(!trust.learn(&revoked), "it follows none yet");
    assert!(trust.adopt(AUTHORITY) && trust.adopt(AUTHORITY));
    assert!(!trust.adopt(node(9)), "the first one counts");
    assert!(!trust.learn(&Statement { authority: node(9), ..revoked.clone() }));
    assert!(trust.learn(&revoked) && !trust.learn(&revoked));
    assert!(trust.is_revoked(&node(1)) && !trust.is_revoked(&node(2)));
}

#[test]
fn there_is_a_bound_on_statements_that_changes_of_known_ones_do_not_meet() {
    let revoked = |n| statement(1, Claim::Revoked { node: node(n) });
    let mut trust = trust(&[statement(1, issuer(1, true))]);
    let room = u16::try_from(STATEMENTS_MAX - 1).expect("fits");
    assert!((0..room).all(|n| trust.learn(&revoked(n))));
    assert!(!trust.learn(&revoked(room)));
    assert!(trust.learn(&statement(2, issuer(1, false))));
}

#[test]
fn who_is_admitted() {
    let certificate = |n: u16, by: u16, not_after_ms| {
        let (role, issuer, signature) = (Role::Replica, node(by), Vec::new());
        Certificate { node: node(n), role, issued_ms: 0, not_after_ms, issuer, signature }
    };
    let open = [statement(1, issuer(1, true)), statement(1, Claim::Revoked { node: node(5) })];
    let check = |trust: &Trust, n, certificate: Option<&Certificate>| {
        trust.check(&node(n), Role::Replica, certificate, 100)
    };
    let trusting = trust(&open);
    assert_eq!(check(&trusting, 2, None), Ok(()), "nothing is required yet");
    assert_eq!(check(&trusting, 5, Some(&certificate(5, 1, 200))), Err(Rejection::Revoked));

    let required = trust(&[&open[..], &[statement(1, Claim::Required)]].concat());
    assert_eq!(check(&required, 1, None), Ok(()), "an issuer");
    assert_eq!(check(&required, 2, None), Err(Rejection::NoCertificate));
    assert_eq!(check(&required, 2, Some(&certificate(2, 1, 100))), Ok(()));
    assert_eq!(check(&required, 2, Some(&certificate(2, 1, 99))), Err(Rejection::Expired));
    assert_eq!(
        check(&required, 2, Some(&certificate(3, 1, 200))),
        Err(Rejection::Invalid),
        "of another node"
    );
    assert_eq!(check(&required, 2, Some(&certificate(2, 3, 200))), Err(Rejection::Invalid), "of no issuer");
    let seed = Certificate { role: Role::Seed, ..certificate(2, 1, 200) };
    assert_eq!(check(&required, 2, Some(&seed)), Err(Rejection::OtherRole), "a replica is no seed");
    let retired = [statement(1, Claim::Required), statement(2, issuer(1, false))];
    let withdrawn = trust(&[&open[..], &retired].concat());
    assert_eq!(check(&withdrawn, 2, Some(&certificate(2, 1, 200))), Ok(()), "of a retired issuer");
    assert_eq!(check(&withdrawn, 1, None), Err(Rejection::NoCertificate), "which needs one now");
    let lost = statement(3, Claim::Revoked { node: node(1) });
    let lost = trust(&[&open[..], &[statement(1, Claim::Required), lost]].concat());
    assert_eq!(
        check(&lost, 2, Some(&certificate(2, 1, 200))),
        Err(Rejection::Invalid),
        "of a revoked issuer"
    );

    let invitation = |by, not_after_ms| {
        let (id, role, uses, signature) = ([0; 16], Role::Replica, 0, Vec::new());
        Invitation { id, role, uses, not_after_ms, issuer: node(by), signature }
    };
    let invited = |by, until, role| required.check_invitation(&invitation(by, until), role, 100);
    assert_eq!(invited(1, 100, Role::Replica), Ok(()));
    assert_eq!(invited(1, 99, Role::Replica), Err(Rejection::TicketExpired));
    assert_eq!(invited(1, 100, Role::Seed), Err(Rejection::OtherRole));
    assert_eq!(invited(2, 100, Role::Replica), Err(Rejection::Invalid));
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
    let (node, role, issuer, signature) = (node(1), Role::Replica, node(2), Vec::new());
    let mut it = Certificate { node, role, issued_ms: 1_000, not_after_ms: 4_000, issuer, signature };
    assert_eq!(it.renewal_ms(), 3_000);
    it.issued_ms = 9_000;
    assert_eq!(it.renewal_ms(), 4_000, "a clock that was set back");
}
