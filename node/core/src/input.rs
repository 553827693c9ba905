//! The inputs that the driver passes to the node, and the outputs that it carries out.

use std::net::IpAddr;
use std::sync::Arc;

use starling_kv::{Batch, Change, Outcome, WriteError};
use starling_proto::message::Description;
use starling_proto::trust::{Certificate, Claim, Statement, Trust};
use starling_proto::{Class, Message, Millis, NodeId, NodeRecord};

use crate::strong::{StrongInput, StrongOutput};

/// One instant on both clocks of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: timers and failure detection.
    pub mono: Millis,
    /// Milliseconds since the Unix epoch: timestamps of writes, expiry, clock comparison.
    pub wall_ms: u64,
}

/// The driver's name for a client's request. The node returns it with the outcome and does not interpret it.
pub type Token = u64;

/// An event that the node handles.
#[derive(Debug)]
pub enum Input {
    /// Several inputs that arrived together. Their outputs are combined, so that requests to one group share its
    /// writes, syncs and messages.
    Batch(Vec<Input>),
    /// The time of `poll_timeout` has come.
    Timeout,
    /// A link is up and its peer has proved the network's secret. `dialed` is the address when this
    /// side dialed a bare one ([`Output::DialAddress`]).
    Connected {
        /// The peer's id.
        peer: NodeId,
        /// Its verified record.
        record: NodeRecord,
        /// The address of the link's other end, as this side sees it, if it has one.
        from: Option<IpAddr>,
        /// The bare address this side dialed, if it did.
        dialed: Option<String>,
        /// Its certificate, whose signature is verified.
        certificate: Option<Certificate>,
    },
    /// Statements of the network's authority, with verified signatures.
    Statements {
        /// The peer that has sent them; `None` for the operator.
        from: Option<NodeId>,
        /// The authority that the peer follows.
        authority: NodeId,
        /// The statements.
        statements: Vec<Statement>,
    },
    /// An issuer has given this node a certificate.
    Certified(Certificate),
    /// A link is gone.
    Disconnected {
        /// The peer's id.
        peer: NodeId,
    },
    /// A dial failed.
    Unreachable {
        /// The node that was dialed, if it was known.
        peer: Option<NodeId>,
        /// The bare address that was dialed, if it was one.
        address: Option<String>,
    },
    /// The queue of this class to this peer was full: messages were dropped.
    Shed {
        /// The receiver.
        peer: NodeId,
        /// The class of the messages.
        class: Class,
    },
    /// A decoded and verified message.
    Message {
        /// The sender.
        peer: NodeId,
        /// The message.
        message: Message,
    },
    /// Bytes of a message came from a peer, and the message is not complete. Passed once in
    /// [`PROGRESS_MS`](starling_proto::detector::PROGRESS_MS), at most.
    Progress {
        /// The sender.
        peer: NodeId,
    },
    /// Writes of clients, committed together as one group.
    Write(Vec<(Token, Batch)>),
    /// Addresses where nodes of this network may listen (from tickets, seeds, DNS, mDNS).
    Contact(Vec<String>),
    /// Begins a crawl of the overlay.
    Crawl(Token),
    /// A client's request to a strong keyspace, or about one.
    Strong(StrongInput),
    /// Everything written before the [`Output::Sync`] with this number is durable.
    Synced(u64),
    /// This node's own addresses changed; the record is already signed.
    RecordChanged(NodeRecord),
    /// The process is about to stop: the node notifies its neighbours.
    Leave,
}

/// What the driver has to carry out for the node.
#[derive(Debug)]
pub enum Output {
    /// Connect to this node.
    Dial(NodeRecord),
    /// Connect to the node at this address.
    DialAddress(String),
    /// Queue a message, encoded once for all its receivers; never blocks.
    Send {
        /// The receivers, to which links are up.
        to: Vec<NodeId>,
        /// The message.
        message: Message,
    },
    /// Close a link after its queued messages were sent.
    Close {
        /// The peer's id.
        peer: NodeId,
        /// The reason, for the log.
        reason: &'static str,
    },
    /// A peer sent a message whose contents no correct node sends: note it before its link is closed.
    Misbehaved {
        /// The peer's id.
        peer: NodeId,
        /// What it sent, for the log.
        what: &'static str,
    },
    /// The outcome of one client's batch. Applied to the store, not yet synced.
    Written {
        /// The name of the request.
        token: Token,
        /// One outcome per write, or why the batch changed nothing.
        result: Result<Vec<Outcome>, WriteFailure>,
    },
    /// Keys whose visible state may have changed, by a client here or by a peer.
    Changed(Vec<Change>),
    /// Connect to this issuer, also if there is a link, to ask for a certificate.
    Renew(NodeRecord),
    /// The authority's statements have changed: store them, and judge later handshakes by them.
    Trust(Arc<Trust>),
    /// Store this node's new certificate, and show it in later handshakes.
    Certified(Certificate),
    /// Store these peers on disk, in place of those that were stored before.
    Remember(Vec<NodeRecord>),
    /// Look for contacts (seeds, DNS, mDNS): the node has no neighbour.
    NeedContacts,
    /// A crawl has finished.
    Crawled {
        /// The name of the request.
        token: Token,
        /// The nodes that answered, this one first.
        nodes: Vec<Description>,
        /// Nodes that were named by others and did not answer.
        unreachable: Vec<NodeRecord>,
    },
    /// Sync the engine, then pass [`Input::Synced`] with this number. There is no other sync until then. If the sync
    /// fails, the driver tries again, and the groups on this node promise nothing before it succeeds.
    Sync(u64),
    /// The outcome of an [`Input::Strong`], or an update of a watch.
    Strong(StrongOutput),
    /// Write a notice to the log, and count it.
    Notice(Notice),
}

/// Why a batch changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// The batch itself is invalid.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// The storage engine failed; nothing was changed.
    #[error(transparent)]
    Storage(starling_kv::Error),
    /// A version of data is needed that the network's operator has not switched on.
    #[error("this needs data version {needed}, and version {in_force} is in force in the network")]
    DataVersion {
        /// The version that the batch needs.
        needed: u16,
        /// The version that is in force.
        in_force: u16,
    },
    /// This node is a bootstrap seed.
    #[error("this node keeps no data; write through a replica")]
    NoStore,
}

/// An event for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A peer entered the active view.
    NeighborUp(NodeId),
    /// A peer left the active view.
    NeighborDown(NodeId, &'static str),
    /// A neighbour was silent for too long.
    Suspected {
        /// The neighbour.
        peer: NodeId,
        /// Milliseconds since its last message.
        silent_ms: u64,
    },
    /// An anti-entropy session ended.
    SessionFinished {
        /// The other node.
        peer: NodeId,
        /// Whether the replicas were equal at its start.
        equal: bool,
        /// Milliseconds it took.
        took_ms: u64,
        /// Bytes of the deltas it exchanged, both ways.
        bytes: u64,
    },
    /// A peer sent something that could not be joined.
    BadDelta(NodeId),
    /// The storage engine failed to join a peer's delta. Its dots stay unseen, and repair fetches them again.
    StorageFailed(String),
    /// Another process uses this node's identity.
    IdentityConflict {
        /// When that process started, milliseconds since the Unix epoch.
        incarnation: u64,
    },
    /// This node follows an authority now.
    AuthorityAdopted(NodeId),
    /// The authority has stated something.
    Stated {
        /// What.
        claim: Claim,
        /// This node.
        me: NodeId,
    },
    /// Two processes use this peer's identity.
    PeerDoubled(NodeId),
    /// An event of a strong keyspace on this node.
    Strong {
        /// The keyspace's name.
        keyspace: String,
        /// The event.
        notice: starling_strong::group::Notice,
    },
    /// The version of data in force in the network is one that this program does not know.
    DataVersionAhead {
        /// The version that is in force.
        in_force: u16,
        /// The newest version that this program reads.
        newest: u16,
    },
    /// This node's clock differs so much from its peers' that it expires nothing.
    ClockOff {
        /// Median of the peers' clocks minus this node's, milliseconds.
        offset_ms: i64,
    },
}
