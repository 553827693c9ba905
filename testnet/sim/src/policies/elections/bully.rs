//! Bully: H. Garcia-Molina, "Elections in a distributed computing system", IEEE Transactions on Computers C-31(1),
//! 1982, as textbooks tell it.
//!
//! ```text
//!   3: Election -> 4, 5    5: Answer -> 3, 4        5 waits for an answer of 6, which is dead, and then:
//!   4: Election -> 5       4: Answer -> 3           5: Coordinator -> 1, 2, 3, 4
//! ```
//!
//! A node asks all nodes of higher rank. If none answers in time it leads and says so to all lower ones; if one does,
//! it waits for the announcement. A node that is asked answers and holds an election of its own. All of it rests on
//! messages and nodes that are never slower than assumed.

use std::collections::VecDeque;

use bincode::Encode;

use super::machine::{Input, Leader, Machine, Members, Node};

/// A message; the sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub enum Message {
    /// "Is a higher one alive?"
    Election,
    /// "Yes, this one."
    Answer,
    /// "The sender leads."
    Coordinator,
}

/// Delays until an answer is due: to the other node and back.
const ANSWER_DELAYS: u64 = 2;
/// Delays from an answer until the announcement is due. The highest node may be asked when the answer is sent; it
/// waits for [`ANSWER_DELAYS`] of its own, and announces itself: four, and one for what is in between.
const COORDINATOR_DELAYS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Until when answers are awaited, microseconds.
    Asking(u64),
    /// Until when the announcement is awaited, microseconds.
    Waiting(u64),
}

/// One node.
#[derive(Debug)]
pub struct Bully {
    members: Members,
    phase: Phase,
    leader: Option<Node>,
    outputs: VecDeque<(Node, Message)>,
}

impl Bully {
    /// A node that knows of no election.
    pub fn new(members: Members) -> Self {
        Self { members, phase: Phase::Idle, leader: None, outputs: VecDeque::new() }
    }

    fn is_higher(&self, node: Node) -> bool {
        self.members.ranks[node] > self.members.rank()
    }

    fn begin(&mut self, now_us: u64) {
        let higher: Vec<Node> = self.members.others().filter(|node| self.is_higher(*node)).collect();
        if higher.is_empty() {
            self.lead();
            return;
        }
        self.outputs.extend(higher.into_iter().map(|node| (node, Message::Election)));
        self.phase = Phase::Asking(now_us + ANSWER_DELAYS * self.members.delay_us);
    }

    fn lead(&mut self) {
        self.phase = Phase::Idle;
        self.leader = Some(self.members.own);
        let lower: Vec<Node> = self.members.others().filter(|node| !self.is_higher(*node)).collect();
        self.outputs.extend(lower.into_iter().map(|node| (node, Message::Coordinator)));
    }

    fn on_message(&mut self, now_us: u64, from: Node, message: Message) {
        match message {
            Message::Election => {
                self.outputs.push_back((from, Message::Answer));
                if self.phase == Phase::Idle {
                    self.begin(now_us);
                }
            }
            Message::Answer => {
                if matches!(self.phase, Phase::Asking(_)) {
                    self.phase = Phase::Waiting(now_us + COORDINATOR_DELAYS * self.members.delay_us);
                }
            }
            Message::Coordinator if self.is_higher(from) => {
                self.phase = Phase::Idle;
                self.leader = Some(from);
            }
            // The sender did not get this node's answer in time.
            Message::Coordinator => self.begin(now_us),
        }
    }

    fn on_timeout(&mut self, now_us: u64) {
        match self.phase {
            Phase::Asking(until_us) if until_us <= now_us => self.lead(),
            Phase::Waiting(until_us) if until_us <= now_us => self.begin(now_us),
            _ => {}
        }
    }

    fn on_up(&mut self, now_us: u64, node: Node) {
        self.members.down.remove(&node);
        if self.leader != Some(self.members.own) {
            return;
        }
        if self.is_higher(node) {
            self.begin(now_us);
        } else {
            self.outputs.push_back((node, Message::Coordinator));
        }
    }
}

impl Machine for Bully {
    type Message = Message;

    fn handle(&mut self, now_us: u64, input: Input<Message>) {
        match input {
            Input::Start => {
                if self.phase == Phase::Idle {
                    self.begin(now_us);
                }
            }
            Input::Message { from, message } => self.on_message(now_us, from, message),
            Input::Timeout => self.on_timeout(now_us),
            Input::Down(node) => {
                self.members.down.insert(node);
                if self.leader == Some(node) {
                    self.leader = None;
                    self.begin(now_us);
                }
            }
            Input::Up(node) => self.on_up(now_us, node),
        }
    }

    fn poll_output(&mut self) -> Option<(Node, Message)> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Idle => None,
            Phase::Asking(until_us) | Phase::Waiting(until_us) => Some(until_us),
        }
    }

    fn leader(&self) -> Option<Leader> {
        self.leader.map(|node| Leader { term: None, node })
    }
}
