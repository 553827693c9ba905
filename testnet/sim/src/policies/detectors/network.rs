//! The network that all detectors run in, with one fault of one node, and what is counted.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::machine::{Input, Machine, Node};
use crate::policies::Links;
use crate::policies::calendar::Calendar;

/// A fault of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing.
    None,
    /// It stops, and nobody is notified.
    Crash,
    /// It stops, and its host notifies the nodes that it has links with.
    FailStop,
    /// It stops for [`DOWN_US`], and continues with what it knew.
    Recovery,
    /// Four of five messages that it sends are lost.
    SendOmission,
    /// Four of five messages to it are lost.
    ReceiveOmission,
    /// Every message that it sends is up to [`LATE_US`] late.
    Timing,
    /// Nothing passes between it and half of the others.
    Split,
    /// It stands still for [`STALL_US`] in each [`STALL_EVERY_US`], and then handles all that has come.
    Slow,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Crash,
        Self::FailStop,
        Self::Recovery,
        Self::SendOmission,
        Self::ReceiveOmission,
        Self::Timing,
        Self::Split,
        Self::Slow,
    ];
}

/// Share of messages lost by an omission.
const OMITTED: f64 = 0.8;
/// How long a node that recovers is down: longer than most detectors need here.
pub const DOWN_US: u64 = 20_000_000;
/// The latest that a message of a late node is.
pub const LATE_US: u64 = 4_000_000;
/// How long a slow node stands still: longer than a time-out of three periods.
pub const STALL_US: u64 = 4_000_000;
/// How often it does.
pub const STALL_EVERY_US: u64 = 10_000_000;
/// First pause before a connection sends again what was lost, microseconds; it doubles (Linux's least time-out).
const RESEND_US: u64 = 200_000;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// What messages go through.
    pub links: Links,
    /// The fault of one node, which is drawn.
    pub fault: Fault,
    /// Time before the fault, which is not measured, milliseconds.
    pub warmup_ms: u64,
    /// Time measured from the fault on, milliseconds.
    pub measure_ms: u64,
}

/// What one run showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// From the fault until the first other node considers the faulty one faulty, milliseconds.
    pub first_ms: Option<f64>,
    /// Until all do that can, milliseconds.
    pub all_ms: Option<f64>,
    /// Share of those that can, which did so at some time.
    pub share: f64,
    /// Times that a healthy node came to be considered faulty by healthy nodes.
    pub false_positives: u64,
    /// Verdicts of the faulty node about healthy ones.
    pub by_the_faulty: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes of these, without headers.
    pub bytes: u64,
    /// Messages that the busiest node sent and received.
    pub busiest: u64,
}

enum Event<M> {
    Deliver { from: Node, to: Node, message: M },
    Ended { to: Node, about: Node },
    Wake(Node),
    Begin,
    Recover,
}

struct Process<M> {
    machine: M,
    is_up: bool,
    wake_us: Option<u64>,
    traffic: u64,
}

/// A network while it runs.
pub struct Network<'a, M: Machine> {
    plan: &'a Plan,
    rng: ChaCha8Rng,
    now_us: u64,
    begin_us: u64,
    nodes: Vec<Process<M>>,
    /// The node with the fault; `None`: there is no fault.
    faulty: Option<Node>,
    /// The half that cannot reach it.
    half: Vec<bool>,
    events: Calendar<Event<M::Message>>,
    /// By node: the others that consider it faulty.
    condemned: BTreeMap<Node, BTreeSet<Node>>,
    /// Nodes that can find out about the faulty one, and did.
    audience: BTreeSet<Node>,
    found: BTreeSet<Node>,
    outcome: Outcome,
}

impl<'a, M: Machine> Network<'a, M> {
    /// A network whose node `faulty` has the fault of the plan; `audience`: the nodes that can find out.
    pub fn new(plan: &'a Plan, machines: Vec<M>, faulty: Node, audience: Vec<Node>, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let half = (0..plan.nodes).map(|_| rng.random_bool(0.5)).collect();
        let process = |machine| Process { machine, is_up: true, wake_us: None, traffic: 0 };
        Self {
            plan,
            rng,
            now_us: 0,
            begin_us: plan.warmup_ms * 1000,
            nodes: machines.into_iter().map(process).collect(),
            faulty: (plan.fault != Fault::None).then_some(faulty),
            half,
            events: Calendar::new(),
            condemned: BTreeMap::new(),
            audience: audience.into_iter().filter(|node| *node != faulty).collect(),
            found: BTreeSet::new(),
            outcome: Outcome::default(),
        }
    }

    /// Runs to the end of the measured time.
    pub fn run(mut self) -> Outcome {
        let end_us = self.begin_us + self.plan.measure_ms * 1000;
        self.events.push(self.begin_us, Event::Begin);
        for node in 0..self.nodes.len() {
            self.drain(node);
        }
        while let Some((at_us, event)) = self.events.pop()
            && at_us <= end_us
        {
            self.now_us = at_us;
            self.perform(event);
        }
        self.outcome.share = self.found.len() as f64 / self.audience.len().max(1) as f64;
        self.outcome.busiest = self.nodes.iter().map(|node| node.traffic).max().unwrap_or(0);
        self.outcome
    }

    fn is_measured(&self) -> bool {
        self.now_us >= self.begin_us
    }

    /// Whether a node has this fault now.
    fn has(&self, node: Node, fault: Fault) -> bool {
        self.faulty == Some(node) && self.plan.fault == fault && self.is_measured()
    }

    /// The end of a slow node's standstill, if it stands still now.
    fn stalled_until(&self, node: Node) -> Option<u64> {
        let since_us = self.now_us.checked_sub(self.begin_us)?;
        let turn_us = since_us % STALL_EVERY_US;
        (self.has(node, Fault::Slow) && turn_us < STALL_US).then(|| self.now_us - turn_us + STALL_US)
    }

    fn perform(&mut self, event: Event<M::Message>) {
        let node = match &event {
            Event::Deliver { to, .. } | Event::Ended { to, .. } | Event::Wake(to) => Some(*to),
            Event::Begin | Event::Recover => None,
        };
        if let Some(until_us) = node.and_then(|node| self.stalled_until(node)) {
            self.events.push(until_us, event);
            return;
        }
        match event {
            Event::Deliver { from, to, message } => {
                if self.nodes[to].is_up && self.is_measured() {
                    self.nodes[to].traffic += 1;
                }
                self.handle(to, Input::Message { from, message });
            }
            Event::Ended { to, about } => self.handle(to, Input::Ended(about)),
            Event::Wake(node) => {
                self.nodes[node].wake_us = None;
                if self.nodes[node].machine.poll_timeout().is_some_and(|at_us| at_us <= self.now_us) {
                    self.handle(node, Input::Timeout);
                } else {
                    self.schedule(node);
                }
            }
            Event::Begin => self.begin(),
            Event::Recover => {
                let Some(node) = self.faulty else { return };
                self.nodes[node].is_up = true;
                self.handle(node, Input::Restarted);
            }
        }
    }

    fn begin(&mut self) {
        let Some(node) = self.faulty else { return };
        // What was believed of it before is not a detection.
        self.condemned.remove(&node);
        match self.plan.fault {
            Fault::Crash => self.nodes[node].is_up = false,
            Fault::Recovery => {
                self.nodes[node].is_up = false;
                self.events.push(self.now_us + DOWN_US, Event::Recover);
            }
            Fault::FailStop => {
                self.nodes[node].is_up = false;
                for to in self.nodes[node].machine.notified() {
                    if let Some(delay_us) = self.plan.links.draw_us(&mut self.rng) {
                        self.events.push(self.now_us + delay_us, Event::Ended { to, about: node });
                    }
                }
            }
            _ => {}
        }
    }

    fn handle(&mut self, node: Node, input: Input<M::Message>) {
        if self.nodes[node].is_up {
            self.nodes[node].machine.handle(self.now_us, input);
            self.drain(node);
        }
    }

    fn drain(&mut self, node: Node) {
        while let Some((to, message)) = self.nodes[node].machine.poll_output() {
            self.send(node, to, message);
        }
        while let Some(verdict) = self.nodes[node].machine.poll_verdict() {
            self.judge(node, verdict.about, verdict.is_faulty);
        }
        self.schedule(node);
    }

    fn schedule(&mut self, node: Node) {
        if let Some(due_us) = self.nodes[node].machine.poll_timeout() {
            self.events.wake(&mut self.nodes[node].wake_us, due_us, self.now_us, Event::Wake(node));
        }
    }

    fn send(&mut self, from: Node, to: Node, message: M::Message) {
        if self.is_measured() {
            self.outcome.messages += 1;
            self.outcome.bytes += M::bytes(&message) as u64;
            self.nodes[from].traffic += 1;
        }
        let is_split = (self.has(from, Fault::Split) && self.half[to])
            || (self.has(to, Fault::Split) && self.half[from]);
        let omits = self.has(from, Fault::SendOmission) || self.has(to, Fault::ReceiveOmission);
        if is_split || (omits && self.rng.random_bool(OMITTED)) {
            return;
        }
        let late_us = if self.has(from, Fault::Timing) { self.rng.random_range(0..=LATE_US) } else { 0 };
        if let Some(delay_us) = self.delay_us() {
            self.events.push(self.now_us + delay_us + late_us, Event::Deliver { from, to, message });
        }
    }

    /// How long a message is on its way; `None`: it is lost.
    fn delay_us(&mut self) -> Option<u64> {
        let mut waited_us = 0;
        let mut pause_us = RESEND_US;
        loop {
            match self.plan.links.draw_us(&mut self.rng) {
                Some(delay_us) => return Some(waited_us + delay_us),
                None if !M::CONNECTED => return None,
                None => {
                    waited_us += pause_us;
                    pause_us *= 2;
                }
            }
        }
    }

    fn judge(&mut self, by: Node, about: Node, is_faulty: bool) {
        if self.faulty == Some(by) {
            let counts = is_faulty && self.is_measured();
            self.outcome.by_the_faulty += u64::from(counts);
            return;
        }
        let is_measured = self.is_measured();
        let others = self.condemned.entry(about).or_default();
        if !is_faulty {
            others.remove(&by);
            return;
        }
        let is_first = others.is_empty();
        let is_new = others.insert(by);
        if !is_measured || !is_new {
            return;
        }
        if self.faulty != Some(about) {
            self.outcome.false_positives += u64::from(is_first);
        } else if self.audience.contains(&by) && self.found.insert(by) {
            let ms = (self.now_us - self.begin_us) as f64 / 1000.0;
            self.outcome.first_ms.get_or_insert(ms);
            if self.found.len() == self.audience.len() {
                self.outcome.all_ms = Some(ms);
            }
        }
    }
}
