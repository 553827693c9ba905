//! What a driver tells its caller.

use starling_proto::{Class, Message, NodeId, NodeRecord, wire::Negotiated};

/// Something happened on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link to a peer is up: both sides have proved the network's secret and exchanged records.
    /// Told once per peer until `Disconnected`, however many connections carry the link.
    Connected {
        /// Who.
        peer: NodeId,
        /// Its own statement, verified to be signed by it.
        record: NodeRecord,
        /// The version and the features that the two nodes speak.
        negotiated: Negotiated,
        /// The address given to [`crate::Driver::dial_address`], if that is where the link came from.
        dialed: Option<String>,
    },
    /// The link is gone, with whatever was still queued for it.
    Disconnected {
        /// Who.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// A dial did not lead to a new link.
    Unreachable {
        /// Whom [`crate::Driver::dial`] was to reach.
        peer: Option<NodeId>,
        /// What [`crate::Driver::dial_address`] was given.
        address: Option<String>,
        /// Why, for people.
        reason: String,
    },
    /// A peer says something. Records in it carry valid signatures.
    Message {
        /// Who.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// The queue of this class was full: a message to this peer was dropped. Told once until the
    /// queue has drained; the metrics count every message.
    Shed {
        /// To whom.
        peer: NodeId,
        /// In which class.
        class: Class,
    },
    /// The node listens on one more concrete address (every interface's, when it was asked to
    /// listen on all of them).
    NewListenAddress(String),
}
