//! Ring election: E. Chang, R. Roberts, "An improved algorithm for decentralized extrema-finding in circular
//! configurations of processes", CACM 22(5), 1979.
//!
//! ```text
//!   initiator           a node of a higher rank         the best node
//!      | Election(3) ------> 3 < 5: Election(5) ------------> 5 < 9: Election(9) --> once around, unchanged
//!      |                                                      9 = 9: Elected(9) ---> once around
//! ```
//!
//! A node replaces a lower rank by its own, unless it has sent a message of this election already, and forwards a
//! higher one. A rank that returns to its node is the highest, and is announced in a second circle.
//!
//! The algorithm knows no failures. [`Variant::Plain`] repairs the ring around dead nodes and nothing else, so the rank of
//! a candidate that has died circulates for ever. [`Variant::Checked`] asks the failure detector about the candidate
//! of each message, drops those of dead ones, objects to a leader of a lower rank, and begins again when no result
//! comes.

use bincode::Encode;

use super::clockwise::Clockwise;
use super::machine::{Input, Leader, Machine, Members, Node};

/// What a node does beyond the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Nothing but to repair the ring.
    Plain,
    /// Candidates are checked, and elections without a result are repeated.
    Checked,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub enum Message {
    /// The highest rank found so far, and its node.
    Election(u32, Node),
    /// The result.
    Elected(u32, Node),
}

/// How long a node waits for a result, in circles of the longest delay: three at worst, and one more for what is
/// sent again around dead nodes.
const PATIENCE_CIRCLES: u64 = 4;

/// One node.
#[derive(Debug)]
pub struct Ring {
    variant: Variant,
    link: Clockwise<Message>,
    /// The candidate that this node has sent last in an election without a result.
    candidate: Option<Node>,
    leader: Option<Node>,
    patience_until_us: Option<u64>,
}

impl Ring {
    /// A node that knows of no election.
    pub fn new(variant: Variant, members: Members) -> Self {
        Self {
            variant,
            link: Clockwise::new(members),
            candidate: None,
            leader: None,
            patience_until_us: None,
        }
    }

    fn own(&self) -> Node {
        self.link.members.own
    }

    fn begin(&mut self, now_us: u64) {
        let own = self.own();
        self.offer(now_us, self.link.members.rank(), own);
    }

    /// Sends a candidate on.
    fn offer(&mut self, now_us: u64, rank: u32, node: Node) {
        if self.candidate.is_none() && self.variant == Variant::Checked {
            let circle_us = self.link.members.delay_us * self.link.members.ranks.len() as u64;
            self.patience_until_us = Some(now_us + PATIENCE_CIRCLES * circle_us);
        }
        self.candidate = Some(node);
        self.link.send(Message::Election(rank, node));
    }

    fn on_election(&mut self, now_us: u64, rank: u32, node: Node) {
        if node == self.own() {
            self.end(node);
            self.link.send(Message::Elected(rank, node));
        } else if rank > self.link.members.rank() {
            self.offer(now_us, rank, node);
        } else if self.candidate.is_none() {
            self.begin(now_us);
        }
    }

    fn on_elected(&mut self, rank: u32, node: Node) {
        if node != self.own() {
            self.end(node);
            self.link.send(Message::Elected(rank, node));
        }
    }

    fn end(&mut self, leader: Node) {
        self.leader = Some(leader);
        self.candidate = None;
        self.patience_until_us = None;
    }

    fn restart(&mut self, now_us: u64) {
        self.candidate = None;
        self.begin(now_us);
    }

    /// Whether a message is about a node that is known to be dead.
    fn is_void(&self, node: Node) -> bool {
        self.variant == Variant::Checked && self.link.members.down.contains(&node)
    }

    fn on_message(&mut self, now_us: u64, message: Message) {
        match message {
            Message::Election(_, node) | Message::Elected(_, node) if self.is_void(node) => {
                self.restart(now_us);
            }
            // Elected where this node was not reachable.
            Message::Elected(rank, _)
                if self.variant == Variant::Checked && rank < self.link.members.rank() =>
            {
                self.restart(now_us);
            }
            Message::Election(rank, node) => self.on_election(now_us, rank, node),
            Message::Elected(rank, node) => self.on_elected(rank, node),
        }
    }

    fn on_down(&mut self, now_us: u64, node: Node) {
        self.link.on_down(node);
        let lost = self.leader == Some(node);
        if lost || (self.variant == Variant::Checked && self.candidate == Some(node)) {
            self.leader = self.leader.filter(|_| !lost);
            self.restart(now_us);
        }
    }
}

impl Machine for Ring {
    type Message = Message;

    fn handle(&mut self, now_us: u64, input: Input<Message>) {
        match input {
            Input::Start => {
                if self.candidate.is_none() {
                    self.begin(now_us);
                }
            }
            Input::Message { message, .. } => self.on_message(now_us, message),
            Input::Timeout => {
                if self.patience_until_us.is_some_and(|at| at <= now_us) {
                    self.restart(now_us);
                }
            }
            Input::Down(node) => self.on_down(now_us, node),
            Input::Up(node) => {
                self.link.on_up(node);
                // The other side of a partition may have elected another leader.
                if self.leader == Some(self.own()) {
                    self.restart(now_us);
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<(Node, Message)> {
        self.link.poll_output()
    }

    fn poll_timeout(&self) -> Option<u64> {
        self.patience_until_us
    }

    fn leader(&self) -> Option<Leader> {
        self.leader.map(|node| Leader { term: None, node })
    }
}
