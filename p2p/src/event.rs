//! The events of a driver.

use std::net::IpAddr;

use starling_proto::{Class, Message, NodeId, NodeRecord, trust::Certificate, wire::Negotiated};

use crate::Shown;

/// An event of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link to a peer is up: both sides have proved the network's secret and exchanged records.
    /// Reported once per peer until `Disconnected`, regardless of the number of connections.
    Connected {
        /// The peer's id.
        peer: NodeId,
        /// Its record, whose signature is verified.
        record: NodeRecord,
        /// The address of the link's other end, as this side sees it, if it has one.
        from: Option<IpAddr>,
        /// The version and the features that the two nodes speak.
        negotiated: Negotiated,
        /// The address given to [`crate::Driver::dial_address`], if that is where the link came from.
        dialed: Option<String>,
        /// Its certificate, and statements of the authority that this node did not have.
        shown: Box<Shown>,
    },
    /// A peer, an issuer, has given this node a certificate.
    Certified(Certificate),
    /// The link is gone, and its queued messages are dropped.
    Disconnected {
        /// The peer's id.
        peer: NodeId,
        /// The reason, as text.
        reason: String,
    },
    /// A dial did not lead to a new link.
    Unreachable {
        /// The node given to [`crate::Driver::dial`].
        peer: Option<NodeId>,
        /// The address given to [`crate::Driver::dial_address`].
        address: Option<String>,
        /// The reason, as text.
        reason: String,
    },
    /// A message from a peer. The signatures of its records are verified.
    Message {
        /// The sender.
        peer: NodeId,
        /// The message.
        message: Message,
    },
    /// Bytes of a frame came from a peer, and the frame is not complete. Reported once in
    /// [`PROGRESS_MS`](starling_proto::detector::PROGRESS_MS), at most.
    Progress {
        /// The sender.
        peer: NodeId,
    },
    /// The queue of this class was full: a message to this peer was dropped. Reported once until
    /// the queue has drained; the metrics count every message.
    Shed {
        /// The receiver.
        peer: NodeId,
        /// The class of the queue.
        class: Class,
    },
    /// The node listens on one more concrete address (every interface's, when it was asked to
    /// listen on all of them).
    NewListenAddress(String),
}
