//! What goes into the views and what comes out.

use crate::message::ViewMessage;
use crate::{NodeId, NodeRecord};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewInput {
    /// `poll_timeout` has been reached.
    Timeout,
    /// Bootstrap reached this live peer, a replica or a seed.
    Contact(NodeRecord),
    /// Peers that may be alive: remembered from an earlier run, or named by somebody.
    Known(Vec<NodeRecord>),
    /// A live peer that may be in another component of the overlay ([`crate::healing`]): it becomes a
    /// neighbour even if both views are full.
    Merge(NodeRecord),
    /// A peer said something. The record is the one it proved when the link came up, or a later one.
    Message {
        /// Who.
        from: NodeRecord,
        /// What.
        message: ViewMessage,
    },
    /// There is a link to this peer, whoever made it.
    LinkUp(NodeRecord),
    /// The link to this peer is gone.
    LinkLost(NodeId),
    /// The peer could not be reached when something was to be sent to it.
    Unreachable(NodeId),
    /// The failure detector gave this neighbour up.
    Suspected(NodeId),
    /// This node's own record changed; already signed.
    RecordChanged(NodeRecord),
    /// The node stops: tell the neighbours. Every later input is ignored.
    Leave,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewOutput {
    /// Send this, connecting first if need be. Messages to one peer keep their order.
    Send {
        /// To whom.
        to: NodeRecord,
        /// What.
        message: ViewMessage,
    },
    /// The peer is a neighbour now: watch it, gossip with it.
    Up(NodeRecord),
    /// The peer is no neighbour any more. After [`DownReason::Suspected`] its link has to be closed;
    /// otherwise the link may go when it is idle.
    Down {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: DownReason,
    },
    /// This node is alone: look for contacts (seeds, tickets, DNS, remembered peers). Repeated with
    /// growing pauses while that lasts.
    NeedContacts,
}

/// Why a peer is no neighbour any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// Its link broke.
    LinkLost,
    /// The failure detector gave it up.
    Suspected,
    /// It left, or made room for another.
    Disconnected,
    /// This node made room for another.
    Evicted,
    /// It is another run of the same node; `Up` follows.
    Restarted,
    /// This node leaves.
    Left,
}

impl DownReason {
    /// For logs.
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

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewCounters {
    /// Peers that became neighbours.
    pub up: u64,
    /// Neighbours lost by failure.
    pub failed: u64,
    /// Neighbours that this node sent away to make room.
    pub evicted: u64,
    /// Peers this node asked to become neighbours.
    pub asked: u64,
    /// Of these, how many refused.
    pub refused: u64,
    /// Of these, how many did not answer in time.
    pub unanswered: u64,
    /// Shuffles this node began.
    pub shuffles: u64,
    /// Questions dropped because 16 were open already.
    pub asks_shed: u64,
}
