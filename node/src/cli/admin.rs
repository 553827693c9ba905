//! Commands on the node itself: status, peers, nodes, doctor, config, ticket.

use std::collections::BTreeMap;
use std::path::Path;

use starling_api::admin::{Abilities, Configuration, Doctor, DoubledPeer, Finalize, Nodes, Status, Upgrade};
use starling_service::{StartError, examine};

use super::Session;
use super::args::Output;
use super::failure::Failure;
use super::print::{self, Result, size, span};

/// Of a replica that was removed when another one was recovered.
const KEPT_MORE: &str = "a removed replica that may have writes which the keyspace lacks; `starling keyspace replicas` compares them";

impl Session {
    pub(super) async fn status(&self) -> Result {
        let mut status = self.client.status().await?;
        self.add_silent_voters(&mut status).await;
        if self.output == Output::Json { print::json(&status) } else { show_status(&status) }
    }

    pub(super) async fn peers(&self) -> Result {
        let found = self.client.peers().await?;
        if self.output == Output::Json {
            return print::json(&found);
        }
        note_doubles(found.identity_conflict.as_ref(), &found.doubled_peers);
        found.banned_peers.iter().for_each(|peer| print::note(peer.to_string()));
        let optional = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.1}"));
        let rows = found.peers.into_iter().map(|peer| {
            let link = match (peer.connected, peer.eager) {
                (false, _) => "-",
                (true, Some(true)) => "eager",
                (true, Some(false)) => "lazy",
                (true, None) => "open",
            };
            [
                short(&peer.id),
                peer.name,
                peer.role,
                labels(&peer.labels),
                peer.view,
                link.to_owned(),
                optional(peer.phi),
                optional(peer.rtt_ms),
                size(peer.bytes_in),
                size(peer.bytes_out),
                peer.addresses.first().cloned().unwrap_or_default(),
            ]
        });
        print::table(
            ["ID", "NAME", "ROLE", "LABELS", "VIEW", "LINK", "PHI", "RTT MS", "IN", "OUT", "ADDRESS"],
            rows,
        )
    }

    pub(super) async fn nodes(&self, dot: bool) -> Result {
        let found = self.client.nodes().await?;
        if dot {
            return print::line(graphviz(&found));
        }
        if self.output == Output::Json {
            return print::json(&found);
        }
        note_doubles(found.identity_conflict.as_ref(), &found.doubled_peers);
        let answered = found.nodes.iter().map(|node| {
            [
                short(&node.id),
                node.name.clone(),
                node.role.clone(),
                labels(&node.labels),
                node.active.len().to_string(),
                node.entries.to_string(),
                node.root.as_deref().map_or_else(|| "-".into(), short),
                span(node.uptime_ms),
                node.addresses.first().cloned().unwrap_or_default(),
            ]
        });
        let silent = found.unreachable.iter().map(|node| {
            let dash = || "-".to_owned();
            let address = node.addresses.first().cloned().unwrap_or_default();
            let id = short(&node.id);
            [id, node.name.clone(), node.state().into(), dash(), dash(), dash(), dash(), dash(), address]
        });
        let header = ["ID", "NAME", "ROLE", "LABELS", "ACTIVE", "ENTRIES", "ROOT", "UP", "ADDRESS"];
        print::table(header, answered.chain(silent))
    }

    pub(super) async fn upgrade_status(&self) -> Result {
        self.show_upgrade(&self.client.upgrade().await?)
    }

    pub(super) async fn finalize_upgrade(&self, force: bool) -> Result {
        self.show_upgrade(&self.client.finalize_upgrade(&Finalize { force }).await?)
    }

    fn show_upgrade(&self, found: &Upgrade) -> Result {
        if self.output == Output::Json {
            return print::json(found);
        }
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let answered = found.nodes.iter().map(|node| {
            let says = |show: fn(&Abilities) -> String| or_dash(node.abilities.as_ref().map(show));
            [
                short(&node.id),
                node.name.clone(),
                node.role.clone(),
                node.version.clone(),
                says(|it| format!("{} to {}", it.protocol_min, it.protocol_max)),
                says(|it| format!("{:#x}", it.features)),
                says(|it| it.data_newest.to_string()),
                says(|it| it.data_in_force.to_string()),
            ]
        });
        let silent = found.unreachable.iter().map(|node| {
            let dash = || "-".to_owned();
            [short(&node.id), node.name.clone(), node.state().into(), dash(), dash(), dash(), dash(), dash()]
        });
        let header = ["ID", "NAME", "ROLE", "VERSION", "PROTOCOL", "FEATURES", "READS DATA", "IN FORCE"];
        print::table(header, answered.chain(silent))?;
        let Upgrade { in_force, newest, obstacles, .. } = found;
        if in_force >= newest {
            return print::line(format!("data version {in_force} is in force"));
        }
        print::line(format!("data version {in_force} is in force; {newest} can be switched on"))?;
        obstacles.iter().try_for_each(|obstacle| print::line(format!("not yet: {obstacle}")))?;
        if obstacles.is_empty() { print::line("next: starling upgrade finalize") } else { Ok(()) }
    }

    pub(super) async fn doctor(&self) -> Result {
        show_doctor(&self.client.doctor().await?, self.output)
    }

    pub(super) async fn leave(&self, force: bool) -> Result {
        let Status { name, votes, kept_replicas, .. } = self.client.status().await?;
        let is_issuer = self.client.trust().await?.is_issuer;
        self.client.leave(force).await?;
        if is_issuer {
            print::note(format!("it stays an issuer until  starling issuer rm {name}  on another node"));
        }
        if !votes.is_empty() {
            let votes = votes.join(", ");
            print::note(if force {
                format!("its votes in {votes} stay: a majority has to do without this node")
            } else {
                format!("other nodes have taken its votes in {votes}")
            });
        }
        for replica in kept_replicas.iter().filter(|replica| replica.may_have_more) {
            print::note(format!("its data directory keeps {}: {KEPT_MORE}", replica.keyspace));
        }
        print::note(format!("{name} leaves the network and stops; its data directory stays"));
        Ok(())
    }

    pub(super) async fn config(&self) -> Result {
        show_config(&self.client.config().await?, self.output)
    }
}

/// Notes identities that several processes use, because they make links flap and nodes appear and disappear.
fn note_doubles(own: Option<&String>, peers: &[DoubledPeer]) {
    let peers = peers.iter().map(DoubledPeer::to_string);
    own.cloned().into_iter().chain(peers).for_each(print::note);
}

/// Checks the store of a stopped node.
pub fn doctor_offline(data_dir: &Path, output: Option<Output>) -> Result {
    let report = examine(data_dir).map_err(|error| {
        let hint = match error {
            StartError::Store(starling_kv::Error::Locked { .. }) => {
                "without --data-dir the running node is asked".into()
            }
            _ => error.hint(),
        };
        Failure::failed(error.to_string(), hint)
    })?;
    show_doctor(&report, output.unwrap_or(Output::Table))
}

/// Prints settings with their sources.
pub fn show_config(configuration: &Configuration, output: Output) -> Result {
    if output == Output::Json {
        return print::json(configuration);
    }
    let rows = configuration.settings.iter().map(|s| [s.key.clone(), s.value.clone(), s.source.clone()]);
    print::table(["KEY", "VALUE", "FROM"], rows)
}

pub(super) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let each: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if each.is_empty() { "-".into() } else { each.join(",") }
}

fn show_status(status: &Status) -> Result {
    let root = match (&status.root, status.role.as_str()) {
        (Some(root), _) => root.clone(),
        (None, "seed") => "- (a seed keeps no data)".into(),
        (None, _) => "- (being rebuilt)".into(),
    };
    let joined = if status.joined { "joined" } else { "looking for peers" };
    let traffic: u64 = status.traffic.bytes();
    let mut pairs = vec![
        ("name", status.name.clone()),
        ("id", status.id.clone()),
        ("role", status.role.clone()),
        ("labels", labels(&status.labels)),
        ("version", status.version.clone()),
        ("up", span(status.uptime_ms)),
        ("network", format!("{} ({joined})", status.network)),
        ("listen", status.listen.join(" ")),
        ("views", format!("{} active, {} passive", status.active, status.passive)),
        ("entries", status.entries.to_string()),
        ("root", root),
        ("durability", status.durability.clone()),
        ("rumors", format!("{} new, {} old", status.payload_new, status.payload_old)),
        ("traffic", size(traffic)),
    ];
    pairs.extend(status.failed_contacts.iter().map(|contact| ("no peer at", contact.to_string())));
    pairs.extend(status.storage_error.iter().map(|error| ("storage", error.clone())));
    pairs.extend(status.closed_replicas.iter().map(|replica| ("closed", replica.to_string())));
    pairs.extend(status.impaired_replicas.iter().map(|replica| ("impaired", replica.to_string())));
    let lacking = status.kept_replicas.iter().filter(|replica| replica.may_have_more);
    pairs.extend(lacking.map(|replica| ("kept", format!("{}: {KEPT_MORE}", replica.keyspace))));
    if !status.votes.is_empty() {
        pairs.push(("votes for", status.votes.join(" ")));
    }
    pairs.extend(status.leaderless.iter().map(|keyspace| ("no leader", keyspace.to_string())));
    pairs.extend(status.silent_voters.iter().map(|voter| ("silent", voter.to_string())));
    pairs.extend(status.identity_conflict.iter().map(|conflict| ("identity", conflict.clone())));
    pairs.extend(status.doubled_peers.iter().map(|peer| ("identity", peer.to_string())));
    pairs.extend(status.banned_peers.iter().map(|peer| ("banned", peer.to_string())));
    let counted = status.counters.iter().filter(|(_, count)| **count > 0);
    pairs.extend(counted.map(|(name, count)| (name.as_str(), count.to_string())));
    print::pairs(pairs)
}

fn show_doctor(report: &Doctor, output: Output) -> Result {
    if output == Output::Json {
        print::json(report)?;
    } else {
        print::pairs(report.counts.iter().map(|(name, count)| (name.as_str(), count.to_string())))?;
        for finding in &report.findings {
            print::line(format!("WRONG: {}\n  try: {}", finding.what, finding.hint))?;
        }
    }
    if report.healthy {
        return if output == Output::Json { Ok(()) } else { print::line("healthy") };
    }
    Err(Failure::failed("the node is not healthy", "do what stands below each thing that is wrong"))
}

/// The topology for Graphviz: links known to one end only are dashed.
fn graphviz(nodes: &Nodes) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string serializes");
    let mut lines = vec![
        "graph starling {".to_owned(),
        "  layout=neato; overlap=false; splines=true;".to_owned(),
        "  node [shape=box style=rounded fontname=\"sans-serif\"];".to_owned(),
    ];
    lines.extend(nodes.nodes.iter().map(|node| {
        let style = if node.role == "seed" { " style=dashed" } else { "" };
        format!("  {} [label={}{style}];", quoted(&node.id), quoted(&node.name))
    }));
    lines.extend(nodes.unreachable.iter().map(|node| {
        format!("  {} [label={} color=red fontcolor=red];", quoted(&node.id), quoted(&node.name))
    }));
    lines.extend(nodes.edges.iter().map(|edge| {
        let style = if edge.mutual { "" } else { " [style=dashed]" };
        format!("  {} -- {}{style};", quoted(&edge.a), quoted(&edge.b))
    }));
    lines.push("}".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_api::admin::{Edge, Node};

    #[test]
    fn names_cannot_break_the_graph() {
        let node = Node { id: "ab".into(), name: "x\"]; evil".into(), ..Node::default() };
        let edge = Edge { a: "ab".into(), b: "cd".into(), mutual: false };
        let graph = graphviz(&Nodes { nodes: vec![node], edges: vec![edge], ..Nodes::default() });
        assert!(graph.contains(r#""ab" [label="x\"]; evil"];"#), "{graph}");
        assert!(graph.contains(r#""ab" -- "cd" [style=dashed];"#), "{graph}");
    }
}
