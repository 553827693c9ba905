//! The links of a ring: each node sends to its successor only.

use std::collections::VecDeque;

use super::machine::{Members, Node};

/// One node's link to its successor. When the failure detector reports the successor as down, the ring is repaired
/// around it: the last message, which may have been lost with it, goes to the next node.
#[derive(Debug)]
pub struct Clockwise<M> {
    /// The nodes of the ring.
    pub members: Members,
    last: Option<M>,
    outputs: VecDeque<(Node, M)>,
}

impl<M: Clone> Clockwise<M> {
    /// A link over which nothing was sent.
    pub fn new(members: Members) -> Self {
        Self { members, last: None, outputs: VecDeque::new() }
    }

    /// Sends a message to the successor.
    pub fn send(&mut self, message: M) {
        self.last = Some(message.clone());
        self.outputs.push_back((self.members.successor(), message));
    }

    /// The next message to send.
    pub fn poll_output(&mut self) -> Option<(Node, M)> {
        self.outputs.pop_front()
    }

    /// Leaves a node out, and sends the last message again if it went to this one.
    pub fn on_down(&mut self, node: Node) {
        let was_successor = self.members.successor() == node;
        self.members.down.insert(node);
        if was_successor && let Some(last) = self.last.clone() {
            self.send(last);
        }
    }

    /// Takes a node in again.
    pub fn on_up(&mut self, node: Node) {
        self.members.down.remove(&node);
    }
}
