//! Modified ring election, as textbooks tell it: the message collects the ids of all nodes that it passes.
//!
//! ```text
//!   Election(by 3: 3) -> Election(by 3: 3, 5) -> ... -> back at 3: the highest id is 9
//!   Coordinator(by 3, 9: 3) -> Coordinator(by 3, 9: 3, 5) -> ... -> back at 3: 9 is in the list, it is elected
//! ```
//!
//! If the winner is missing from the list of the second circle, it has died in between, and the initiator begins again.
//! Of several initiators the one with the highest id gets through: every node drops the messages of lower ones than
//! it has seen. Ids are ranks.
//!
//! Added here: an initiator whose message does not return in time begins again; a message that returns to a node that
//! it has passed already, or whose initiator is reported as dead, is dropped; and a node that has seen an election of
//! an initiator that is reported as dead begins one itself.

use bincode::Encode;

use super::clockwise::Clockwise;
use super::machine::{Input, Leader, Machine, Members, Node};

/// A message. `by` is the rank of its initiator, `run` the initiator's number of its election.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub enum Message {
    /// The first circle.
    Election {
        /// The initiator.
        by: u32,
        /// Its election.
        run: u32,
        /// Nodes passed, by rank.
        ids: Vec<u32>,
    },
    /// The second circle.
    Coordinator {
        /// The initiator.
        by: u32,
        /// Its election.
        run: u32,
        /// The winner's rank.
        winner: u32,
        /// Nodes passed, by rank.
        ids: Vec<u32>,
    },
}

/// How long an initiator waits for the end of its election, in circles of the longest delay: two, and one more for
/// what is sent again around dead nodes.
const PATIENCE_CIRCLES: u64 = 3;
/// The wait doubles at most so often: a message of an earlier election counts for nothing, so a wait that is too short
/// would never end.
const DOUBLINGS_MAX: u32 = 2;

/// One node.
#[derive(Debug)]
pub struct ModifiedRing {
    link: Clockwise<Message>,
    /// The highest initiator of an election that has not ended, as far as this node knows.
    highest: Option<u32>,
    /// The number of this node's last election.
    run: u32,
    leader: Option<Node>,
    patience_until_us: Option<u64>,
    /// Elections in a row that did not end in time.
    failed: u32,
}

impl ModifiedRing {
    /// A node that knows of no election.
    pub fn new(members: Members) -> Self {
        Self {
            link: Clockwise::new(members),
            highest: None,
            run: 0,
            leader: None,
            patience_until_us: None,
            failed: 0,
        }
    }

    fn rank(&self) -> u32 {
        self.link.members.rank()
    }

    fn node_of(&self, rank: u32) -> Option<Node> {
        self.link.members.ranks.iter().position(|r| *r == rank)
    }

    fn begin(&mut self, now_us: u64) {
        let own = self.rank();
        self.highest = self.highest.max(Some(own));
        self.run += 1;
        let circle_us = self.link.members.delay_us * self.link.members.ranks.len() as u64;
        let patience_us = (PATIENCE_CIRCLES * circle_us) << self.failed.min(DOUBLINGS_MAX);
        self.patience_until_us = Some(now_us + patience_us);
        self.link.send(Message::Election { by: own, run: self.run, ids: vec![own] });
    }

    /// Whether a message of another initiator goes on: not if a higher one is known, if its initiator is dead, or its
    /// circle is closed without it.
    fn passes(&mut self, by: u32, ids: &[u32]) -> bool {
        let is_dead = self.node_of(by).is_none_or(|node| self.link.members.down.contains(&node));
        if is_dead || self.highest.is_some_and(|highest| highest > by) || ids.contains(&self.rank()) {
            return false;
        }
        self.highest = Some(by);
        true
    }

    fn on_election(&mut self, by: u32, run: u32, mut ids: Vec<u32>) {
        let own = self.rank();
        if by == own {
            if run == self.run && self.patience_until_us.is_some() {
                let winner = ids.into_iter().max().unwrap_or(own);
                self.link.send(Message::Coordinator { by, run, winner, ids: vec![own] });
            }
        } else if self.passes(by, &ids) {
            ids.push(own);
            self.link.send(Message::Election { by, run, ids });
        }
    }

    fn on_coordinator(&mut self, now_us: u64, by: u32, run: u32, winner: u32, mut ids: Vec<u32>) {
        let own = self.rank();
        if by == own {
            if run != self.run {
                return;
            }
            if ids.contains(&winner) {
                self.end(winner);
            } else {
                self.begin(now_us);
            }
        } else if self.passes(by, &ids) {
            ids.push(own);
            self.link.send(Message::Coordinator { by, run, winner, ids });
            self.end(winner);
        }
    }

    fn end(&mut self, winner: u32) {
        self.leader = self.node_of(winner);
        self.highest = None;
        self.patience_until_us = None;
        self.failed = 0;
    }

    fn on_down(&mut self, now_us: u64, node: Node) {
        self.link.on_down(node);
        let was_initiator = self.highest == Some(self.link.members.ranks[node]);
        let was_leader = self.leader == Some(node);
        if was_initiator {
            self.highest = None;
        }
        if was_leader {
            self.leader = None;
        }
        if was_initiator || was_leader {
            self.begin(now_us);
        }
    }
}

impl Machine for ModifiedRing {
    type Message = Message;

    fn handle(&mut self, now_us: u64, input: Input<Message>) {
        match input {
            // A node that has seen a higher initiator leaves the election to it.
            Input::Start if self.highest > Some(self.rank()) => {}
            Input::Start => self.begin(now_us),
            Input::Message { message: Message::Election { by, run, ids }, .. } => {
                self.on_election(by, run, ids);
            }
            Input::Message { message: Message::Coordinator { by, run, winner, ids }, .. } => {
                self.on_coordinator(now_us, by, run, winner, ids);
            }
            Input::Timeout => {
                if self.patience_until_us.is_some_and(|at| at <= now_us) {
                    self.highest = None;
                    self.failed += 1;
                    self.begin(now_us);
                }
            }
            Input::Down(node) => self.on_down(now_us, node),
            Input::Up(node) => {
                self.link.on_up(node);
                // The other side of a partition may have elected another leader.
                if self.leader == Some(self.link.members.own) {
                    self.begin(now_us);
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
