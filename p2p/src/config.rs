//! What a driver is started with.

use starling_proto::{NodeRecord, wire::Protocol};

use crate::Identity;

/// The network this node belongs to.
#[derive(Clone)]
pub struct Network {
    /// Names the network; public, and independent of the secrets.
    pub id: [u8; 16],
    /// One secret, or two while one replaces the other: a peer is let in if it holds any of them.
    /// Only the first [`SECRETS_MAX`] count.
    pub secrets: Vec<[u8; 32]>,
}

/// Most secrets valid at once: the old one and the new one.
pub const SECRETS_MAX: usize = starling_proto::wire::handshake::MACS_MAX;

impl std::fmt::Debug for Network {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// Everything a driver needs to start.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The node's key.
    pub identity: Identity,
    /// Multiaddresses to listen on (`/ip4/0.0.0.0/tcp/7400`, `/ip4/0.0.0.0/udp/7400/quic-v1`).
    /// Port 0 lets the system choose.
    pub listen: Vec<String>,
    /// What this node speaks: [`Protocol::CURRENT`], outside of tests of upgrades.
    pub protocol: Protocol,
    /// What a peer must know to be let in.
    pub network: Network,
    /// This node's own statement, told to every peer. Its id and signature are filled in.
    pub record: NodeRecord,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds on what peers and callers can make a driver hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most established connections; a further one is refused.
    pub connections_max: u32,
    /// Most connections being negotiated in each direction; a further one is refused.
    pub pending_max: u32,
    /// Bytes waiting on one link in the class of control; a frame that would exceed it is shed.
    pub control_queue_bytes_max: usize,
    /// The same for full rumors.
    pub rumor_queue_bytes_max: usize,
    /// The same for anti-entropy sessions.
    pub sync_queue_bytes_max: usize,
    /// The same for strong keyspaces: what a leader may have sent to a follower that has not acknowledged
    /// it, and answers to clients.
    pub strong_queue_bytes_max: usize,
}

impl Default for Limits {
    /// Guesses: an active view of five and a few transient links stay far below; a rumor queue
    /// holds two frames of the largest size, and so does that of strong keyspaces.
    fn default() -> Self {
        Self {
            connections_max: 256,
            pending_max: 64,
            control_queue_bytes_max: 256 << 10,
            rumor_queue_bytes_max: 8 << 20,
            sync_queue_bytes_max: 4 << 20,
            strong_queue_bytes_max: 32 << 20,
        }
    }
}
