//! The status of a node, its peers and its network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::trust::Standing;
pub use starling_types::strong::{Leaderless, SilentVoter, replace_revoked};

/// The status of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Chosen by the operator.
    pub name: String,
    /// The node's public key in hexadecimal.
    pub id: String,
    /// "replica" or "seed".
    pub role: String,
    /// Chosen by the operator.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Version of its software.
    pub version: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The network's id in hexadecimal.
    pub network: String,
    /// Multiaddresses where peers reach it.
    pub listen: Vec<String>,
    /// Whether it knows a live peer, or was configured without peers to join.
    pub joined: bool,
    /// While it knows no live peer: addresses where it looks for one and no node has answered, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_contacts: Vec<FailedContact>,
    /// Fingerprint of the whole replica in hexadecimal: equal on two nodes if and only if their data
    /// and their histories are. Absent while it is rebuilt, and on seeds.
    pub root: Option<String>,
    /// Peers in the active view.
    pub active: u64,
    /// Peers in the passive view.
    pub passive: u64,
    /// Live entries: values, members and fields.
    pub entries: u64,
    /// When a write is on the disk: "always", "everysec" or "no".
    pub durability: String,
    /// Why writes are rejected, if storage has failed.
    pub storage_error: Option<String>,
    /// The replicas of strong keyspaces on this node that do not work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_replicas: Vec<ClosedReplica>,
    /// The replicas of strong keyspaces on this node that work and need an operator's attention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub impaired_replicas: Vec<ImpairedReplica>,
    /// Replicas of strong keyspaces that were removed from their keyspace and are kept on this node for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_replicas: Vec<KeptReplica>,
    /// Strong keyspaces of which this node is a voter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<String>,
    /// Strong keyspaces with a replica on this node that have had no leader for some seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaderless: Vec<Leaderless>,
    /// Voters of the strong keyspaces that this node leads that have sent it nothing for some seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent_voters: Vec<SilentVoter>,
    /// That another process uses this node's identity, if one lately did, until when this is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_conflict: Option<String>,
    /// Whether the replicas of strong keyspaces here take no part in their keyspaces, and so know nothing of other members:
    /// another process that uses this node's identity has started later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// The peers whose identity two processes lately used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubled_peers: Vec<DoubledPeer>,
    /// Peers that were disconnected for misbehaviour and are still refused, the last one first; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub banned_peers: Vec<BannedPeer>,
    /// Traffic since the start, by class.
    pub traffic: Traffic,
    /// Full rumors received that changed the store.
    pub payload_new: u64,
    /// Full rumors received that changed nothing.
    pub payload_old: u64,
    /// Every other counter, by name.
    pub counters: BTreeMap<String, u64>,
}

/// An address where a node looks for a first peer, and has found none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedContact {
    /// The multiaddress.
    pub address: String,
    /// Why, as text.
    pub reason: String,
}

impl std::fmt::Display for FailedContact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A failed dial names the addresses that it has tried.
        if self.reason.contains(&self.address) {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.address, self.reason)
    }
}

/// That a node has no peer, and where it has looked for one.
pub fn no_peer(tried: &[FailedContact]) -> String {
    let tried: Vec<String> = tried.iter().map(FailedContact::to_string).collect();
    let tried = if tried.is_empty() { String::new() } else { format!("; tried {}", tried.join(", ")) };
    format!("no peer is connected{tried}")
}

/// What to do about it.
pub const NO_PEER_HINT: &str = "start a node of the join list, or look for what keeps this one from reaching it; where all have \
                                other addresses now, or refuse this one for its certificate, `starling ticket` on a running \
                                node (in a network with an authority: on an issuer, `starling authority show` names them; \
                                with --seed for a seed) prints a ticket with its own, which this one takes with --join. Reads \
                                and writes of a replica work meanwhile, on its copy";

/// A peer whose identity two processes use: its data directory or machine was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoubledPeer {
    /// Its public key in hexadecimal.
    pub id: String,
    /// The two processes, the one that started first before the other one.
    pub processes: Vec<DoubledProcess>,
    /// Milliseconds since the last sign of both.
    pub seen_ms: u64,
    /// Milliseconds until this is no longer shown, if there is no other sign of both.
    pub shown_ms: u64,
}

/// One of two processes with one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoubledProcess {
    /// The name that its operator chose.
    pub name: String,
    /// When it started, by its own clock, milliseconds since 1970.
    pub started_ms: u64,
    /// Its multiaddresses.
    pub addresses: Vec<String>,
}

impl std::fmt::Display for DoubledProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.addresses.first().map_or_else(String::new, |address| format!(" at {address}"));
        write!(f, "{}{at}, started {}", self.name, time_of(self.started_ms))
    }
}

impl std::fmt::Display for DoubledPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes: Vec<String> = self.processes.iter().map(DoubledProcess::to_string).collect();
        write!(
            f,
            "two processes use the identity {}: {}: its data directory or machine was copied; {}",
            self.id.get(..8).unwrap_or(&self.id),
            processes.join(", and "),
            sign(self.seen_ms, self.shown_ms)
        )
    }
}

/// A peer that was disconnected for misbehaviour. While it is refused, so are strangers from its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BannedPeer {
    /// Its public key in hexadecimal.
    pub id: String,
    /// The IP address that it was connected from; null if that is not known.
    pub address: Option<String>,
    /// What it sent.
    pub reason: String,
    /// Milliseconds for which it is still refused.
    pub left_ms: u64,
}

impl std::fmt::Display for BannedPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.id.get(..8).unwrap_or(&self.id);
        let from = self.address.as_ref().map_or_else(String::new, |address| format!(" from {address}"));
        let (reason, left) = (&self.reason, self.left_ms.div_ceil(1000));
        write!(f, "peer {id}{from} was disconnected for misbehaviour: {reason}; refused for {left} s more")
    }
}

/// When there was a sign of something, and for how long it is still shown, for people.
pub fn sign(seen_ms: u64, shown_ms: u64) -> String {
    format!(
        "last sign {} s ago, shown for {} s more without another one",
        seen_ms / 1000,
        shown_ms.div_ceil(1000)
    )
}

/// The last time that [`time_of`] writes out, milliseconds since 1970: the end of the year 9999.
const TIME_MAX_MS: u64 = 253_402_300_799_999;

/// A time in milliseconds since 1970, for people. Peers' clocks may say anything.
pub fn time_of(ms: u64) -> String {
    if ms > TIME_MAX_MS {
        return format!("{ms} ms after 1970");
    }
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms))
}

/// A replica of a strong keyspace that does not work. The other members continue without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClosedReplica {
    /// The keyspace's name.
    pub keyspace: String,
    /// Why the replica does not work.
    pub reason: String,
}

/// A replica of a strong keyspace that works and needs an operator's attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImpairedReplica {
    /// The keyspace's name.
    pub keyspace: String,
    /// Why.
    pub reason: String,
}

/// A replica that was removed from its strong keyspace. It serves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptReplica {
    /// The keyspace's name.
    pub keyspace: String,
    /// Milliseconds since it was removed.
    pub age_ms: u64,
    /// Bytes of its keys and values, history included.
    pub bytes: u64,
    /// Whether it may have writes that the keyspace lacks since its unsafe recovery.
    pub may_have_more: bool,
}

impl std::fmt::Display for ClosedReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "strong keyspace {:?}: {}", self.keyspace, self.reason)
    }
}

impl std::fmt::Display for ImpairedReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "strong keyspace {:?}: its replica here {}", self.keyspace, self.reason)
    }
}

/// Traffic with peers by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Views, heartbeats, announcements.
    pub control: Flow,
    /// Full rumors.
    pub rumor: Flow,
    /// Anti-entropy sessions.
    pub sync: Flow,
    /// Strong keyspaces.
    #[serde(default)]
    pub strong: Flow,
}

impl Traffic {
    /// Bytes of frames of all classes, sent and received.
    pub fn bytes(&self) -> u64 {
        [self.control, self.rumor, self.sync, self.strong]
            .iter()
            .map(|flow| flow.bytes_in + flow.bytes_out)
            .sum()
    }
}

/// Frames and their bytes, before encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

/// The peers a node knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Active ones first.
    pub peers: Vec<Peer>,
    /// That another process uses this node's identity, if one lately did, until when this is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_conflict: Option<String>,
    /// Those whose identity two processes lately used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubled_peers: Vec<DoubledPeer>,
    /// Those that were disconnected for misbehaviour and are still refused, the last one first; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub banned_peers: Vec<BannedPeer>,
}

/// One peer, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its public key in hexadecimal.
    pub id: String,
    /// Chosen by its operator.
    pub name: String,
    /// "replica" or "seed".
    pub role: String,
    /// Chosen by the operator.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// "active", "passive", or "other" (connected for a session, or a seed).
    pub view: String,
    /// Whether a connection is open.
    pub connected: bool,
    /// Whether two processes lately used its identity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubled: bool,
    /// Its multiaddresses.
    pub addresses: Vec<String>,
    /// Suspicion of the failure detector, for active peers.
    pub phi: Option<f64>,
    /// Last round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Whether full rumors are pushed to it at once.
    pub eager: Option<bool>,
    /// Bytes received from it over the open connection.
    pub bytes_in: u64,
    /// Bytes sent to it over the open connection.
    pub bytes_out: u64,
}

/// The overlay, as found by a crawl.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    /// Every node that answered.
    pub nodes: Vec<Node>,
    /// Links of active views; `a < b`, each link once.
    pub edges: Vec<Edge>,
    /// Nodes that other nodes remember and that did not answer.
    pub unreachable: Vec<Unreachable>,
    /// That another process uses the identity of the node that was asked, if one lately did, until when this is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_conflict: Option<String>,
    /// The peers of the node that was asked whose identity two processes lately used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubled_peers: Vec<DoubledPeer>,
}

/// A link between two nodes, by their ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Edge {
    /// One end.
    pub a: String,
    /// The other end.
    pub b: String,
    /// Whether both ends have the other in their active view.
    pub mutual: bool,
}

/// A node's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its public key in hexadecimal.
    pub id: String,
    /// Chosen by its operator.
    pub name: String,
    /// "replica" or "seed".
    pub role: String,
    /// Chosen by the operator.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Version of its software.
    pub version: String,
    /// Its multiaddresses.
    pub addresses: Vec<String>,
    /// Ids of its active view.
    pub active: Vec<String>,
    /// Its root fingerprint in hexadecimal.
    pub root: Option<String>,
    /// Live entries.
    pub entries: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The capabilities of its software; absent if it is too old to report them.
    #[serde(default)]
    pub abilities: Option<Abilities>,
    /// Its credentials; absent without an authority.
    #[serde(default)]
    pub standing: Option<Standing>,
}

/// The capabilities of a node's software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Abilities {
    /// The oldest version of the protocol that it speaks.
    pub protocol_min: u8,
    /// The newest version of the protocol that it speaks.
    pub protocol_max: u8,
    /// Optional features, one bit each.
    pub features: u64,
    /// The newest version of data that it reads and writes.
    pub data_newest: u16,
    /// The version of data that is in force, as far as it knows.
    pub data_in_force: u16,
}

/// The progress of an upgrade of the network, as found by a crawl.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upgrade {
    /// The version of data that is in force: what nodes may write.
    pub in_force: u16,
    /// The newest version of data that the node that was asked can write.
    pub newest: u16,
    /// Why the newest version cannot be switched on yet, one reason per node. Empty if it is in force.
    pub obstacles: Vec<String>,
    /// Every node that answered.
    pub nodes: Vec<Node>,
    /// Nodes that other nodes remember and that did not answer.
    pub unreachable: Vec<Unreachable>,
}

/// Switches the newest version of data on, permanently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finalize {
    /// Whether to do so despite obstacles: a node that cannot read the version keeps and forwards the data that it
    /// cannot read, and does not show it to its clients.
    #[serde(default)]
    pub force: bool,
}

/// A node that did not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unreachable {
    /// Its public key in hexadecimal.
    pub id: String,
    /// Its name in the record that another node has.
    pub name: String,
    /// Its multiaddresses in that record.
    pub addresses: Vec<String>,
    /// Whether it has left: it was a neighbour of the node that was asked, and has taken its leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

impl Unreachable {
    /// What became of it, for people.
    pub fn state(&self) -> &'static str {
        if self.left { "left" } else { "no answer" }
    }
}

/// The result of a check of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Doctor {
    /// Whether there are no findings.
    pub healthy: bool,
    /// Counts of actors, entries and the like, by name.
    pub counts: BTreeMap<String, u64>,
    /// The problems, each with what to do.
    pub findings: Vec<Finding>,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The problem.
    pub what: String,
    /// What to do next.
    pub hint: String,
}

/// The effective configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Configuration {
    /// Every setting.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its name in the file; `.` separates tables.
    pub key: String,
    /// The effective value as TOML. A secret is shown as "***".
    pub value: String,
    /// Where it comes from: "default", "file PATH", "environment NAME" or "flag --NAME".
    pub source: String,
}

/// A join ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// The string that another node needs to join. Any node that has it can join: treat it as a password.
    pub ticket: String,
}

/// Name of the file in the data directory that a running node writes once it listens.
pub const RUN_FILE: &str = "run.json";

/// Name of the unix socket in the data directory on which a running node serves its whole API, to its own user.
pub const SOCKET_FILE: &str = "api.sock";

/// Content of [`RUN_FILE`]: written in one step after the start, removed by a clean stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Address of the API: `host:port`, with TLS `https://host:port`, or `unix:PATH` where it listens on its unix socket
    /// alone.
    pub api: String,
    /// Multiaddresses where peers reach it.
    pub listen: Vec<String>,
    /// Where etcd clients are served, each as `host:port=keyspace`, with TLS `https://host:port=keyspace`.
    #[serde(default)]
    pub etcd: Vec<String>,
    /// Process id.
    pub pid: u32,
    /// The node's public key in hexadecimal.
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_and_any_number_is_one() {
        assert_eq!(time_of(1_764_457_961_500), "Sat, 29 Nov 2025 23:12:41 GMT");
        assert!(time_of(TIME_MAX_MS).contains("9999"));
        assert!(time_of(u64::MAX).contains("ms after 1970"));
    }

    #[test]
    fn a_doubled_peer_is_named_with_both_processes_and_the_end_of_the_message() {
        let process = |name: &str, started_ms, addresses: &[&str]| DoubledProcess {
            name: name.into(),
            started_ms,
            addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
        };
        let processes = vec![process("anna", 0, &["/ip4/10.0.0.1/tcp/7400"]), process("copy", 1_000, &[])];
        let peer = DoubledPeer { id: "0123456789ab".into(), processes, seen_ms: 4_100, shown_ms: 55_900 };
        let expected = "two processes use the identity 01234567: anna at /ip4/10.0.0.1/tcp/7400, started Thu, 01 Jan 1970 \
                        00:00:00 GMT, and copy, started Thu, 01 Jan 1970 00:00:01 GMT: its data directory or machine was \
                        copied; last sign 4 s ago, shown for 56 s more without another one";
        assert_eq!(peer.to_string(), expected);
    }
}
