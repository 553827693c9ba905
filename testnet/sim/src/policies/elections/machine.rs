//! What every protocol of election is to the network that runs it.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bincode::Encode;

/// A node, by its place on the ring, clockwise.
pub type Node = usize;

/// An event that a machine handles.
#[derive(Clone, Debug)]
pub enum Input<M> {
    /// This node begins an election.
    Start,
    /// A message has arrived.
    Message {
        /// The sender.
        from: Node,
        /// The message.
        message: M,
    },
    /// The time of [`Machine::poll_timeout`] has come.
    Timeout,
    /// The failure detector reports that a node is dead or cut off.
    Down(Node),
    /// The failure detector reports that a node is reachable again.
    Up(Node),
}

/// The leader as one node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leader {
    /// The election that it won: Raft's term, Paxos's instance; `None` where a protocol numbers none.
    pub term: Option<u64>,
    /// Which node it is.
    pub node: Node,
}

/// One node's side of a protocol: pure, without clock, network and generator of its own.
pub trait Machine {
    /// Its messages.
    type Message: Clone + Debug + Encode;

    /// Handles one input; `now_us` never goes back.
    fn handle(&mut self, now_us: u64, input: Input<Self::Message>);
    /// The next message to send, with its receiver.
    fn poll_output(&mut self) -> Option<(Node, Self::Message)>;
    /// When [`Input::Timeout`] is due, microseconds.
    fn poll_timeout(&self) -> Option<u64>;
    /// The leader, as far as this node knows.
    fn leader(&self) -> Option<Leader>;
}

/// What a node knows of the others from the beginning, and from its failure detector.
#[derive(Clone, Debug)]
pub struct Members {
    /// This node.
    pub own: Node,
    /// The rank of each node, all different: the ring's attribute, the bully's priority.
    pub ranks: Vec<u32>,
    /// Nodes reported as down.
    pub down: BTreeSet<Node>,
    /// The longest delay of a message that this node counts on, microseconds.
    pub delay_us: u64,
}

impl Members {
    /// This node's rank.
    pub fn rank(&self) -> u32 {
        self.ranks[self.own]
    }

    /// The other nodes that are not reported as down, in the order of the ring.
    pub fn others(&self) -> impl Iterator<Item = Node> + '_ {
        (0..self.ranks.len()).filter(|node| *node != self.own && !self.down.contains(node))
    }

    /// The next node clockwise that is not reported as down; this node if it is alone.
    pub fn successor(&self) -> Node {
        let count = self.ranks.len();
        let clockwise = (1..count).map(|step| (self.own + step) % count);
        clockwise.into_iter().find(|node| !self.down.contains(node)).unwrap_or(self.own)
    }
}
