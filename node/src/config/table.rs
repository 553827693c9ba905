//! The table of settings, from which the typed [`Config`], the parsing of files, environment and flags,
//! `starling config` and its reference are generated.

use std::path::PathBuf;

use starling_service::Durability;

use super::kind::{Kind, LogFormat};
use super::load::{ConfigError, Layers};

/// One row of the table.
pub struct Row {
    /// Name in the file; `.` separates tables.
    pub key: &'static str,
    /// The purpose of the setting.
    pub doc: &'static str,
    /// Unit of its value; empty for text and switches.
    pub unit: &'static str,
    /// The default as TOML, or in words where it depends on the machine.
    pub default: fn() -> String,
    /// Whether its value is never shown.
    pub secret: bool,
}

impl Row {
    /// The environment variable: `STARLING_` and the key in capitals, `.` as `_`.
    pub fn variable(&self) -> String {
        format!("STARLING_{}", self.key.to_uppercase().replace('.', "_"))
    }
}

/// A default that depends on the machine is shown in words (`shown`), any other as its value.
macro_rules! default_text {
    ($value:expr, $shown:literal) => {
        || $shown.to_owned()
    };
    ($value:expr,) => {
        || Kind::show(&$value)
    };
}

macro_rules! settings {
    ($( $field:ident: $kind:ty = $key:literal, $unit:literal, $default:expr $(, shown $shown:literal)? $(, secret $secret:literal)?; $doc:literal )*) => {
        /// The effective configuration of a node.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( #[doc = $doc] pub $field: $kind, )*
        }

        /// Every setting, in the order of the reference.
        pub const SETTINGS: &[Row] = &[
            $( Row {
                key: $key,
                doc: $doc,
                unit: $unit,
                default: default_text!({ let value: $kind = $default; value }, $($shown)?),
                secret: false $(|| $secret)?,
            }, )*
        ];

        impl Config {
            /// Resolves every setting, and records in `layers` where each value came from.
            pub(super) fn resolve(layers: &mut Layers) -> Result<Self, ConfigError> {
                Ok(Self { $( $field: layers.take($key, || $default)?, )* })
            }
        }
    };
}

settings! {
    data_dir: PathBuf = "data_dir", "", default_data_dir(), shown "$XDG_DATA_HOME/starling or ~/.local/share/starling";
        "Where the node keeps its identity, its network's secret, its peers and its data."
    name: String = "name", "", host_name(), shown "the machine's host name";
        "Name of the node for display; at most 64 bytes; not an identity."
    labels: Vec<String> = "labels", "key=value", Vec::new();
        "Labels of the node, as zone=a: at most 8, displayed, and signed with its addresses. New voters of strong keyspaces are in as many zones (region and zone) as possible, and each node keeps peers of other zones."
    listen: Vec<String> = "listen", "multiaddresses", node().listen;
        "Where peers connect. Port 0 lets the system choose."
    external: Vec<String> = "external", "multiaddresses", Vec::new();
        "Addresses announced to peers instead of the listening ones, for example behind a port forwarding."
    join: Vec<String> = "join", "tickets, @files, multiaddresses or dns names", Vec::new();
        "How to find the network at first: join tickets, @FILE with one per line, - for a line of standard input, HOST:PORT, /ip4/.../tcp/... or /dnsaddr/name."
    mdns: bool = "mdns", "", false;
        "Look for peers on the local network, and be found there."
    api_listen: String = "api.listen", "host:port", starling_api::API_DEFAULT.to_owned();
        "Where the HTTP API listens, beside the unix socket api.sock in the data directory; off: only there. Without a token it serves data, but not administration. Anything but loopback needs TLS, and callers that show who they are: an api.token of 128 bits, api.anonymous = false, or certificates of clients."
    api_plaintext: bool = "api.plaintext", "", false;
        "Whether the API listens for other machines without TLS: whoever is on the way reads the token and the data."
    api_token: Option<String> = "api.token", "", None, secret true;
        "Token that makes who sends it an administrator (Authorization: Bearer ...). With it, every API request by TCP must bear this or one of `starling token add`. Empty: none."
    api_anonymous: bool = "api.anonymous", "", true;
        "Whether callers need no token for data, on loopback or with a client's certificate in TLS: through the API if there is no api.token, and through the etcd server. With false, both want a token: api.token, or one of `starling token add`."
    etcd_listen: Vec<String> = "etcd.listen", "host:port=keyspace", Vec::new();
        "Addresses where etcd clients are served, each with its strong keyspace. Loopback only, unless TLS asks clients for certificates, or api.anonymous is false."
    etcd_advertise: Vec<String> = "etcd.advertise", "url=keyspace", Vec::new();
        "URLs that the lists of members for etcd clients show for this node instead of its etcd.listen, for example of a proxy."
    tls_certificate: Option<String> = "tls.certificate", "path", None;
        "The certificate with which the API and the etcd server are served in TLS 1.3 on TCP, in PEM, with those between it and its authority. Read again once it has changed. Empty: no TLS."
    tls_key: Option<String> = "tls.key", "path", None;
        "The private key of tls.certificate, in PEM."
    tls_client_ca: Option<String> = "tls.client_ca", "path", None;
        "Authorities, in PEM: with it, clients have to have a certificate of one of them."
    strong_replace_ms: u64 = "strong.replace_ms", "ms", node().strong_replace_ms;
        "Time after which a silent voter of a strong keyspace is replaced automatically. 0: never."
    strong_history_revisions: u64 = "strong.history_revisions", "revisions", node().strong_history_revisions;
        "Last revisions of a strong keyspace that its leader keeps for old reads and watches, whatever their age; fewer when more than half of the quota is used."
    strong_history_ms: u64 = "strong.history_ms", "ms", node().strong_history_ms;
        "Age up to which other revisions are kept, until half of the quota is used. 0: nothing is compacted automatically."
    strong_aside_ms: u64 = "strong.aside_ms", "ms", node().strong_aside_ms;
        "How long a replica is kept that was removed from its strong keyspace, for the case that it has writes which the keyspace lacks. 0: not at all."
    strong_aside_bytes: u64 = "strong.aside_bytes", "bytes", node().strong_aside_bytes;
        "Bytes of all such replicas beyond which the oldest is deleted; on a full disk it is deleted, too."
    strong_quota_bytes: u64 = "strong.quota_bytes", "bytes", node().strong_quota_bytes;
        "Bytes of a strong keyspace, history included, beyond which its leader refuses writes that need space."
    certificate_ms: u64 = "trust.certificate_ms", "ms", node().certificate_ms;
        "How long a certificate is valid that this node gives as an issuer of the network's authority. Nodes renew theirs after two thirds of it."
    durability: Durability = "durability", "always, everysec or no", node().durability;
        "When a write is on the disk: before its acknowledgement, within a second, or when the system writes it."
    key_bytes_max: u64 = "limits.key_bytes", "bytes", node().key_bytes_max;
        "Longest key, at most 65536."
    value_bytes_max: u64 = "limits.value_bytes", "bytes", node().value_bytes_max;
        "Largest value of a register or of a map's field, at most 1048576."
    field_bytes_max: u64 = "limits.field_bytes", "bytes", node().field_bytes_max;
        "Longest member of a set and longest name of a map's field, at most 65536."
    batch_bytes_max: u64 = "limits.batch_bytes", "bytes", node().batch_bytes_max;
        "Largest batch, at most 2097152."
    active_view: u64 = "gossip.active_view", "peers", node().active_view;
        "Peers to which a node keeps connections, 4 to 64."
    passive_view: u64 = "gossip.passive_view", "peers", node().passive_view;
        "Peers remembered as replacements."
    shuffle_interval_ms: u64 = "gossip.shuffle_interval_ms", "ms", node().shuffle_interval_ms;
        "Time between two shuffles of the views; they are more frequent for a while after a start."
    detect_ms: u64 = "detector.detect_ms", "ms", node().detect_ms;
        "Time within which a neighbour that stopped without closing its connections is detected."
    sync_interval_ms: u64 = "sync.interval_ms", "ms", node().sync_interval_ms;
        "Time between two anti-entropy sessions with a random neighbour."
    connections_max: u64 = "connections_max", "connections", node().connections_max;
        "Connections with peers, at most."
    queue_bytes: u64 = "queue_bytes", "bytes", node().queue_bytes;
        "Bound of the queue of full rumors to one peer; the newest is dropped."
    cache_bytes: u64 = "store.cache_bytes", "bytes", node().cache_bytes;
        "Block cache of the storage engine."
    log_filter: String = "log.filter", "", "warn,starling=info".to_owned();
        "What is logged, as the `EnvFilter` of tracing-subscriber reads it."
    log_format: LogFormat = "log.format", "text or json", LogFormat::Text;
        "Format of log lines."
}

/// The node's own defaults.
fn node() -> starling_service::Config {
    starling_service::Config::new("")
}

/// The directory of a node that was not given another.
pub fn default_data_dir() -> PathBuf {
    let home = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    home("XDG_DATA_HOME")
        .or_else(|| home("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("starling-data"), |base| base.join("starling"))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "starling".into(),
        name => name.into(),
    }
}
