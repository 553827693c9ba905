//! The inputs, outputs and counters of the views.

use std::net::IpAddr;

use crate::message::ViewMessage;
use crate::{NodeId, NodeRecord};

/// An event that the views handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewInput {
    /// The time of `poll_timeout` has come.
    Timeout,
    /// Bootstrap reached this live peer, a replica or a seed.
    Contact(NodeRecord),
    /// Peers that may be alive: remembered from an earlier run, or named by another node.
    Known(Vec<NodeRecord>),
    /// A live peer that may be in another component of the overlay ([`crate::healing`]): it becomes a
    /// neighbour even if both views are full.
    Merge(NodeRecord),
    /// A message from a peer. The record is the one that it proved when the link came up, or a later one.
    Message {
        /// The sender.
        from: NodeRecord,
        /// The message.
        message: ViewMessage,
    },
    /// There is a link to a peer, dialed by either side.
    LinkUp {
        /// The peer.
        record: NodeRecord,
        /// The address of the link's other end, as this side sees it, if it has one.
        from: Option<IpAddr>,
    },
    /// The link to this peer is gone.
    LinkLost(NodeId),
    /// The peer could not be reached when something was to be sent to it.
    Unreachable(NodeId),
    /// The failure detector suspects this neighbour.
    Suspected(NodeId),
    /// This node's own record changed; already signed.
    RecordChanged(NodeRecord),
    /// The node stops, and notifies its neighbours. Every later input is ignored.
    Leave,
}

/// What the caller has to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewOutput {
    /// Send this, connecting first if need be. Messages to one peer keep their order.
    Send {
        /// The receiver.
        to: NodeRecord,
        /// The message.
        message: ViewMessage,
    },
    /// The peer is a neighbour now: watch it, gossip with it.
    Up(NodeRecord),
    /// The peer is no longer a neighbour. After [`DownReason::Suspected`] its link has to be closed; otherwise the link
    /// may be closed when it is idle.
    Down {
        /// The former neighbour.
        peer: NodeId,
        /// The reason.
        reason: DownReason,
    },
    /// This node is alone: look for contacts (seeds, tickets, DNS, remembered peers). Repeated with
    /// growing pauses while that lasts.
    NeedContacts,
}

/// Why a peer is no longer a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// Its link broke.
    LinkLost,
    /// The failure detector suspected it.
    Suspected,
    /// It left, or evicted this node for another neighbour.
    Disconnected,
    /// This node evicted it for another neighbour.
    Evicted,
    /// It is another run of the same node; `Up` follows.
    Restarted,
    /// This node leaves.
    Left,
}

impl DownReason {
    /// The reason as text, for logs.
    pub fn text(self) -> &'static str {
        match self {
            Self::LinkLost => "link lost",
            Self::Suspected => "suspected",
            Self::Disconnected => "disconnected by the peer",
            Self::Evicted => "made room for another",
            Self::Restarted => "restarted",
            Self::Left => "this node leaves",
        }
    }

    /// Whether the peer may have died, or be beyond a split.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::LinkLost | Self::Suspected)
    }
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewCounters {
    /// Peers that became neighbours.
    pub up: u64,
    /// Neighbours lost by failure.
    pub failed: u64,
    /// Neighbours that this node evicted for others.
    pub evicted: u64,
    /// Peers this node asked to become neighbours.
    pub asked: u64,
    /// Asked peers that refused.
    pub refused: u64,
    /// Asked peers that did not answer in time.
    pub unanswered: u64,
    /// Shuffles this node began.
    pub shuffles: u64,
    /// Questions dropped because 16 were open already.
    pub asks_shed: u64,
}
