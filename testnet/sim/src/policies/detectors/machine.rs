//! What every failure detector is to the network that runs it.

use std::fmt::Debug;

/// A node, by its index.
pub type Node = usize;

/// An event that a detector handles.
#[derive(Clone, Debug)]
pub enum Input<M> {
    /// A message has arrived.
    Message {
        /// The sender.
        from: Node,
        /// The message.
        message: M,
    },
    /// The time of [`Machine::poll_timeout`] has come.
    Timeout,
    /// A node has reported that it ends, or its host that it has ended.
    Ended(Node),
    /// This node runs again after a crash; what it knew is still there.
    Restarted,
}

/// What a detector has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The node that it is about.
    pub about: Node,
    /// Whether that node is considered faulty from now on, or alive again.
    pub is_faulty: bool,
}

/// The detector of one node: pure, without clock, network and generator of its own.
pub trait Machine {
    /// Its messages.
    type Message: Clone + Debug;
    /// Whether messages go over connections, which send again what is lost; otherwise over datagrams.
    const CONNECTED: bool;

    /// Handles one input; `now_us` never goes back.
    fn handle(&mut self, now_us: u64, input: Input<Self::Message>);
    /// The next message to send, with its receiver.
    fn poll_output(&mut self) -> Option<(Node, Self::Message)>;
    /// The next verdict.
    fn poll_verdict(&mut self) -> Option<Verdict>;
    /// When [`Input::Timeout`] is due, microseconds.
    fn poll_timeout(&self) -> Option<u64>;
    /// The nodes that are notified when this one ends and its host still runs.
    fn notified(&self) -> Vec<Node>;
    /// Bytes of a message, without headers of the transport.
    fn bytes(message: &Self::Message) -> usize;
}
