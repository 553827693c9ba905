//! Settings of a node.

use std::path::PathBuf;

use starling_core::Software;
use starling_core::strong::StrongConfig;
use starling_kv::Limits;
use starling_proto::Role;
use starling_proto::detector::DetectorConfig;
use starling_proto::sync::SyncConfig;
use starling_proto::view::ViewConfig;
use starling_rocks::RocksOptions;

/// Where peers connect by default. On a machine without one of the protocols, its addresses are left out.
pub const LISTEN_DEFAULT: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/7400",
    "/ip4/0.0.0.0/udp/7400/quic-v1",
    "/ip6/::/tcp/7400",
    "/ip6/::/udp/7400/quic-v1",
];

/// How long a certificate is valid by default: 30 days. A guess: an issuer may be away for ten days, and a lost node that
/// nobody revokes is out after a month.
const CERTIFICATE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Settings of a node. [`Config::new`] has the defaults; [`Node::start`](crate::Node::start) checks the
/// bounds, and its error names the setting as the configuration file does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the node's identity, its network's secret, its peers and its data.
    pub data_dir: PathBuf,
    /// Whether the node keeps data or only helps others to find each other.
    pub role: Role,
    /// Name of the node for display, at most 64 bytes. It is not an identity.
    pub name: String,
    /// Labels of the node, as `zone=a`: at most 8, displayed, and signed with its addresses.
    pub labels: Vec<String>,
    /// Multiaddresses where peers connect. Port 0 lets the system choose.
    pub listen: Vec<String>,
    /// Multiaddresses announced to peers instead of the listening ones, if not empty.
    pub external: Vec<String>,
    /// Join tickets, multiaddresses and DNS names through which the network is found at first.
    pub join: Vec<String>,
    /// Whether peers are searched on the local network by mDNS.
    pub mdns: bool,
    /// A voter of a strong keyspace that was silent for this long is replaced, ms. 0: never.
    pub strong_replace_ms: u64,
    /// Last revisions of a strong keyspace that are kept for reads and watches, whatever their age.
    pub strong_history_revisions: u64,
    /// Age up to which other revisions are kept, ms. 0: nothing is compacted automatically.
    pub strong_history_ms: u64,
    /// How long a replica is kept that was removed from its strong keyspace, ms. 0: not at all.
    pub strong_aside_ms: u64,
    /// Bytes of all such replicas, at most.
    pub strong_aside_bytes: u64,
    /// Bytes of a strong keyspace, history included, beyond which writes that need space are refused.
    pub strong_quota_bytes: u64,
    /// How long a certificate is valid that this node gives as an issuer, ms.
    pub certificate_ms: u64,
    /// When a write is on the disk.
    pub durability: Durability,
    /// Longest key, bytes.
    pub key_bytes_max: u64,
    /// Largest value of a register or of a map's field, bytes.
    pub value_bytes_max: u64,
    /// Longest member of a set and longest name of a map's field, bytes.
    pub field_bytes_max: u64,
    /// Largest batch, bytes.
    pub batch_bytes_max: u64,
    /// Peers in the active view, 4 to 64.
    pub active_view: u64,
    /// Peers in the passive view.
    pub passive_view: u64,
    /// Time between two shuffles, ms; they are more frequent for a while after a start.
    pub shuffle_interval_ms: u64,
    /// Time within which a silent neighbour is suspected, ms.
    pub detect_ms: u64,
    /// Time between two anti-entropy sessions, ms.
    pub sync_interval_ms: u64,
    /// Keyspaces and URLs at which this node serves them to etcd clients, announced to other nodes.
    pub client_urls: Vec<(String, String)>,
    /// Most connections with peers.
    pub connections_max: u64,
    /// Bound of the queue of full rumors to one peer, bytes.
    pub queue_bytes: u64,
    /// Block cache of the storage engine, bytes.
    pub cache_bytes: u64,
    /// What the node speaks and reads. Anything but the default is for tests of upgrades.
    pub software: Software,
}

impl Config {
    /// The defaults of a replica with this data directory: a new network, peers on port 7400 of every
    /// interface.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let (limits, views) = (Limits::default(), ViewConfig::default());
        let (driver, strong) = (starling_p2p::Limits::default(), StrongConfig::default());
        Self {
            data_dir: data_dir.into(),
            role: Role::Replica,
            name: "starling".into(),
            labels: Vec::new(),
            listen: LISTEN_DEFAULT.map(Into::into).to_vec(),
            external: Vec::new(),
            join: Vec::new(),
            mdns: false,
            strong_replace_ms: starling_core::strong::REPLACE_MS,
            strong_history_revisions: strong.history.revisions,
            strong_history_ms: strong.history.ms,
            strong_aside_ms: strong.aside.keep_ms,
            strong_aside_bytes: strong.aside.bytes_max,
            strong_quota_bytes: strong.machine.quota_bytes,
            certificate_ms: CERTIFICATE_MS,
            durability: Durability::EverySecond,
            key_bytes_max: limits.key_bytes_max as u64,
            value_bytes_max: limits.value_bytes_max as u64,
            field_bytes_max: limits.field_bytes_max as u64,
            batch_bytes_max: limits.batch_bytes_max as u64,
            active_view: views.active_max as u64,
            passive_view: views.passive_max as u64,
            shuffle_interval_ms: views.shuffle_ms,
            detect_ms: DetectorConfig::default().detect_ms,
            sync_interval_ms: SyncConfig::default().interval_ms,
            client_urls: Vec::new(),
            connections_max: driver.connections_max.into(),
            queue_bytes: driver.rumor_queue_bytes_max as u64,
            software: Software { version: env!("CARGO_PKG_VERSION").into(), ..Software::default() },
            cache_bytes: RocksOptions::default().cache_bytes as u64,
        }
    }
}

/// When a write is on the disk, as Redis users know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged; concurrent writes share one sync.
    Always,
    /// At most a second after.
    EverySecond,
    /// When the system gets round to it.
    No,
}

impl Durability {
    /// Its name in the configuration and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }
}
