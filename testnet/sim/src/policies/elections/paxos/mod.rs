//! Single-decree Paxos: L. Lamport, "Paxos made simple", ACM SIGACT News 32(4), 2001. The value that is chosen is the
//! node that leads.
//!
//! ```text
//!   proposer           acceptors            learners
//!      | Prepare(b) ------>|                    |    "promise nothing below b; what have you accepted?"
//!      |<------- Promise(b, accepted or none)   |    from a majority
//!      | Accept(b, v) ---->|                    |    v: of the highest ballot accepted, or the proposer's own
//!      |                   | Accepted(b, v) --->|    from a majority: v is chosen
//! ```
//!
//! Every node has all three roles, and its messages to itself cost nothing. What must never happen: two values chosen
//! in one instance. When the leader is reported as dead, the nodes go on to the next instance; a node that has moved on
//! answers nothing of an earlier one, so that it cannot contradict itself.

mod acceptor;
mod learner;
mod proposer;

use std::collections::VecDeque;

use bincode::Encode;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::machine::{Input, Leader, Machine, Members, Node};
use acceptor::Acceptor;
use learner::Learner;
use proposer::Proposer;

/// A value: a node.
pub type Value = u64;

/// A proposal's number: the round first, then the proposer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode)]
pub struct Ballot {
    /// The round.
    pub round: u64,
    /// The proposer.
    pub node: u64,
}

/// Which value a proposer proposes, of those that acceptors have accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// That of the highest ballot, as the protocol demands.
    HighestBallot,
    /// The highest value: a mistake, planted.
    HighestValue,
}

/// What a proposer does whose ballot was rejected for a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It begins a higher ballot at once.
    Duel,
    /// It waits for a random time, twice as long after each rejection.
    BackOff,
    /// It leaves the field to the other one, and begins again when that is reported as dead, or has chosen nothing
    /// within some time: a distinguished proposer, which the paper asks for (section 2.4). That one is also the only
    /// learner of acceptances, and notifies the others (section 2.3).
    Yield,
}

/// A message. Those of another instance than the receiver's are explained in the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
#[allow(missing_docs, reason = "the figure of the module names them")]
pub enum Message {
    Prepare { instance: u64, ballot: Ballot },
    Promise { instance: u64, ballot: Ballot, accepted: Option<(Ballot, Value)> },
    Reject { instance: u64, promised: Ballot },
    Accept { instance: u64, ballot: Ballot, value: Value },
    Accepted { instance: u64, ballot: Ballot, value: Value },
    Chosen { instance: u64, value: Value },
}

impl Message {
    fn instance(&self) -> u64 {
        match self {
            Self::Prepare { instance, .. }
            | Self::Promise { instance, .. }
            | Self::Reject { instance, .. }
            | Self::Accept { instance, .. }
            | Self::Accepted { instance, .. }
            | Self::Chosen { instance, .. } => *instance,
        }
    }
}

/// Delays until a ballot has a result, to the last acceptance: four, or the proposer begins again.
const BALLOT_DELAYS: u64 = 4;
/// Upper bound of the first random wait, in delays; an estimate of what a ballot needs.
const BACK_OFF_DELAYS: u64 = 4;
/// The wait doubles at most so often.
const DOUBLINGS_MAX: u32 = 3;
/// Delays after which a node that has seen a ballot and no result proposes: a few ballots, drawn so that not all of
/// them propose at once.
const CURIOSITY_DELAYS: std::ops::Range<u64> = 12..48;
/// Delays that a proposer which has yielded waits for a result: two ballots.
const YIELD_DELAYS: u64 = 8;

/// One node.
#[derive(Debug)]
pub struct Paxos {
    members: Members,
    manner: Manner,
    choice: Choice,
    rng: ChaCha8Rng,
    instance: u64,
    proposer: Proposer,
    acceptor: Acceptor,
    learner: Learner,
    /// Whether this node is to propose itself until something is chosen.
    wants: bool,
    /// Rejections in a row.
    rejections: u32,
    /// The proposer of the last ballot of another node.
    rival: Option<Node>,
    due_us: Option<u64>,
    /// Messages of this node to itself.
    own: VecDeque<Message>,
    outputs: VecDeque<(Node, Message)>,
}

impl Paxos {
    /// A node that has promised nothing.
    pub fn new(manner: Manner, choice: Choice, members: Members, seed: u64) -> Self {
        Self {
            members,
            manner,
            choice,
            rng: ChaCha8Rng::seed_from_u64(seed),
            instance: 0,
            proposer: Proposer::default(),
            acceptor: Acceptor::default(),
            learner: Learner::default(),
            wants: false,
            rejections: 0,
            rival: None,
            due_us: None,
            own: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A majority of all nodes, dead ones counted.
    fn majority(&self) -> usize {
        self.members.ranks.len() / 2 + 1
    }

    fn send(&mut self, to: Node, message: Message) {
        if to == self.members.own {
            self.own.push_back(message);
        } else {
            self.outputs.push_back((to, message));
        }
    }

    fn broadcast(&mut self, message: Message) {
        let others: Vec<Node> = self.members.others().collect();
        self.own.push_back(message);
        self.outputs.extend(others.into_iter().map(|to| (to, message)));
    }

    fn propose(&mut self, now_us: u64) {
        let ballot = self.proposer.begin(self.members.own);
        let doublings = if self.manner == Manner::Duel { 0 } else { self.rejections.min(DOUBLINGS_MAX) };
        self.due_us = Some(now_us + ((BALLOT_DELAYS * self.members.delay_us) << doublings));
        self.broadcast(Message::Prepare { instance: self.instance, ballot });
    }

    /// Its ballot was rejected, or has no result.
    fn retry(&mut self, now_us: u64) {
        self.rejections += 1;
        let delay_us = self.members.delay_us;
        match self.manner {
            Manner::Duel => self.propose(now_us),
            Manner::BackOff => {
                let bound_us = (BACK_OFF_DELAYS * delay_us) << self.rejections.min(DOUBLINGS_MAX);
                self.due_us = Some(now_us + self.rng.random_range(1..=bound_us));
            }
            Manner::Yield => {
                self.due_us = Some(now_us + self.rng.random_range(1..=2) * YIELD_DELAYS * delay_us);
            }
        }
    }

    /// Goes on to an instance, of which this node knows nothing.
    fn advance(&mut self, instance: u64) {
        self.instance = instance;
        self.proposer = Proposer::default();
        self.acceptor = Acceptor::default();
        self.learner = Learner::default();
        self.wants = false;
        self.rejections = 0;
        self.rival = None;
        self.due_us = None;
    }

    fn on_message(&mut self, now_us: u64, from: Node, message: Message) {
        if message.instance() > self.instance {
            self.advance(message.instance());
        }
        if message.instance() < self.instance {
            return;
        }
        let instance = self.instance;
        match message {
            Message::Prepare { ballot, .. } => {
                self.see(now_us, ballot);
                let reply = self.acceptor.on_prepare(instance, ballot);
                self.send(from, reply);
            }
            Message::Promise { ballot, accepted, .. } => {
                let rule = (self.majority(), self.choice, self.members.own as Value);
                if let Some(value) = self.proposer.on_promise(from, ballot, accepted, rule) {
                    self.broadcast(Message::Accept { instance, ballot, value });
                }
            }
            Message::Reject { promised, .. } => {
                if self.proposer.on_reject(promised) && self.wants {
                    self.retry(now_us);
                }
            }
            Message::Accept { ballot, value, .. } => {
                self.see(now_us, ballot);
                let reply = self.acceptor.on_accept(instance, ballot, value);
                match reply {
                    Message::Accepted { .. } if self.manner != Manner::Yield => self.broadcast(reply),
                    _ => self.send(from, reply),
                }
            }
            Message::Accepted { ballot, value, .. } => {
                let is_new = self.learner.on_accepted(from, ballot, value, self.majority());
                if is_new && self.manner == Manner::Yield {
                    self.broadcast(Message::Chosen { instance, value });
                }
            }
            Message::Chosen { value, .. } => self.learner.on_chosen(value),
        }
        if let Some(value) = self.learner.chosen() {
            self.wants = false;
            self.due_us = None;
            if self.members.down.contains(&(value as Node)) {
                self.succeed(now_us);
            }
        }
    }

    /// Notes a ballot. A node that takes part and learns nothing proposes in the end: that is how it learns.
    fn see(&mut self, now_us: u64, ballot: Ballot) {
        self.proposer.see(ballot);
        if ballot.node == self.members.own as u64 {
            return;
        }
        self.rival = Some(ballot.node as Node);
        if self.due_us.is_none() && self.learner.chosen().is_none() {
            let delays = self.rng.random_range(CURIOSITY_DELAYS);
            self.due_us = Some(now_us + delays * self.members.delay_us);
        }
    }

    /// Begins the instance after one whose leader is dead.
    fn succeed(&mut self, now_us: u64) {
        self.advance(self.instance + 1);
        self.start(now_us);
    }

    fn start(&mut self, now_us: u64) {
        if self.learner.chosen().is_none() && !self.wants {
            self.wants = true;
            self.propose(now_us);
        }
    }

    fn on_down(&mut self, now_us: u64, node: Node) {
        self.members.down.insert(node);
        let Some(value) = self.learner.chosen() else {
            if self.rival == Some(node) && !self.proposer.is_busy() {
                self.wants = true;
                self.propose(now_us);
            }
            return;
        };
        if value == node as Value {
            self.succeed(now_us);
        }
    }

    fn on_timeout(&mut self, now_us: u64) {
        if self.due_us.is_none_or(|at| at > now_us) {
            return;
        }
        self.due_us = None;
        self.wants = true;
        if self.proposer.is_busy() {
            self.proposer.abandon();
            self.retry(now_us);
        } else {
            self.propose(now_us);
        }
    }
}

impl Machine for Paxos {
    type Message = Message;

    fn handle(&mut self, now_us: u64, input: Input<Message>) {
        match input {
            Input::Start => self.start(now_us),
            Input::Message { from, message } => self.on_message(now_us, from, message),
            Input::Timeout => self.on_timeout(now_us),
            Input::Down(node) => self.on_down(now_us, node),
            Input::Up(node) => {
                self.members.down.remove(&node);
                if let Some(value) = self.learner.chosen() {
                    self.send(node, Message::Chosen { instance: self.instance, value });
                }
            }
        }
        while let Some(message) = self.own.pop_front() {
            self.on_message(now_us, self.members.own, message);
        }
    }

    fn poll_output(&mut self) -> Option<(Node, Message)> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<u64> {
        self.due_us
    }

    fn leader(&self) -> Option<Leader> {
        self.learner.chosen().map(|node| Leader { term: Some(self.instance), node: node as Node })
    }
}
