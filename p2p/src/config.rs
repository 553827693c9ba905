//! The configuration of a driver.

use std::sync::Arc;

use starling_proto::{
    NodeRecord,
    trust::{Certificate, Invitation, Trust},
    wire::Protocol,
};
use zeroize::Zeroizing;

use crate::{Identity, Issuer};

/// The network this node belongs to.
#[derive(Clone)]
pub struct Network {
    /// The id of the network; public, and independent of the secrets.
    pub id: [u8; 16],
    /// One secret, or two while one replaces the other: a peer is admitted if it has any of them.
    /// Only the first [`SECRETS_MAX`] count.
    pub secrets: Vec<Zeroizing<[u8; 32]>>,
}

/// Secrets valid at a time, at most: the old one and the new one.
pub const SECRETS_MAX: usize = starling_proto::wire::handshake::MACS_MAX;

impl std::fmt::Debug for Network {
    /// Does not print a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// The credentials of this node, and the statements by which it judges those of peers.
#[derive(Clone, Debug, Default)]
pub struct TrustConfig {
    /// The authority and its statements.
    pub trust: Arc<Trust>,
    /// This node's certificate.
    pub certificate: Option<Certificate>,
    /// Shown to issuers while the node has no valid certificate.
    pub invitation: Option<Invitation>,
    /// Gives certificates while the node is an issuer; `None` on one that never is.
    pub issuer: Option<Arc<Issuer>>,
}

/// The configuration of a driver.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The node's key.
    pub identity: Identity,
    /// Multiaddresses to listen on (`/ip4/0.0.0.0/tcp/7400`, `/ip4/0.0.0.0/udp/7400/quic-v1`).
    /// Port 0 lets the system choose.
    pub listen: Vec<String>,
    /// The protocol of this node: [`Protocol::CURRENT`], outside of tests of upgrades.
    pub protocol: Protocol,
    /// The network, whose secret a peer must have to be admitted.
    pub network: Network,
    /// This node's own record, which is sent to every peer. The driver sets its id and signature.
    pub record: NodeRecord,
    /// Certificates.
    pub trust: TrustConfig,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds on connections and queues.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Links, at most; connections from outside beyond that are rejected.
    pub connections_max: u32,
    /// Connections that are dialed at a time, at most; further ones fail.
    pub pending_max: u32,
    /// Connections from outside that are being encrypted, at most, and encrypted ones that have not proved yet to know the
    /// secret; addresses of members have as many of their own. Further ones displace others: see `admission`.
    pub strangers_max: usize,
    /// Bytes of control frames that wait on one link, at most; further frames are dropped.
    pub control_queue_bytes_max: usize,
    /// Bytes of full rumors that wait on one link, at most.
    pub rumor_queue_bytes_max: usize,
    /// Bytes of anti-entropy sessions that wait on one link, at most.
    pub sync_queue_bytes_max: usize,
    /// Bytes of strong keyspaces that wait on one link, at most: unacknowledged entries from a leader to a follower,
    /// and answers to clients.
    pub strong_queue_bytes_max: usize,
}

impl Default for Limits {
    /// Guesses: an active view of five and a few transient links stay far below; a hundred nodes on one machine may start at
    /// once (of strangers one host has a quarter of the places); a rumor queue
    /// holds two frames of the largest size, and so does that of strong keyspaces.
    fn default() -> Self {
        Self {
            connections_max: 256,
            pending_max: 64,
            strangers_max: 256,
            control_queue_bytes_max: 256 << 10,
            rumor_queue_bytes_max: 8 << 20,
            sync_queue_bytes_max: 4 << 20,
            strong_queue_bytes_max: 32 << 20,
        }
    }
}
