//! The network that all protocols run in: messages that are delayed and lost, nodes that crash and are slow, and
//! partitions, as a [`Scenario`] says. One seed draws everything.

use std::collections::BTreeSet;

use rand::seq::{IteratorRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_strong::codec;

use super::judge::{Judge, Outcome};
use super::machine::{Input, Leader, Machine, Members, Node};
use super::scenario::{Begins, Order, Scenario, Who};
use crate::policies::calendar::Calendar;

#[derive(Debug)]
enum Event<M> {
    Start(Node),
    Deliver { from: Node, to: Node, message: M },
    Wake(Node),
    Crash(Node),
    Notify { to: Node, about: Node, is_up: bool },
    Cut,
    Mend,
}

struct Process<M> {
    machine: M,
    is_live: bool,
    /// How much later it handles messages, microseconds.
    slow_us: u64,
    /// When it is woken next.
    wake_us: Option<u64>,
}

/// How long all live nodes have to know the leader until a run is over, microseconds. No protocol here waits longer for
/// anything before it acts, in the scenarios that have names.
const SETTLED_US: u64 = 5_000_000;

/// Nodes by their parts, before the election begins.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The rank of each node.
    pub ranks: Vec<u32>,
    /// Those that begin, the first one first.
    pub initiators: Vec<Node>,
    /// The leader that is dead from the beginning.
    pub old_leader: Option<Node>,
    /// The live node of the highest rank.
    pub best: Node,
    /// The smaller side of the partition.
    pub minority: BTreeSet<Node>,
}

impl Cast {
    /// Draws who is who.
    pub fn draw(scenario: &Scenario, rng: &mut ChaCha8Rng) -> Self {
        let count = scenario.nodes;
        let mut ranks: Vec<u32> = (0..count as u32).collect();
        match scenario.order {
            Order::Ascending => {}
            Order::Descending => ranks.reverse(),
            Order::Drawn => ranks.shuffle(rng),
        }
        let place = |rank: usize| ranks.iter().position(|r| *r as usize == rank).unwrap_or(0);
        let old_leader = scenario.old_leader.then(|| place(count - 1));
        let best = place(count - 1 - usize::from(scenario.old_leader));
        let live: Vec<Node> = (0..count).filter(|node| Some(*node) != old_leader).collect();
        let first = match scenario.begins {
            Begins::Drawn => live[rng.random_range(0..live.len())],
            Begins::Best => best,
            Begins::AfterBest => next(&live, best),
            Begins::Lowest => place(0),
        };
        let others = live.iter().copied().filter(|node| *node != first);
        let mut initiators = others.sample(rng, scenario.initiators.saturating_sub(1));
        initiators.insert(0, first);
        let minority = scenario.partition.map_or(0, |partition| partition.minority);
        let minority = (0..count).sample(rng, minority).into_iter().collect();
        Self { ranks, initiators, old_leader, best, minority }
    }

    fn members(&self, own: Node, scenario: &Scenario) -> Members {
        // Without a failure detector nobody knows who is dead.
        let down = self.old_leader.filter(|_| scenario.detect_ms.is_some()).into_iter().collect();
        Members { own, ranks: self.ranks.clone(), down, delay_us: scenario.delay_us() }
    }
}

/// The next of `live`, which is ascending, clockwise of `node`.
fn next(live: &[Node], node: Node) -> Node {
    live.iter().copied().find(|other| *other > node).unwrap_or(live[0])
}

/// A network while it runs.
pub struct Network<'a, M: Machine> {
    scenario: &'a Scenario,
    cast: Cast,
    rng: ChaCha8Rng,
    now_us: u64,
    nodes: Vec<Process<M>>,
    is_cut: bool,
    events: Calendar<Event<M::Message>>,
    judge: Judge,
    /// A line for each event; `None`: not recorded.
    transcript: Option<Vec<String>>,
}

impl<'a, M: Machine> Network<'a, M> {
    /// A network in which nothing has happened. `machines` makes the machine of each node.
    pub fn new(
        scenario: &'a Scenario,
        seed: u64,
        machines: impl FnOnce(&Cast, Vec<Members>, &mut ChaCha8Rng) -> Vec<M>,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let cast = Cast::draw(scenario, &mut rng);
        let members = (0..scenario.nodes).map(|node| cast.members(node, scenario)).collect();
        let processes = machines(&cast, members, &mut rng).into_iter().enumerate();
        let process = |(node, machine)| Process {
            machine,
            is_live: cast.old_leader != Some(node),
            slow_us: 0,
            wake_us: None,
        };
        let nodes = processes.map(process).collect();
        let live = (0..scenario.nodes).filter(|node| cast.old_leader != Some(*node)).collect();
        let mut network = Self {
            scenario,
            judge: Judge::new(live, &cast),
            cast,
            rng,
            now_us: 0,
            nodes,
            is_cut: false,
            events: Calendar::new(),
            transcript: None,
        };
        network.plan();
        network
    }

    fn plan(&mut self) {
        for node in self.live().collect::<Vec<_>>() {
            self.schedule(node);
        }
        for (index, node) in self.cast.initiators.clone().into_iter().enumerate() {
            let at_us =
                if index == 0 { 0 } else { self.rng.random_range(0..=self.scenario.spread_ms * 1000) };
            self.events.push(at_us, Event::Start(node));
        }
        if let Some(crash) = self.scenario.crash
            && let Some(node) = self.who(crash.who)
        {
            self.events.push(crash.at_ms * 1000, Event::Crash(node));
        }
        if let Some(slow) = self.scenario.slow
            && let Some(node) = self.who(slow.who)
        {
            self.nodes[node].slow_us = slow.ms * 1000;
        }
        if let Some(partition) = self.scenario.partition {
            self.events.push(partition.at_ms * 1000, Event::Cut);
            self.events.push((partition.at_ms + partition.for_ms) * 1000, Event::Mend);
        }
    }

    /// The node of a part; the winner is not known beforehand.
    fn who(&self, who: Who) -> Option<Node> {
        let live: Vec<Node> = self.live().collect();
        match who {
            Who::Initiator => Some(self.cast.initiators[0]),
            Who::Neighbour => Some(next(&live, self.cast.initiators[0])),
            Who::Best => Some(self.cast.best),
            Who::Winner => None,
        }
    }

    fn live(&self) -> impl Iterator<Item = Node> + '_ {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_live)
    }

    /// Runs until nothing is left to happen, or all live nodes have known the leader for [`SETTLED_US`] after the last
    /// fault, or to the deadline, and judges. With `recorded`, also returns a line for each
    /// event.
    pub fn run(mut self, recorded: bool) -> (Outcome, Vec<String>) {
        self.transcript = recorded.then(Vec::new);
        self.advance();
        (self.judge.outcome(), self.transcript.unwrap_or_default())
    }

    fn advance(&mut self) {
        let faults_us = self.scenario.faults_end_ms() * 1000;
        while let Some(at_us) = self.events.next_us()
            && at_us <= self.scenario.deadline_ms * 1000
            && self.judge.known_us().is_none_or(|known_us| at_us <= known_us.max(faults_us) + SETTLED_US)
            && let Some((at_us, event)) = self.events.pop()
        {
            self.now_us = at_us;
            self.perform(event);
        }
    }

    fn perform(&mut self, event: Event<M::Message>) {
        match event {
            Event::Start(node) => self.handle(node, Input::Start),
            Event::Deliver { from, to, message } => {
                let end = if self.nodes[to].is_live { "" } else { " reaches a dead node" };
                self.note(|| format!("{from} -> {to} {message:?}{end}"));
                self.judge.delivered(self.now_us);
                self.handle(to, Input::Message { from, message });
            }
            Event::Wake(node) => {
                self.nodes[node].wake_us = None;
                let is_due = self.nodes[node].machine.poll_timeout().is_some_and(|at| at <= self.now_us);
                if is_due {
                    self.handle(node, Input::Timeout);
                } else {
                    self.schedule(node);
                }
            }
            Event::Crash(node) => self.crash(node),
            Event::Notify { to, about, is_up } => self.notify(to, about, is_up),
            Event::Cut => {
                self.is_cut = true;
                self.note(|| "the network is cut".into());
                self.notify_sides(false);
            }
            Event::Mend => {
                self.is_cut = false;
                self.note(|| "the network is whole again".into());
                self.notify_sides(true);
            }
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push(format!("{:>10.3} ms  {}", self.now_us as f64 / 1000.0, line()));
        }
    }

    fn crash(&mut self, node: Node) {
        self.note(|| format!("{node} crashes"));
        self.nodes[node].is_live = false;
        self.judge.crashed(self.now_us, node);
        for other in self.live().collect::<Vec<_>>() {
            self.plan_notice(other, node, false);
        }
    }

    fn plan_notice(&mut self, to: Node, about: Node, is_up: bool) {
        if let Some(detect_ms) = self.scenario.detect_ms {
            self.events.push(self.now_us + detect_ms * 1000, Event::Notify { to, about, is_up });
        }
    }

    fn notify_sides(&mut self, is_up: bool) {
        let live: Vec<Node> = self.live().collect();
        for to in live.iter().copied() {
            for about in live.iter().copied() {
                if self.parts(to, about) {
                    self.plan_notice(to, about, is_up);
                }
            }
        }
    }

    /// The failure detectors report what is so: a partition may have ended in the meantime, and a node died.
    fn notify(&mut self, to: Node, about: Node, is_up: bool) {
        let is_reachable = self.nodes[about].is_live && !(self.is_cut && self.parts(to, about));
        if is_up == is_reachable {
            self.handle(to, if is_up { Input::Up(about) } else { Input::Down(about) });
        }
    }

    /// Whether the partition separates two nodes.
    fn parts(&self, a: Node, b: Node) -> bool {
        self.cast.minority.contains(&a) != self.cast.minority.contains(&b)
    }

    fn handle(&mut self, node: Node, input: Input<M::Message>) {
        if !self.nodes[node].is_live {
            return;
        }
        self.nodes[node].machine.handle(self.now_us, input);
        while let Some((to, message)) = self.nodes[node].machine.poll_output() {
            self.send(node, to, message);
        }
        self.schedule(node);
        let leader = self.nodes[node].machine.leader();
        if self.judge.knows(node) != leader {
            self.note(|| match leader {
                Some(Leader { term: Some(term), node: leader }) => {
                    format!("{node} knows leader {leader} of term {term}")
                }
                Some(Leader { term: None, node: leader }) => format!("{node} knows leader {leader}"),
                None => format!("{node} knows no leader"),
            });
            let is_first_winner = self.judge.learned(self.now_us, node, leader);
            if is_first_winner
                && let Some(crash) = self.scenario.crash.filter(|crash| crash.who == Who::Winner)
            {
                self.events.push(self.now_us + crash.at_ms * 1000, Event::Crash(node));
            }
        }
    }

    fn send(&mut self, from: Node, to: Node, message: M::Message) {
        self.judge.sent(codec::encoded_len(&message));
        let Some(delay_us) = self.scenario.links.draw_us(&mut self.rng) else {
            self.note(|| format!("{from} -> {to} {message:?} is lost"));
            return;
        };
        if !(self.is_cut && self.parts(from, to)) {
            self.judge.departed();
            let at_us = self.now_us + delay_us + self.nodes[to].slow_us;
            self.events.push(at_us, Event::Deliver { from, to, message });
        }
    }

    fn schedule(&mut self, node: Node) {
        if let Some(due_us) = self.nodes[node].machine.poll_timeout() {
            self.events.wake(&mut self.nodes[node].wake_us, due_us, self.now_us, Event::Wake(node));
        }
    }
}
