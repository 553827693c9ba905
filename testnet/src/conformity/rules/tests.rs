//! Each rule finds its own case, and no other rule does.

use std::collections::BTreeMap;

use starling_api::admin::{
    Abilities, ClosedReplica, Doctor, Finding, KeptReplica, Node, Nodes, Peer, Peers, SilentVoter, Status,
    Unreachable,
};
use starling_api::strong::{StrongInfo, StrongMember};
use starling_api::trust::{Certificate, Standing, Trust};

use super::*;
use crate::attach::REPLICA;

/// Three nodes in zones a, b and c with a strong keyspace, that keep every rule.
fn good() -> Facts {
    let names = ["n1", "n2", "n3"];
    let id = |at: usize| format!("0{at}23456789");
    let labels = |at: usize| BTreeMap::from([("zone".to_owned(), ["a", "b", "c"][at].to_owned())]);
    let peer = |name: &&str| Peer { name: (*name).into(), view: "active".into(), ..Peer::default() };
    let node = |(at, name): (usize, &&str)| NodeFacts {
        at,
        status: Status {
            name: (*name).into(),
            role: REPLICA.into(),
            labels: labels(at),
            durability: "everysec".into(),
            active: 2,
            uptime_ms: 9_000,
            ..Status::default()
        },
        peers: Peers {
            peers: names.iter().filter(|other| *other != name).map(peer).collect(),
            ..Peers::default()
        },
        settings: Some(BTreeMap::from([("api.listen".to_owned(), "\"127.0.0.1:7401\"".to_owned())])),
        trust: Some(Trust { authority: Some("key".into()), required: true, ..Trust::default() }),
        doctor: Some(Doctor { healthy: true, ..Doctor::default() }),
        clock_ms: Some((at as f64, 1.0)),
        ..NodeFacts::default()
    };
    let crawled = |(at, name): (usize, &&str)| Node {
        id: id(at),
        name: (*name).into(),
        role: REPLICA.into(),
        labels: labels(at),
        version: "1.0.0".into(),
        abilities: Some(Abilities { data_newest: 2, data_in_force: 2, ..Abilities::default() }),
        standing: Some(Standing { not_after_ms: Some(2_000), ..Standing::default() }),
        ..Node::default()
    };
    let voter = |(at, name): (usize, &&str)| StrongMember {
        id: id(at),
        name: (*name).into(),
        role: "voter".into(),
        ..StrongMember::default()
    };
    Facts {
        nodes: names.iter().enumerate().map(node).collect(),
        crawl: Nodes { nodes: names.iter().enumerate().map(crawled).collect(), ..Nodes::default() },
        keyspaces: BTreeMap::from([("orders".to_owned(), true), ("default".to_owned(), false)]),
        strong: vec![StrongInfo {
            name: "orders".into(),
            leader: Some("n1".into()),
            members: names.iter().enumerate().map(voter).collect(),
            ..StrongInfo::default()
        }],
        now_ms: 1_000,
        ..Facts::default()
    }
}

fn broken(facts: &Facts) -> Vec<(&'static str, Vec<String>)> {
    let checked = RULES.iter().map(|rule| (rule.name, (rule.check)(facts)));
    checked
        .filter_map(|(name, checked)| match checked {
            Checked::Findings(findings) if findings.is_empty() => None,
            Checked::Findings(findings) => Some((name, findings)),
            Checked::Unknown(reason) => Some((name, vec![reason])),
        })
        .collect()
}

/// A rule, and a change that breaks it alone.
type Case = (&'static str, fn(&mut Facts));

/// Checks that each change breaks one rule alone.
fn assert_each_breaks_its_own<const N: usize>(cases: [Case; N]) {
    for (name, change) in cases {
        let mut facts = good();
        change(&mut facts);
        let found: Vec<&str> = broken(&facts).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(found, [name], "{:?}", broken(&facts));
    }
}

#[test]
fn a_network_that_keeps_all_rules_has_no_finding() {
    assert_eq!(broken(&good()), []);
}

#[test]
fn nodes_that_differ_are_found() {
    assert_each_breaks_its_own([
        ("one version everywhere", |it| it.crawl.nodes[1].version = "0.9.0".into()),
        ("the newest version of data is switched on", |it| {
            it.crawl.nodes[0].abilities =
                Some(Abilities { data_newest: 3, data_in_force: 2, ..Abilities::default() });
        }),
        ("one durability, and not \"no\"", |it| it.nodes[2].status.durability = "no".into()),
        ("clocks within half a second", |it| it.nodes[0].clock_ms = Some((-900.0, 20.0))),
        ("voters spread over zones", |it| it.strong[0].members[2].name = "n1".into()),
        ("neighbours in other zones", |it| {
            it.nodes[0].peers.peers.truncate(1);
            it.nodes[0].peers.peers[0].name = "n1".into();
        }),
        ("names are unique", |it| {
            let again = Node { id: "98765432".into(), ..it.crawl.nodes[0].clone() };
            it.crawl.nodes.push(again);
        }),
    ]);
}

#[test]
fn unhealthy_nodes_are_found() {
    assert_each_breaks_its_own([
        ("every API that was named answers", |it| it.silent.push(("n4".into(), "no answer".into()))),
        ("every node is ready", |it| it.nodes[0].not_ready = Some("no space".into())),
        ("every node has peers", |it| it.nodes[0].status.active = 0),
        ("no node stands still", |it| {
            it.nodes[0].status.counters.insert("self_stalls".into(), 3);
            it.nodes[0].before.counters.insert("self_stalls".into(), 2);
        }),
        ("replicas of strong keyspaces work", |it| {
            let closed = ClosedReplica { keyspace: "orders".into(), reason: "torn".into() };
            it.nodes[0].status.closed_replicas.push(closed);
        }),
        ("voters are heard by their leaders", |it| {
            it.nodes[0]
                .status
                .silent_voters
                .push(SilentVoter { name: "n3".into(), ..SilentVoter::default() });
        }),
        ("one process per identity", |it| it.nodes[0].status.identity_conflict = Some("two".into())),
        ("stores are sound", |it| {
            let finding = Finding { what: "torn".into(), hint: "replace the disk".into() };
            it.nodes[0].doctor = Some(Doctor { findings: vec![finding], ..Doctor::default() });
        }),
    ]);
}

#[test]
fn what_is_left_over_is_found() {
    assert_each_breaks_its_own([
        ("no member is remembered that does not answer", |it| {
            it.crawl.unreachable.push(Unreachable { name: "n9".into(), ..Unreachable::default() });
            it.crawl.unreachable.push(Unreachable { left: true, ..Unreachable::default() });
        }),
        ("strong keyspaces have a majority", |it| it.strong[0].leader = None),
        ("strong keyspaces have a majority", |it| it.strong.clear()),
        ("voters are members of the network", |it| it.strong[0].members[1].id = "gone".into()),
        ("voters are members of the network", |it| it.strong[0].members[1].revoked = true),
        ("replicas are of their groups", |it| {
            let kept =
                KeptReplica { keyspace: "orders".into(), age_ms: 7_200_000, bytes: 1, may_have_more: false };
            it.nodes[0].status.kept_replicas.push(kept);
        }),
        ("no keyspace is left over", |it| {
            it.keyspaces.insert("testnet-attach-00".into(), false);
        }),
        ("certificates are valid, and renewed in time", |it| it.now_ms = 3_000),
        ("certificates are valid, and renewed in time", |it| {
            let late = Certificate { issuer: "n1".into(), issued_ms: 0, not_after_ms: 1_200 };
            it.nodes[0].trust.as_mut().expect("it shows it").certificate = Some(late);
        }),
    ]);
}

#[test]
fn weak_settings_are_found() {
    assert_each_breaks_its_own([
        ("nodes need a certificate", |it| {
            it.nodes.iter_mut().for_each(|node| node.trust = Some(Trust::default()));
        }),
        ("APIs are closed to strangers", |it| {
            let listen = ("api.listen".to_owned(), "\"0.0.0.0:7401\"".to_owned());
            it.nodes[0].settings = Some(BTreeMap::from([listen]));
        }),
    ]);
}

#[test]
fn what_may_be_an_error_of_the_estimate_and_what_is_not_shown_are_no_findings() {
    let mut facts = good();
    facts.nodes[0].clock_ms = Some((-900.0, 600.0));
    facts.nodes.iter_mut().for_each(|node| (node.settings, node.doctor) = (None, None));
    let found = broken(&facts);
    let [("stores are sound", stores), ("APIs are closed to strangers", apis)] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(stores[0].contains("--stores") && apis[0].contains("unix:PATH"), "{found:?}");
}

#[test]
fn local_addresses_are_known() {
    for local in
        ["\"127.0.0.1:7401\"", "\"[::1]:7401\"", "\"unix:/run/api.sock\"", "\"off\"", "\"localhost:1\""]
    {
        assert!(weaknesses::is_local(local), "{local}");
    }
    for open in ["\"0.0.0.0:7401\"", "\"[::]:7401\"", "\"10.0.0.1:7401\""] {
        assert!(!weaknesses::is_local(open), "{open}");
    }
}
