//! The status of a node for its operator.

use starling_proto::NodeRecord;
use starling_proto::message::Root;

use crate::doubles::DoubledPeer;

/// The status of a node.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its own record.
    pub record: NodeRecord,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Hash of the whole replica; `None` on a seed and while fingerprints are rebuilt.
    pub root: Option<Root>,
    /// Peers in the active view.
    pub active: usize,
    /// Records in the passive view.
    pub passive: usize,
    /// Open links, transient ones included.
    pub links: usize,
    /// Peers remembered to find the network again.
    pub remembered: usize,
    /// Median of the neighbours' wall clocks minus this node's, milliseconds.
    pub clock_offset_ms: i64,
    /// The record of another process that lately used this node's identity, and the milliseconds since the last sign of it.
    pub double: Option<(NodeRecord, u64)>,
    /// The peers whose identity two processes lately used.
    pub doubled_peers: Vec<DoubledPeer>,
    /// Counters since the start.
    pub counters: Counters,
}

/// Counters of the composed machines, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Full rumors received that changed the store.
    pub rumors_news: u64,
    /// Full rumors received that changed nothing.
    pub rumors_old: u64,
    /// Full rumors sent, to each link.
    pub rumors_sent: u64,
    /// Grafts sent.
    pub grafts: u64,
    /// Prunes sent.
    pub prunes: u64,
    /// Anti-entropy sessions begun by this node.
    pub sessions: u64,
    /// Sessions begun by this node that found the replicas equal.
    pub sessions_equal: u64,
    /// Bytes of deltas in sessions, both ways, own sessions and those of others.
    pub session_bytes: u64,
    /// Neighbours declared failed.
    pub suspicions: u64,
    /// Times that this process found that it had been suspended.
    pub self_stalls: u64,
    /// Deltas of peers that could not be decoded.
    pub bad_deltas: u64,
    /// Deltas of peers whose join failed in the storage engine.
    pub storage_failures: u64,
    /// Messages about strong keyspaces that were skipped because a later version has them.
    pub strong_unknown: u64,
    /// Messages dropped because too many dials were in progress.
    pub dials_refused: u64,
}

/// One connected peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its record.
    pub record: NodeRecord,
    /// Whether it is in the active view.
    pub active: bool,
    /// Whether two processes lately used its identity.
    pub doubled: bool,
    /// Whether rumors are pushed to it eagerly.
    pub eager: bool,
    /// Suspicion level of the phi accrual detector; `None` outside the active view.
    pub phi: Option<f64>,
    /// Last measured round trip, milliseconds.
    pub rtt_ms: Option<u64>,
}

/// The current sizes of a node's bounded tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Payloads of rumors kept to serve grafts, bytes.
    pub rumor_bytes: usize,
    /// Rumors that were announced and have not arrived.
    pub rumors_wanted: usize,
    /// Links over which rumors are sent.
    pub rumor_links: usize,
    /// Dials in progress.
    pub dials: usize,
    /// Messages that wait for them.
    pub waiting: usize,
    /// Actors with missing predecessors of a rumor.
    pub gaps: usize,
    /// Outputs that the driver has not fetched.
    pub outputs: usize,
}
