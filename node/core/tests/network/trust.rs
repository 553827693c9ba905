//! Certificates and the authority's statements in small networks. Signatures are the driver's: here they are empty.

use starling_core::Input;
use starling_proto::trust::{Claim, Statement};
use starling_proto::{Class, NodeId, Role};

use crate::world::{CERTIFICATE_MS, World, settled};

const AUTHORITY: NodeId = NodeId([0xaa; 32]);

/// Another key of the authority, and one that another operator has made.
const LATER: NodeId = NodeId([0xbb; 32]);
const OTHER: NodeId = NodeId([0xcc; 32]);

/// Passes statements to a node, as its operator does.
fn state(world: &mut World, node: usize, claims: impl IntoIterator<Item = Claim>) {
    state_by(world, node, AUTHORITY, claims);
}

/// The same with another key.
fn state_by(world: &mut World, node: usize, key: NodeId, claims: impl IntoIterator<Item = Claim>) {
    let statement = |claim| Statement { authority: key, serial: 1, claim, signature: Vec::new() };
    let statements = claims.into_iter().map(statement).collect();
    world.input(node, Input::Statements { from: None, authority: key, statements });
}

fn successor(key: NodeId) -> Claim {
    Claim::Successor { key, endorsement: Vec::new() }
}

/// Replicas, from the first one on, whose authority has these keys.
fn have_keys(world: &World, nodes: impl IntoIterator<Item = usize>, keys: &[NodeId]) -> bool {
    nodes.into_iter().all(|node| {
        let found = world.nodes[node].core.trust().keys().map(|(key, _)| key);
        found.collect::<Vec<_>>() == keys
    })
}

fn issuer(world: &World, node: usize) -> Claim {
    let record = &world.nodes[node].record;
    Claim::Issuer { node: record.id, addresses: record.addresses.clone(), is_granted: true }
}

fn revoked(world: &World, node: usize) -> Claim {
    Claim::Revoked { node: world.nodes[node].record.id }
}

/// Nodes with a link to this one.
fn linked_to(world: &World, node: usize) -> usize {
    let id = world.nodes[node].record.id;
    world.alive().filter(|other| other.record.id != id && other.core.is_linked(&id)).count()
}

fn have_certificates(world: &World) -> bool {
    // A seed without links has not learned of the authority.
    let needs = |node: &&crate::world::SimNode| {
        node.record.role == Role::Replica && !node.core.trust().is_issuer(&node.record.id)
    };
    world.alive().filter(needs).all(|node| {
        let now_ms = world.at().wall_ms;
        node.core.certificate().is_some_and(|it| it.not_after_ms > now_ms)
    })
}

fn are_required(world: &World) -> bool {
    world.nodes[1..].iter().all(|node| node.core.trust().is_required())
}

#[test]
fn a_revoked_node_is_cut_off_and_stays_out() {
    let mut world = settled(1, 16);
    let lost = 5;
    assert!(linked_to(&world, lost) > 0);
    let claim = revoked(&world, lost);
    state(&mut world, 9, [claim]);
    // A few hops of the flood, and the closing of links.
    world.run_until(1_000, "no node has a link to it", |world| linked_to(world, lost) == 0);
    world.run_until(1_000, "every replica has the statement", |world| {
        world.nodes[1..].iter().all(|node| node.core.trust().revoked().count() == 1)
    });
    world.put(lost, "k", "v");
    world.run(60_000);
    assert_eq!(linked_to(&world, lost), 0, "it tries to come back, and is refused");
    let has_its_write =
        |node: &&crate::world::SimNode| node.core.store().is_some_and(|s| s.stats().entries > 0);
    assert_eq!(world.alive().filter(has_its_write).count(), 1, "its write reaches no other node");
    world.restart(lost);
    world.run(30_000);
    assert_eq!(linked_to(&world, lost), 0, "neither is its next process admitted");
}

#[test]
fn a_partition_learns_of_a_revocation_before_it_receives_data() {
    let mut world = settled(2, 12);
    // The lost node is in the part that does not learn of it.
    world.groups.extend((7..=12).map(|node| (node, 1)));
    world.run(30_000);
    let claim = revoked(&world, 8);
    state(&mut world, 1, [claim]);
    world.run(5_000);
    assert!(world.nodes[9].core.trust().authority().is_none());
    world.put(8, "k", "from the lost node");
    world.groups.clear();
    world.run_until(120_000, "the parts have merged", |world| {
        (1..=12).filter(|node| *node != 8).all(|node| world.nodes[node].core.trust().revoked().count() == 1)
    });
    world.run_until(30_000, "no node has a link to it", |world| linked_to(world, 8) == 0);
}

#[test]
fn a_statement_that_a_full_queue_drops_is_brought_by_the_next_handshake() {
    let mut world = settled(7, 6);
    let claim = revoked(&world, 5);
    state(&mut world, 1, [claim]);
    let peer = world.nodes[1].core.active().next().expect("a neighbour");
    world.input(1, Input::Shed { peer, class: Class::Rumor });
    assert!(world.nodes[1].core.is_linked(&peer), "it was a rumor");
    world.input(1, Input::Shed { peer, class: Class::Control });
    assert!(!world.nodes[1].core.is_linked(&peer));
    world.run_until(60_000, "it is back, and has the statement", |world| {
        let node = world.nodes.iter().find(|node| node.record.id == peer).expect("a node");
        world.nodes[1].core.is_linked(&peer) && node.core.trust().revoked().count() == 1
    });
}

#[test]
fn certificates_are_given_before_they_are_required_and_renewed_while_they_are() {
    let mut world = settled(3, 10);
    let claim = issuer(&world, 2);
    state(&mut world, 4, [claim]);
    world.run_until(20_000, "all nodes have a certificate", have_certificates);
    state(&mut world, 7, [Claim::Required]);
    world.run_until(20_000, "all know that certificates are required", are_required);
    world.run(5 * CERTIFICATE_MS);
    assert!(have_certificates(&world));
    world.put(3, "k", "v");
    world.run_until(10_000, "the write is everywhere", World::equal);
    // This world's driver judges no peer: the nodes do.
    let stranger = world.start(Role::Replica, &[1]);
    world.run(20_000);
    assert_eq!(linked_to(&world, stranger), 0);
}

#[test]
fn a_link_outlives_the_certificate_with_which_it_was_made() {
    let mut world = settled(8, 2);
    let claim = issuer(&world, 2);
    state(&mut world, 2, [claim]);
    world.run_until(20_000, "the other node has a certificate", have_certificates);
    state(&mut world, 2, [Claim::Required]);
    let member = world.nodes[1].record.id;
    let is_linked = |world: &World| world.nodes[2].core.is_linked(&member);
    world.run_until(20_000, "they are linked", |world| are_required(world) && is_linked(world));
    for _ in 0..3 * CERTIFICATE_MS / 10 {
        world.run(10);
        assert!(is_linked(&world), "the member has shown its next certificate over the link");
    }
}

#[test]
fn nodes_whose_certificates_expire_come_back_with_the_issuer() {
    let mut world = settled(4, 8);
    let claim = issuer(&world, 2);
    state(&mut world, 2, [claim]);
    world.run_until(60_000, "all nodes have a certificate", have_certificates);
    state(&mut world, 2, [Claim::Required]);
    world.run_until(20_000, "all know that certificates are required", are_required);
    world.kill(2);
    world.run(2 * CERTIFICATE_MS);
    assert!(!have_certificates(&world));
    assert_eq!(linked_to(&world, 3), 0, "expired certificates end links");
    world.restart(2);
    world.run_until(60_000, "all nodes have a certificate again", have_certificates);
    world.run_until(120_000, "one component again", |world| world.components() == 1);
}

#[test]
fn nodes_of_a_retired_issuer_get_certificates_of_another_one_and_keep_their_links() {
    let mut world = settled(5, 8);
    let claims = [issuer(&world, 2), issuer(&world, 3)];
    state(&mut world, 2, claims);
    world.run_until(60_000, "all nodes have a certificate", have_certificates);
    let by = |world: &World, node: usize| {
        let id = world.nodes[node].record.id;
        world.alive().filter(|it| it.core.certificate().is_some_and(|it| it.issuer == id)).count()
    };
    assert!(by(&world, 2) > 0 && by(&world, 3) > 0, "nodes ask different issuers");
    state(&mut world, 2, [Claim::Required]);
    world.run_until(20_000, "all know that certificates are required", are_required);
    world.run_until(20_000, "one component", |world| world.components() == 1);
    let id = world.nodes[2].record.id;
    let withdrawn = Claim::Issuer { node: id, addresses: Vec::new(), is_granted: false };
    let statement = Statement { authority: AUTHORITY, serial: 2, claim: withdrawn, signature: Vec::new() };
    world.input(1, Input::Statements { from: None, authority: AUTHORITY, statements: vec![statement] });
    let took_ms = world.run_until(60_000, "all have certificates of the other issuer", |world| {
        by(world, 2) == 0 && have_certificates(world)
    });
    assert!(took_ms < 10_000, "{took_ms} ms: not only when theirs expire");
    assert_eq!(world.components(), 1);
    world.run(2 * CERTIFICATE_MS);
    assert_eq!(world.components(), 1, "the retired issuer has a certificate, too");
}

#[test]
fn a_key_takes_over_and_nodes_that_were_away_follow() {
    let mut world = settled(10, 12);
    let claim = issuer(&world, 2);
    state(&mut world, 2, [claim.clone()]);
    world.run_until(60_000, "all nodes have a certificate", have_certificates);
    state(&mut world, 3, [Claim::Required]);
    world.run_until(20_000, "all know that certificates are required", are_required);
    // One node is away from now on, and two after the exchange.
    world.kill(5);
    state(&mut world, 4, [successor(LATER)]);
    let rest = || (1..=12).filter(|node| *node != 5);
    world.run_until(5_000, "all have both keys", |world| have_keys(world, rest(), &[AUTHORITY, LATER]));
    world.groups.extend([(6, 1), (7, 1)]);
    let lost = revoked(&world, 8);
    state(&mut world, 9, [lost]);
    let lost = revoked(&world, 8);
    state_by(&mut world, 4, LATER, [claim, Claim::Required, lost, Claim::Retired { key: AUTHORITY }]);
    let rest = || [1, 2, 3, 4, 9, 10, 11, 12];
    world.run_until(5_000, "the later key remains", |world| have_keys(world, rest(), &[LATER]));
    world.groups.clear();
    world.restart(5);
    let all = || (1..=12).filter(|node| *node != 8);
    world.run_until(120_000, "those that were away follow", |world| have_keys(world, all(), &[LATER]));
    assert!(all().all(|node| {
        let trust = world.nodes[node].core.trust();
        trust.is_required() && trust.issuers().count() == 1 && trust.revoked().count() == 1
    }));
    // The retired key has no say, the other one has.
    let claim = revoked(&world, 9);
    state(&mut world, 10, [claim]);
    let claim = revoked(&world, 11);
    state_by(&mut world, 10, LATER, [claim]);
    world.run_until(5_000, "no node has a link to it", |world| linked_to(world, 11) == 0);
    assert!(linked_to(&world, 9) > 0);
    world.run(2 * CERTIFICATE_MS);
    let is_certified = |node: usize| {
        let core = &world.nodes[node].core;
        core.trust().is_issuer(&world.nodes[node].record.id) || core.is_admitted(world.at())
    };
    assert!(all().filter(|node| *node != 11).all(is_certified), "certificates are renewed all the while");
}

#[test]
fn two_keys_that_take_over_on_two_sides_of_a_partition_both_count_until_one_remains() {
    let mut world = settled(11, 12);
    let claim = issuer(&world, 2);
    state(&mut world, 2, [claim]);
    world.run_until(60_000, "all nodes have a certificate", have_certificates);
    world.groups.extend((7..=12).map(|node| (node, 1)));
    world.run(30_000);
    let [near, far] = [3, 9].map(|node| revoked(&world, node));
    state(&mut world, 1, [successor(LATER)]);
    state_by(&mut world, 1, LATER, [near.clone()]);
    state(&mut world, 8, [successor(OTHER)]);
    state_by(&mut world, 8, OTHER, [far.clone()]);
    world.run(5_000);
    assert!(
        have_keys(&world, [1, 4], &[AUTHORITY, LATER]) && have_keys(&world, [8, 12], &[AUTHORITY, OTHER])
    );
    world.groups.clear();
    let all = || (1..=12).filter(|node| ![3, 9].contains(node));
    let have = |world: &World, keys: &[NodeId]| {
        have_keys(world, all(), keys)
            && all().all(|node| world.nodes[node].core.trust().revoked().count() == 2)
    };
    world.run_until(120_000, "all have all keys, and what they have stated", |world| {
        have(world, &[AUTHORITY, LATER, OTHER])
    });
    state_by(&mut world, 4, LATER, [near, far, Claim::Retired { key: AUTHORITY }]);
    world.run_until(5_000, "one key remains", |world| have(world, &[LATER]));
    let digests: Vec<_> = all().map(|node| world.nodes[node].core.trust().digest()).collect();
    assert!(digests.windows(2).all(|two| two[0] == two[1]));
}

#[test]
fn a_node_knows_whether_others_admit_it() {
    let mut world = settled(9, 4);
    let is_admitted = |world: &World, node: usize| world.nodes[node].core.is_admitted(world.at());
    assert!(is_admitted(&world, 0), "a seed of a network without an authority");
    let claim = issuer(&world, 2);
    state(&mut world, 2, [claim]);
    world.run_until(60_000, "all nodes have a certificate", have_certificates);
    state(&mut world, 2, [Claim::Required]);
    world.run_until(20_000, "all know that certificates are required", are_required);
    assert!((1..=4).all(|node| is_admitted(&world, node)));
    let lost = revoked(&world, 3);
    state(&mut world, 2, [lost]);
    world.run_until(5_000, "no node has a link to it", |world| linked_to(world, 3) == 0);
    world.run(5_000);
    assert!(!is_admitted(&world, 3), "it is revoked");
    // One that has its ticket, and no certificate.
    let invited = world.start(Role::Seed, &[]);
    world.input(invited, Input::Statements { from: None, authority: AUTHORITY, statements: Vec::new() });
    assert!(!is_admitted(&world, invited));
}

#[test]
fn certificates_of_a_revoked_issuer_are_invalid() {
    let mut world = settled(6, 8);
    let claims = [issuer(&world, 2), issuer(&world, 3)];
    state(&mut world, 2, claims);
    world.run_until(60_000, "all nodes have a certificate", have_certificates);
    state(&mut world, 2, [Claim::Required]);
    world.run_until(20_000, "all know that certificates are required", are_required);
    let id = world.nodes[2].record.id;
    let of_lost = |world: &World| -> Vec<usize> {
        let is_of = |node: &usize| world.nodes[*node].core.certificate().is_some_and(|it| it.issuer == id);
        (1..=8).filter(is_of).collect()
    };
    let victims = of_lost(&world);
    assert!(!victims.is_empty());
    let claim = revoked(&world, 2);
    state(&mut world, 4, [claim]);
    world.run(20_000);
    for node in victims {
        assert_eq!(linked_to(&world, node), 0, "an attacker may have made it");
    }
}
