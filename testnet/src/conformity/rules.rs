//! The rules: one table, each rule with what it is about, whose task it was in the Simian Army, and its check.

use std::collections::{BTreeMap, BTreeSet};

use starling_api::strong::StrongInfo;

use super::facts::{Facts, NodeFacts};
use crate::attach::REPLICA;
use crate::states::short;

/// Clocks may differ by this, milliseconds. An estimate: ten times what NTP keeps on a bad link, and far below the minute within
/// which nodes remove what has expired.
const CLOCKS_APART_MS: f64 = 500.0;
/// What probes of `testnet attach` are written to.
const PROBES: &str = "testnet-attach-";
/// What is between the name of a keyspace that lost its name to another one, and the digits of its group.
const ASIDE: &str = ".aside-";

/// A rule.
pub struct Rule {
    /// What has to be.
    pub name: &'static str,
    /// Whose task it was: conformity, doctor, janitor or security.
    pub of: &'static str,
    /// Each case in which it is not, or why it could not be checked.
    pub check: fn(&Facts) -> Checked,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The cases in which the rule is broken; none: it is kept.
    Findings(Vec<String>),
    /// It could not be checked, and why.
    Unknown(String),
}

/// All rules, in the order in which they are shown.
pub const RULES: [Rule; 16] = [
    Rule { name: "one version everywhere", of: "conformity", check: version },
    Rule { name: "the newest version of data is switched on", of: "conformity", check: data_version },
    Rule { name: "one durability, and not \"no\"", of: "conformity", check: durability },
    Rule { name: "clocks within half a second", of: "conformity", check: clocks },
    Rule { name: "voters spread over zones", of: "conformity", check: voters },
    Rule { name: "neighbours in other zones", of: "conformity", check: neighbours },
    Rule { name: "names are unique", of: "conformity", check: names },
    Rule { name: "storage works", of: "doctor", check: storage },
    Rule { name: "replicas of strong keyspaces work", of: "doctor", check: replicas },
    Rule { name: "one process per identity", of: "doctor", check: identities },
    Rule { name: "every node has peers", of: "doctor", check: joined },
    Rule { name: "no member is remembered that does not answer", of: "janitor", check: stale_members },
    Rule { name: "certificates are valid", of: "janitor", check: certificates },
    Rule { name: "nothing is left over", of: "janitor", check: left_over },
    Rule { name: "nodes need a certificate", of: "security", check: authority },
    Rule { name: "APIs are closed to strangers", of: "security", check: apis },
];

fn each(facts: &Facts, find: impl Fn(&NodeFacts) -> Vec<String>) -> Checked {
    let named = |node: &NodeFacts| {
        let name = node.status.name.clone();
        find(node).into_iter().map(move |what| format!("{name}: {what}"))
    };
    Checked::Findings(facts.nodes.iter().flat_map(named).collect())
}

/// The names of nodes by what they have; a finding for each but the most frequent.
fn minorities(all: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in all {
        groups.entry(value).or_default().push(name);
    }
    let Some(most) = groups.iter().max_by_key(|(_, names)| names.len()).map(|(value, _)| value.clone())
    else {
        return Vec::new();
    };
    let others = groups.iter().filter(|(value, _)| **value != most);
    others.map(|(value, names)| format!("{}: {value}, most have {most}", names.join(", "))).collect()
}

fn version(facts: &Facts) -> Checked {
    let nodes = facts.crawl.nodes.iter();
    Checked::Findings(minorities(nodes.map(|node| (node.name.clone(), node.version.clone()))))
}

fn data_version(facts: &Facts) -> Checked {
    let old = facts.crawl.nodes.iter().filter_map(|node| {
        let abilities = node.abilities?;
        (abilities.data_in_force < abilities.data_newest).then(|| {
            format!(
                "{}: version {} is in force, and it can write {}: `starling upgrade`",
                node.name, abilities.data_in_force, abilities.data_newest
            )
        })
    });
    Checked::Findings(old.collect())
}

fn durability(facts: &Facts) -> Checked {
    let all = facts.nodes.iter().filter(|node| node.status.role == REPLICA);
    let mut findings =
        minorities(all.clone().map(|node| (node.status.name.clone(), node.status.durability.clone())));
    findings.extend(
        all.filter(|node| node.status.durability == "no")
            .map(|node| format!("{}: writes are not synced: durability = \"everysec\"", node.status.name)),
    );
    Checked::Findings(findings)
}

fn clocks(facts: &Facts) -> Checked {
    let known: Vec<(&str, (f64, f64))> =
        facts.nodes.iter().filter_map(|node| Some((node.status.name.as_str(), node.clock_ms?))).collect();
    if known.len() < 2 {
        return Checked::Unknown("it needs the APIs of two nodes or more".into());
    }
    let middle = starling_report::median(known.iter().map(|(_, (offset_ms, _))| *offset_ms));
    // What may be an error of the estimate is no finding.
    let off = known
        .iter()
        .filter(|(_, (offset_ms, error_ms))| (offset_ms - middle).abs() - error_ms > CLOCKS_APART_MS);
    let off = off.map(|(name, (offset_ms, error_ms))| {
        format!("{name}: {:.0} ms from the median, within {error_ms:.0} ms: run NTP", offset_ms - middle)
    });
    Checked::Findings(off.collect())
}

/// The zone of each node by name: region and zone together, as nodes place voters.
fn zones(facts: &Facts) -> BTreeMap<&str, String> {
    let zone = |labels: &BTreeMap<String, String>| {
        let parts: Vec<&str> =
            ["region", "zone"].iter().filter_map(|key| labels.get(*key).map(String::as_str)).collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    };
    let replicas = facts.crawl.nodes.iter().filter(|node| node.role == REPLICA);
    replicas.filter_map(|node| Some((node.name.as_str(), zone(&node.labels)?))).collect()
}

fn voters(facts: &Facts) -> Checked {
    let zones = zones(facts);
    let there_are: BTreeSet<&String> = zones.values().collect();
    if there_are.len() < 2 {
        return Checked::Unknown("fewer than two zones are named by labels (zone=, region=)".into());
    }
    let crowded = |info: &StrongInfo| {
        let voters: Vec<&str> = info
            .members
            .iter()
            .filter(|member| member.role == "voter")
            .map(|member| member.name.as_str())
            .collect();
        let places: BTreeSet<&String> = voters.iter().filter_map(|voter| zones.get(voter)).collect();
        let possible = voters.len().min(there_are.len());
        (voters.len() > 1 && places.len() < possible).then(|| {
            format!(
                "{}: its {} voters ({}) are in {} of {} zones: `starling keyspace voters`",
                info.name,
                voters.len(),
                voters.join(", "),
                places.len(),
                there_are.len()
            )
        })
    };
    Checked::Findings(facts.strong.iter().filter_map(crowded).collect())
}

fn neighbours(facts: &Facts) -> Checked {
    let zones = zones(facts);
    if zones.values().collect::<BTreeSet<_>>().len() < 2 {
        return Checked::Unknown("fewer than two zones are named by labels (zone=, region=)".into());
    }
    each(facts, |node| {
        let Some(own) = zones.get(node.status.name.as_str()) else { return Vec::new() };
        let active: Vec<_> = node.peers.peers.iter().filter(|peer| peer.view == "active").collect();
        let elsewhere = |name: &str| zones.get(name).is_some_and(|zone| zone != own);
        let is_alone = !active.is_empty() && !active.iter().any(|peer| elsewhere(&peer.name));
        is_alone
            .then(|| format!("all {} neighbours are in its own zone {own}", active.len()))
            .into_iter()
            .collect()
    })
}

fn names(facts: &Facts) -> Checked {
    let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &facts.crawl.nodes {
        ids.entry(&node.name).or_default().push(short(&node.id));
    }
    let twice = ids.iter().filter(|(_, ids)| ids.len() > 1);
    Checked::Findings(twice.map(|(name, ids)| format!("{name} names {}", ids.join(" and "))).collect())
}

fn storage(facts: &Facts) -> Checked {
    each(facts, |node| node.status.storage_error.iter().cloned().collect())
}

fn replicas(facts: &Facts) -> Checked {
    each(facts, |node| {
        let status = &node.status;
        let closed = status.closed_replicas.iter().map(ToString::to_string);
        let impaired = status.impaired_replicas.iter().map(ToString::to_string);
        let leaderless = status.leaderless.iter().map(ToString::to_string);
        let silent = status.silent_voters.iter().map(|it| format!("{}: {}", it.keyspace, it.what()));
        closed.chain(impaired).chain(leaderless).chain(silent).collect()
    })
}

fn identities(facts: &Facts) -> Checked {
    each(facts, |node| {
        let status = &node.status;
        status
            .identity_conflict
            .iter()
            .cloned()
            .chain(status.doubled_peers.iter().map(ToString::to_string))
            .collect()
    })
}

fn joined(facts: &Facts) -> Checked {
    let is_alone = facts.crawl.nodes.len() == 1 && facts.crawl.unreachable.is_empty();
    each(facts, |node| {
        let has_none = node.status.role == REPLICA && node.status.active == 0 && !is_alone;
        has_none.then(|| "no neighbour".to_owned()).into_iter().collect()
    })
}

fn stale_members(facts: &Facts) -> Checked {
    let stale = facts.crawl.unreachable.iter().filter(|node| !node.left);
    Checked::Findings(
        stale
            .map(|node| {
                let address = node.addresses.first().map_or("", String::as_str);
                format!(
                    "{} ({}) at {address} does not answer: start it, or let nodes forget it",
                    node.name,
                    short(&node.id)
                )
            })
            .collect(),
    )
}

fn certificates(facts: &Facts) -> Checked {
    let standings = facts.crawl.nodes.iter().filter_map(|node| Some((node, node.standing.as_ref()?)));
    let expired = standings.filter_map(|(node, standing)| {
        let not_after_ms = standing.not_after_ms?;
        (not_after_ms <= facts.now_ms)
            .then(|| format!("{}: expired {}", node.name, starling_api::admin::time_of(not_after_ms)))
    });
    Checked::Findings(expired.collect())
}

fn left_over(facts: &Facts) -> Checked {
    let kept = facts.nodes.iter().flat_map(|node| {
        node.status.kept_replicas.iter().map(|kept| {
            format!(
                "{}: a replica that was removed from {} {} h ago: `starling keyspace discard` deletes it",
                node.status.name,
                kept.keyspace,
                kept.age_ms / 3_600_000
            )
        })
    });
    let names = facts.keyspaces.keys();
    let aside = names.clone().filter(|name| name.contains(ASIDE));
    let aside = aside
        .map(|name| format!("{name}: it lost its name to another one: copy what is needed, and drop it"));
    let probes = names.filter(|name| name.starts_with(PROBES));
    let probes = probes.map(|name| format!("{name}: probes of a measurement; they expire unprompted"));
    Checked::Findings(kept.chain(aside).chain(probes).collect())
}

fn authority(facts: &Facts) -> Checked {
    let Some(trust) = &facts.trust else { return Checked::Unknown("no node shows its authority".into()) };
    let finding = match (&trust.authority, trust.required) {
        (None, _) => {
            Some("the network has no authority: whoever has a ticket joins, for good: docs/members.md")
        }
        (Some(_), false) => Some("the authority does not require certificates: `starling authority require`"),
        (Some(_), true) => None,
    };
    Checked::Findings(finding.map(str::to_owned).into_iter().collect())
}

/// Whether an address is reached from this machine alone: loopback, or a unix socket.
fn is_local(address: &str) -> bool {
    let host = address.trim_matches('"').rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(|c| c == '[' || c == ']' || c == '"');
    address.contains("unix:")
        || host == "off"
        || host.is_empty()
        || host == "localhost"
        || host == "::1"
        || host.starts_with("127.")
}

fn apis(facts: &Facts) -> Checked {
    if facts.nodes.iter().all(|node| node.settings.is_none()) {
        return Checked::Unknown(
            "no node shows its settings to this client: name unix:PATH of its socket, or its token".into(),
        );
    }
    each(facts, |node| {
        let Some(settings) = &node.settings else { return Vec::new() };
        let value = |key: &str| settings.get(key).map_or("", String::as_str);
        let is_empty = |key: &str| ["", "\"\""].contains(&value(key));
        let mut findings = Vec::new();
        if !is_local(value("api.listen")) {
            if is_empty("api.token") && is_empty("tls.client_ca") {
                findings.push("its API is open to other machines without a token: api.token".to_owned());
            }
            if value("api.plaintext") == "true" {
                findings.push("its API serves other machines without TLS: api.plaintext".to_owned());
            }
        }
        findings
    })
}

#[cfg(test)]
mod tests {
    use starling_api::admin::{Abilities, KeptReplica, Node, Nodes, Peer, Peers, Status, Unreachable};
    use starling_api::strong::StrongMember;
    use starling_api::trust::{Standing, Trust};

    use super::*;

    /// Three nodes in zones a, b and c with a strong keyspace, that keep every rule.
    fn good() -> Facts {
        let names = ["n1", "n2", "n3"];
        let labels = |at: usize| BTreeMap::from([("zone".to_owned(), ["a", "b", "c"][at].to_owned())]);
        let peer = |name: &&str| Peer { name: (*name).into(), view: "active".into(), ..Peer::default() };
        let node = |(at, name): (usize, &&str)| NodeFacts {
            status: Status {
                name: (*name).into(),
                role: REPLICA.into(),
                labels: labels(at),
                durability: "everysec".into(),
                active: 2,
                ..Status::default()
            },
            peers: Peers {
                peers: names.iter().filter(|other| *other != name).map(peer).collect(),
                ..Peers::default()
            },
            settings: Some(BTreeMap::from([("api.listen".to_owned(), "\"127.0.0.1:7401\"".to_owned())])),
            clock_ms: Some((at as f64, 1.0)),
        };
        let crawled = |(at, name): (usize, &&str)| Node {
            id: format!("0{at}23456789"),
            name: (*name).into(),
            role: REPLICA.into(),
            labels: labels(at),
            version: "1.0.0".into(),
            abilities: Some(Abilities { data_newest: 2, data_in_force: 2, ..Abilities::default() }),
            standing: Some(Standing { not_after_ms: Some(2_000), ..Standing::default() }),
            ..Node::default()
        };
        let voter = |name: &&str| StrongMember {
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
                members: names.iter().map(voter).collect(),
                ..StrongInfo::default()
            }],
            trust: Some(Trust { authority: Some("key".into()), required: true, ..Trust::default() }),
            now_ms: 1_000,
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

    #[test]
    fn a_network_that_keeps_all_rules_has_no_finding() {
        assert_eq!(broken(&good()), []);
    }

    /// A rule, and a change that breaks it alone.
    type Case = (&'static str, fn(&mut Facts));

    #[test]
    fn each_rule_finds_its_own_case_alone() {
        let cases: [Case; 16] = [
            ("one version everywhere", |it| it.crawl.nodes[1].version = "0.9.0".into()),
            ("the newest version of data is switched on", |it| {
                it.crawl.nodes[0].abilities =
                    Some(Abilities { data_newest: 3, data_in_force: 2, ..Abilities::default() });
            }),
            ("one durability, and not \"no\"", |it| it.nodes[2].status.durability = "no".into()),
            ("clocks within half a second", |it| it.nodes[0].clock_ms = Some((-900.0, 20.0))),
            ("voters spread over zones", |it| it.strong[0].members[2].name = "n1".into()),
            ("neighbours in other zones", |it| {
                it.nodes[0].peers.peers.retain(|peer| peer.name == "n1");
                it.nodes[0].peers.peers.push(Peer {
                    name: "n1".into(),
                    view: "active".into(),
                    ..Peer::default()
                });
            }),
            ("names are unique", |it| {
                let again = Node { id: "98765432".into(), ..it.crawl.nodes[0].clone() };
                it.crawl.nodes.push(again);
            }),
            ("storage works", |it| it.nodes[0].status.storage_error = Some("full".into())),
            ("replicas of strong keyspaces work", |it| {
                let closed =
                    starling_api::admin::ClosedReplica { keyspace: "orders".into(), reason: "torn".into() };
                it.nodes[0].status.closed_replicas.push(closed);
            }),
            ("one process per identity", |it| it.nodes[0].status.identity_conflict = Some("two".into())),
            ("every node has peers", |it| it.nodes[0].status.active = 0),
            ("no member is remembered that does not answer", |it| {
                it.crawl.unreachable.push(Unreachable { name: "n9".into(), ..Unreachable::default() });
                it.crawl.unreachable.push(Unreachable { left: true, ..Unreachable::default() });
            }),
            ("certificates are valid", |it| it.now_ms = 3_000),
            ("nothing is left over", |it| {
                let kept = KeptReplica {
                    keyspace: "orders".into(),
                    age_ms: 7_200_000,
                    bytes: 1,
                    may_have_more: false,
                };
                it.nodes[0].status.kept_replicas.push(kept);
                it.keyspaces.insert("orders.aside-12".into(), true);
                it.keyspaces.insert("testnet-attach-00".into(), false);
            }),
            ("nodes need a certificate", |it| it.trust = Some(Trust::default())),
            ("APIs are closed to strangers", |it| {
                let listen = ("api.listen".to_owned(), "\"0.0.0.0:7401\"".to_owned());
                it.nodes[0].settings = Some(BTreeMap::from([listen]));
            }),
        ];
        for (name, change) in cases {
            let mut facts = good();
            change(&mut facts);
            let found: Vec<&str> = broken(&facts).into_iter().map(|(rule, _)| rule).collect();
            assert_eq!(found, [name], "{:?}", broken(&facts));
        }
    }

    #[test]
    fn what_may_be_an_error_of_the_estimate_and_what_is_not_shown_are_no_findings() {
        let mut facts = good();
        facts.nodes[0].clock_ms = Some((-900.0, 600.0));
        facts.nodes.iter_mut().for_each(|node| node.settings = None);
        let found = broken(&facts);
        assert!(
            matches!(&found[..], [("APIs are closed to strangers", reasons)] if reasons[0].contains("unix:PATH")),
            "{found:?}"
        );
    }

    #[test]
    fn local_addresses_are_known() {
        for local in
            ["\"127.0.0.1:7401\"", "\"[::1]:7401\"", "\"unix:/run/api.sock\"", "\"off\"", "\"localhost:1\""]
        {
            assert!(is_local(local), "{local}");
        }
        for open in ["\"0.0.0.0:7401\"", "\"[::]:7401\"", "\"10.0.0.1:7401\""] {
            assert!(!is_local(open), "{open}");
        }
    }
}
