//! The node's reports about itself, in the API's types.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use starling_api::admin::{
    self, BannedPeer, DoubledPeer, DoubledProcess, Edge, Flow, Node, Nodes, Peer, Traffic, Unreachable,
};
use starling_api::trust::{self as api, Standing};
use starling_core::{Core, Counters, DoubledPeer as CoreDoubledPeer, SIGN_MS};
use starling_kv::{Engine, Stats};
use starling_p2p::Metrics;
use starling_proto::message::{Abilities, Description, Root};
use starling_proto::trust::{Certificate, Trust};
use starling_proto::{Class, NodeId, NodeRecord, Role};

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// A root fingerprint in hexadecimal: context, then live entries.
pub fn root(root: &Root) -> String {
    hex(&root.context) + &hex(&root.live)
}

/// A role's name.
pub fn role(role: Role) -> String {
    match role {
        Role::Replica => "replica".into(),
        Role::Seed => "seed".into(),
    }
}

/// A node's labels.
pub fn labels(record: &NodeRecord) -> BTreeMap<String, String> {
    record.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Traffic of one or of all links.
pub fn traffic(found: &starling_p2p::Traffic) -> Traffic {
    let flow = |class| {
        let (received, sent) = (found.received(class), found.sent(class));
        Flow {
            frames_in: received.frames.get(),
            frames_out: sent.frames.get(),
            bytes_in: received.bytes.get(),
            bytes_out: sent.bytes.get(),
        }
    };
    Traffic {
        control: flow(Class::Control),
        rumor: flow(Class::Rumor),
        sync: flow(Class::Sync),
        strong: flow(Class::Strong),
    }
}

/// Every counter by its name, but those that the status has fields for.
pub fn counters(core: &Counters, stats: Option<&Stats>, driver: &Metrics) -> BTreeMap<String, u64> {
    let mut all = vec![
        ("rumors_sent", core.rumors_sent),
        ("grafts", core.grafts),
        ("prunes", core.prunes),
        ("sessions", core.sessions),
        ("sessions_equal", core.sessions_equal),
        ("session_delta_bytes", core.session_bytes),
        ("suspicions", core.suspicions),
        ("self_stalls", core.self_stalls),
        ("bad_deltas", core.bad_deltas),
        ("storage_failures", core.storage_failures),
        ("dials_refused", core.dials_refused),
        ("unknown_control", driver.unknown(Class::Control).get()),
        ("unknown_rumor", driver.unknown(Class::Rumor).get()),
        ("unknown_sync", driver.unknown(Class::Sync).get()),
        ("unknown_strong", driver.unknown(Class::Strong).get()),
        ("unknown_strong_messages", core.strong_unknown),
        ("unspoken", driver.unspoken.get()),
        ("malformed_frames", driver.malformed.get()),
        ("bad_checksums", driver.bad_checksum.get()),
        ("bad_records", driver.bad_record.get()),
        ("wrong_secret", driver.wrong_secret.get()),
        ("wrong_network", driver.wrong_network.get()),
        ("wrong_version", driver.wrong_version.get()),
        ("not_admitted", driver.not_admitted.get()),
        ("failed_handshakes", driver.failed_handshake.get()),
        ("refused_connections", driver.refused.get()),
        ("banned_peers", driver.banned.get()),
        ("links_up", driver.connected.get()),
        ("links_down", driver.disconnected.get()),
        ("dials_failed", driver.unreachable.get()),
        ("shed_control", driver.shed(Class::Control).get()),
        ("shed_rumor", driver.shed(Class::Rumor).get()),
        ("shed_sync", driver.shed(Class::Sync).get()),
        ("shed_strong", driver.shed(Class::Strong).get()),
    ];
    if let Some(stats) = stats {
        all.extend([
            ("batches", stats.batches),
            ("batches_refused", stats.refused),
            ("group_commits", stats.commits),
            ("joins", stats.joins),
            ("joins_old_news", stats.joins_old_news),
            ("entries_joined", stats.entries_joined),
            ("siblings_made", stats.siblings),
            ("future_timestamps", stats.future_timestamps),
            ("equivocations", stats.equivocations),
            ("actor_rotations", stats.actor_rotations),
            ("expired", stats.expired),
        ]);
    }
    all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Peers without what only the driver knows of them: connected ones, then those of the passive view.
pub fn peers<E: Engine>(core: &Core<E>, now: starling_core::Now) -> Vec<(NodeId, Peer)> {
    let connected = core.peers(now);
    let ids: BTreeSet<NodeId> = connected.iter().map(|peer| peer.record.id).collect();
    let mut all: Vec<_> = connected
        .into_iter()
        .map(|status| {
            let peer = Peer {
                view: if status.active { "active" } else { "other" }.into(),
                connected: true,
                doubled: status.doubled,
                phi: status.phi,
                rtt_ms: status.rtt_ms.map(|ms| ms as f64),
                eager: status.active.then_some(status.eager),
                ..described(&status.record)
            };
            (status.record.id, peer)
        })
        .collect();
    let passive = core.passive().filter(|record| !ids.contains(&record.id));
    all.extend(passive.map(|record| (record.id, Peer { view: "passive".into(), ..described(record) })));
    all.sort_by(|(_, a), (_, b)| (&a.view, &a.name).cmp(&(&b.view, &b.name)));
    all
}

fn described(record: &NodeRecord) -> Peer {
    Peer {
        id: hex(&record.id.0),
        name: record.name.clone(),
        role: role(record.role),
        labels: labels(record),
        addresses: record.addresses.clone(),
        ..Peer::default()
    }
}

fn abilities(found: Abilities) -> admin::Abilities {
    admin::Abilities {
        protocol_min: found.protocol.min,
        protocol_max: found.protocol.max,
        features: found.protocol.features.0,
        data_newest: found.data_newest,
        data_in_force: found.data_in_force,
    }
}

fn standing(found: &starling_proto::message::Standing) -> Standing {
    Standing {
        authority: hex(&found.authority.0),
        digest: hex(&found.digest),
        issuer: found.certificate.map(|(issuer, _)| hex(&issuer.0)),
        not_after_ms: found.certificate.map(|(_, not_after_ms)| not_after_ms),
    }
}

/// The authority's statements, and this node's certificate.
pub fn trust(trust: &Trust, certificate: Option<&Certificate>, me: NodeId) -> api::Trust {
    let issuer =
        |(id, addresses): (NodeId, &[String])| api::Issuer { id: hex(&id.0), addresses: addresses.to_vec() };
    let key = |(key, after): (NodeId, Option<NodeId>)| api::AuthorityKey {
        id: hex(&key.0),
        after: after.map(|key| hex(&key.0)),
    };
    let certificate = certificate.map(|it| api::Certificate {
        issuer: hex(&it.issuer.0),
        issued_ms: it.issued_ms,
        not_after_ms: it.not_after_ms,
    });
    api::Trust {
        authority: trust.authority().map(|key| hex(&key.0)),
        keys: trust.keys().map(key).collect(),
        former_keys: trust.former_keys().map(|key| hex(&key.0)).collect(),
        required: trust.is_required(),
        issuers: trust.issuers().map(issuer).collect(),
        revoked: trust.revoked().map(|id| hex(&id.0)).collect(),
        digest: hex(&trust.digest()),
        serial: trust.serial(),
        certificate,
        is_issuer: trust.is_issuer(&me),
    }
}

/// That another process uses this node's identity, and the peers whose identity two processes use.
pub fn doubles(core: &starling_core::Status) -> (Option<String>, Vec<DoubledPeer>) {
    (core.double.as_ref().map(identity_conflict), core.doubled_peers.iter().map(doubled_peer).collect())
}

/// That another process, with this record, uses this node's identity.
fn identity_conflict((record, seen_ms): &(NodeRecord, u64)) -> String {
    let sign = admin::sign(*seen_ms, SIGN_MS.saturating_sub(*seen_ms));
    format!("another process uses this node's identity: {}; {sign}", process(record))
}

/// A peer that is refused for misbehaviour.
pub fn banned_peer(banned: &starling_p2p::BanReport) -> BannedPeer {
    BannedPeer {
        id: hex(&banned.peer.0),
        address: banned.from.map(|from| from.to_string()),
        reason: banned.what.clone(),
        left_ms: u64::try_from(banned.left.as_millis()).unwrap_or(u64::MAX),
    }
}

/// One of two processes with one identity.
fn process(record: &NodeRecord) -> DoubledProcess {
    DoubledProcess {
        name: record.name.clone(),
        started_ms: record.incarnation,
        addresses: record.addresses.clone(),
    }
}

/// A peer whose identity two processes use.
fn doubled_peer(found: &CoreDoubledPeer) -> DoubledPeer {
    let CoreDoubledPeer { processes, seen_ms } = found;
    DoubledPeer {
        id: hex(&processes[0].id.0),
        processes: processes.iter().map(process).collect(),
        seen_ms: *seen_ms,
        shown_ms: SIGN_MS.saturating_sub(*seen_ms),
    }
}

/// The overlay of a finished crawl; `has_left` says which of the silent nodes are known to have left.
pub fn nodes(found: &[Description], silent: &[NodeRecord], has_left: impl Fn(&NodeRecord) -> bool) -> Nodes {
    let claims: BTreeSet<(NodeId, NodeId)> =
        found.iter().flat_map(|node| node.active.iter().map(|peer| (node.record.id, *peer))).collect();
    let links: BTreeSet<(NodeId, NodeId)> = claims.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
    let edge = |(a, b): &(NodeId, NodeId)| Edge {
        a: hex(&a.0),
        b: hex(&b.0),
        mutual: claims.contains(&(*a, *b)) && claims.contains(&(*b, *a)),
    };
    let node = |node: &Description| Node {
        id: hex(&node.record.id.0),
        name: node.record.name.clone(),
        role: role(node.record.role),
        labels: labels(&node.record),
        version: node.version.clone(),
        addresses: node.record.addresses.clone(),
        active: node.active.iter().map(|peer| hex(&peer.0)).collect(),
        root: node.root.as_ref().map(root),
        entries: node.entries,
        uptime_ms: node.uptime_ms,
        abilities: node.abilities.map(abilities),
        standing: node.standing.as_ref().map(standing),
    };
    let unreachable = |record: &NodeRecord| Unreachable {
        id: hex(&record.id.0),
        name: record.name.clone(),
        addresses: record.addresses.clone(),
        left: has_left(record),
    };
    let mut nodes: Vec<Node> = found.iter().map(node).collect();
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Nodes {
        nodes,
        edges: links.iter().map(edge).collect(),
        unreachable: silent.iter().map(unreachable).collect(),
        identity_conflict: None,
        doubled_peers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(id: u8, active: &[u8]) -> Description {
        let record =
            NodeRecord { name: format!("n{id}"), ..NodeRecord::new(NodeId([id; 32]), 1, Role::Replica) };
        let active = active.iter().map(|id| NodeId([*id; 32])).collect();
        Description {
            record,
            version: String::new(),
            active,
            known: Vec::new(),
            root: None,
            entries: 0,
            uptime_ms: 0,
            abilities: None,
            standing: None,
        }
    }

    #[test]
    fn each_link_is_one_edge_and_one_sided_ones_show() {
        let gone = [description(3, &[]).record, description(4, &[]).record];
        let has_left = |record: &NodeRecord| record.name == "n4";
        let found = nodes(&[description(2, &[1, 3]), description(1, &[2])], &gone, has_left);
        let names: Vec<_> = found.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2"]);
        let edges: Vec<_> = found.edges.iter().map(|e| (&e.a[..2], &e.b[..2], e.mutual)).collect();
        assert_eq!(edges, [("01", "02", true), ("02", "03", false)]);
        assert_eq!(found.unreachable.iter().map(|node| node.left).collect::<Vec<_>>(), [false, true]);
    }
}
