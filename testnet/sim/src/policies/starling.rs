//! The default dissemination: the rumor machines of `starling_proto`, unchanged, on a random
//! regular overlay, in virtual time.
//!
//! A run is as the simulator of iroh-gossip has it (`src/proto/sim.rs`): each link draws its latency
//! once, a round is one rumor that is followed until it is everywhere or its time is up, and the
//! next round begins at once. The first rounds, where all links are still eager, are reported apart
//! from the later ones, where the tree has settled.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use starling_proto::message::{RumorId, RumorMessage};
use starling_proto::rumor::{RumorConfig, RumorInput, RumorOutput, Rumors};
use starling_proto::wire::{self, Protocol};
use starling_proto::{ActorId, Message, Millis, NodeId};

use super::calendar::Calendar;
use super::overlay::{Neighbours, random_regular};

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Nodes, at least `degree + 1`.
    pub nodes: usize,
    /// Neighbours of each node.
    pub degree: usize,
    /// Least latency of a link, one way.
    pub latency_min_ms: u64,
    /// Largest latency of a link, one way. Every link draws its own once, for both directions.
    pub latency_max_ms: u64,
    /// Share of messages, of whatever kind, that never arrive.
    pub loss: f64,
    /// Who publishes.
    pub senders: Senders,
    /// Rounds reported apart, in which the tree settles.
    pub rounds_cold: usize,
    /// Rounds measured after them.
    pub rounds: usize,
    /// Milliseconds between the beginnings of two rounds; none: the next one begins when the last
    /// node has the rumor.
    pub every_ms: Option<u64>,
    /// Bytes of a rumor's payload.
    pub payload_bytes: usize,
    /// Draws everything.
    pub seed: u64,
}

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Senders {
    /// One random node publishes every rumor.
    One,
    /// A random node for each rumor.
    Many,
}

/// A rumor is given up so long after it was published (iroh-gossip's simulator does the same), and
/// counted as missed where it is missing.
const ROUND_MS_MAX: u64 = 5000;
/// Virtual time after the last round in which duplicates and announcements still count.
const TRAIL_MS: u64 = 1000;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The first rounds.
    pub cold: Figures,
    /// The rounds after them.
    pub settled: Figures,
    /// Events handled over the whole run.
    pub events: u64,
    /// Virtual milliseconds of the whole run.
    pub virtual_ms: u64,
}

/// Figures over some rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// How many rounds.
    pub rounds: usize,
    /// Payload messages received, per node that got the rumor, beyond the one needed.
    pub rmr: f64,
    /// The largest number of links that any copy of a rumor that was news had come over; mean over
    /// the rounds.
    pub last_hop: f64,
    /// From publishing a rumor until the last node that got it had it; mean over the rounds.
    pub all_mean_ms: f64,
    /// The largest of these.
    pub all_max_ms: f64,
    /// From publishing a rumor until a node had it; mean over all nodes and rounds.
    pub node_mean_ms: f64,
    /// 99 % of these are at most so many milliseconds.
    pub node_p99_ms: u64,
    /// Nodes that had asked for a rumor, after an announcement, before it came: per rumor. The eager push
    /// had left them out, or was late.
    pub grafted_nodes: f64,
    /// Nodes that a rumor never reached, over all rounds.
    pub missed: u64,
    /// Sessions of anti-entropy that would have been started.
    pub repairs: u64,
    /// Bytes of full rumors sent, per node and rumor: whole frames.
    pub full_bytes: f64,
    /// Bytes of announcements, grafts and prunes sent, per node and rumor.
    pub control_bytes: f64,
    /// Announcements, grafts and prunes sent, per node and rumor.
    pub control_messages: f64,
}

/// One rumor.
#[derive(Debug, Default)]
struct Round {
    published_us: u64,
    last_us: u64,
    reached: usize,
    payloads: u64,
    last_hop: u16,
    grafted: u64,
}

/// What accumulates over one part of the rounds.
#[derive(Debug, Default)]
struct Part {
    /// Deliveries by their delay in milliseconds.
    delays: Vec<u64>,
    delay_sum_us: u64,
    repairs: u64,
    full_bytes: u64,
    control_bytes: u64,
    control_messages: u64,
}

enum Event {
    Timeout(u32),
    Deliver { from: u32, to: u32, message: RumorMessage },
}

struct Flock<'a> {
    plan: &'a Plan,
    rng: ChaCha8Rng,
    now_us: u64,
    machines: Vec<Rumors>,
    /// When a machine's next timeout event is due.
    wakes_us: Vec<u64>,
    neighbours: Neighbours,
    /// Latency of the link to the neighbour of the same index.
    latencies_us: Vec<Vec<u32>>,
    events: Calendar<Event>,
    handled: u64,
    ids: Vec<RumorId>,
    rounds: Vec<Round>,
    /// Per node a bit for each rumor: has it, and has grafted it.
    known: Bits,
    asked: Bits,
    parts: [Part; 2],
    part: usize,
}

/// A table of bits, a row per node.
struct Bits {
    words: usize,
    bits: Vec<u64>,
}

impl Bits {
    fn new(rows: usize, columns: usize) -> Self {
        let words = columns.div_ceil(64);
        Self { words, bits: vec![0; rows * words] }
    }

    fn get(&self, row: usize, column: usize) -> bool {
        self.bits[row * self.words + column / 64] >> (column % 64) & 1 == 1
    }

    /// Whether it was not set before.
    fn set(&mut self, row: usize, column: usize) -> bool {
        let word = &mut self.bits[row * self.words + column / 64];
        let before = *word;
        *word |= 1 << (column % 64);
        *word != before
    }
}

/// Runs the plan.
pub fn run(plan: &Plan) -> Outcome {
    let mut flock = Flock::new(plan);
    let one = flock.rng.random_range(0..plan.nodes);
    let total = plan.rounds_cold + plan.rounds;
    for round in 0..total {
        flock.part = usize::from(round >= plan.rounds_cold);
        let sender = match plan.senders {
            Senders::One => one,
            Senders::Many => flock.rng.random_range(0..plan.nodes),
        };
        flock.publish(sender);
        let begin_us = flock.now_us;
        match plan.every_ms {
            Some(every_ms) => flock.run_until(begin_us + every_ms * 1000, |_| false),
            None => flock.run_until(begin_us + ROUND_MS_MAX * 1000, |flock| {
                flock.rounds[round].reached == flock.plan.nodes
            }),
        }
    }
    let trail_ms = if plan.every_ms.is_some() { ROUND_MS_MAX } else { TRAIL_MS };
    flock.run_until(flock.now_us + trail_ms * 1000, |_| false);
    Outcome {
        cold: flock.figures(0, 0..plan.rounds_cold),
        settled: flock.figures(1, plan.rounds_cold..total),
        events: flock.handled,
        virtual_ms: flock.now_us / 1000,
    }
}

fn node_id(index: u32) -> NodeId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&index.to_be_bytes());
    NodeId(id)
}

fn index_of(id: NodeId) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_be_bytes([a, b, c, d])
}

/// Which rumor an id names: the sequence numbers of an actor ascend with the rounds.
fn round_of(ids: &[RumorId], id: &RumorId) -> Option<usize> {
    ids.iter().rposition(|other| other == id)
}

impl<'a> Flock<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let neighbours = random_regular(plan.nodes, plan.degree, &mut rng);
        let mut latencies_us: Vec<Vec<u32>> = neighbours.iter().map(|list| vec![0; list.len()]).collect();
        for a in 0..plan.nodes {
            for at in 0..neighbours[a].len() {
                let b = neighbours[a][at] as usize;
                if a < b {
                    let latency =
                        rng.random_range(plan.latency_min_ms * 1000..=plan.latency_max_ms * 1000) as u32;
                    let back = neighbours[b].binary_search(&(a as u32)).expect("links are symmetrical");
                    latencies_us[a][at] = latency;
                    latencies_us[b][back] = latency;
                }
            }
        }
        let rounds = plan.rounds_cold + plan.rounds;
        let machine = |n| Rumors::new(RumorConfig::default(), node_id(n as u32), rng.random());
        let machines = (0..plan.nodes).map(machine).collect();
        let mut flock = Self {
            plan,
            rng,
            now_us: 0,
            machines,
            wakes_us: vec![u64::MAX; plan.nodes],
            neighbours,
            latencies_us,
            events: Calendar::new(),
            handled: 0,
            ids: Vec::new(),
            rounds: Vec::new(),
            known: Bits::new(plan.nodes, rounds),
            asked: Bits::new(plan.nodes, rounds),
            parts: [Part::default(), Part::default()],
            part: 0,
        };
        for node in 0..plan.nodes {
            for at in 0..flock.neighbours[node].len() {
                let peer = node_id(flock.neighbours[node][at]);
                flock.handle(node, RumorInput::LinkUp { peer });
            }
        }
        flock
    }

    fn publish(&mut self, sender: usize) {
        let mut actor = [0; 16];
        actor[..8].copy_from_slice(&(sender as u64).to_be_bytes());
        let actor = ActorId(actor);
        let seq = 1 + self.ids.iter().filter(|id| id.actor == actor).count() as u64;
        let id = RumorId { actor, first: seq, last: seq };
        self.known.set(sender, self.ids.len());
        self.ids.push(id);
        self.rounds.push(Round {
            published_us: self.now_us,
            last_us: self.now_us,
            reached: 1,
            ..Round::default()
        });
        let payload = Bytes::from(vec![0; self.plan.payload_bytes]);
        self.handle(sender, RumorInput::Published { id, payload });
    }

    fn run_until(&mut self, until_us: u64, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            if self.events.next_us().is_none_or(|next| next > until_us) {
                self.now_us = until_us;
                return;
            }
            let Some((at, event)) = self.events.pop() else { return };
            self.now_us = at;
            self.handled += 1;
            match event {
                Event::Timeout(node) if self.wakes_us[node as usize] == at => {
                    self.wakes_us[node as usize] = u64::MAX;
                    self.handle(node as usize, RumorInput::Timeout);
                }
                Event::Timeout(_) => {}
                Event::Deliver { from, to, message } => self.deliver(from, to as usize, message),
            }
        }
    }

    fn deliver(&mut self, from: u32, to: usize, message: RumorMessage) {
        let from = node_id(from);
        let input = match message {
            RumorMessage::Full { id, hops, payload } => {
                let round = round_of(&self.ids, &id).expect("published");
                let news = self.known.set(to, round);
                self.note(to, round, hops, news);
                RumorInput::Received { from, id, hops, payload: payload.0, news }
            }
            message => RumorInput::Message { from, message },
        };
        self.handle(to, input);
    }

    fn note(&mut self, to: usize, round: usize, hops: u16, news: bool) {
        let figures = &mut self.rounds[round];
        figures.payloads += 1;
        if !news {
            return;
        }
        figures.reached += 1;
        figures.last_us = self.now_us;
        figures.last_hop = figures.last_hop.max(hops);
        figures.grafted += u64::from(self.asked.get(to, round));
        let delay_us = self.now_us - figures.published_us;
        let part = &mut self.parts[usize::from(round >= self.plan.rounds_cold)];
        let ms = delay_us.div_ceil(1000) as usize;
        if part.delays.len() <= ms {
            part.delays.resize(ms + 1, 0);
        }
        part.delays[ms] += 1;
        part.delay_sum_us += delay_us;
    }

    fn handle(&mut self, node: usize, input: RumorInput) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (known, ids) = (&self.known, &self.ids);
            let has = |id: &RumorId| round_of(ids, id).is_some_and(|round| known.get(node, round));
            self.machines[node].handle(Millis(self.now_us / 1000), input, &has);
            while let Some(output) = self.machines[node].poll_output() {
                match output {
                    RumorOutput::Send { to, message } => self.send(node, &to, &message),
                    RumorOutput::Supply { to, id } => {
                        let payload = Bytes::from(vec![0; self.plan.payload_bytes]);
                        inputs.push_back(RumorInput::Supplied { to, id, payload });
                    }
                    RumorOutput::Repair { .. } => self.parts[self.part].repairs += 1,
                }
            }
        }
        if let Some(due) = self.machines[node].poll_timeout() {
            let due_us = (due.0 * 1000).max(self.now_us);
            if due_us < self.wakes_us[node] {
                self.wakes_us[node] = due_us;
                self.events.push(due_us, Event::Timeout(node as u32));
            }
        }
    }

    fn send(&mut self, node: usize, to: &[NodeId], message: &RumorMessage) {
        let bytes = wire::encoded_len(&Message::Rumor(message.clone()), Protocol::CURRENT.max);
        let bytes = (bytes.expect("the newest protocol has every kind") * to.len()) as u64;
        let part = &mut self.parts[self.part];
        if matches!(message, RumorMessage::Full { .. }) {
            part.full_bytes += bytes;
        } else {
            part.control_bytes += bytes;
            part.control_messages += to.len() as u64;
        }
        if let RumorMessage::Graft { ids } = message {
            for round in ids.iter().filter_map(|id| round_of(&self.ids, id)) {
                self.asked.set(node, round);
            }
        }
        for to in to.iter().map(|id| index_of(*id)) {
            if self.plan.loss > 0.0 && self.rng.random_bool(self.plan.loss) {
                continue;
            }
            let at = self.neighbours[node].binary_search(&to).expect("machines send to neighbours");
            let at_us = self.now_us + u64::from(self.latencies_us[node][at]);
            self.events.push(at_us, Event::Deliver { from: node as u32, to, message: message.clone() });
        }
    }

    fn figures(&self, part: usize, rounds: std::ops::Range<usize>) -> Figures {
        let rounds = &self.rounds[rounds];
        if rounds.is_empty() {
            return Figures::default();
        }
        let part = &self.parts[part];
        let mean = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).sum::<f64>() / rounds.len() as f64;
        let all_ms = |round: &Round| (round.last_us - round.published_us) as f64 / 1000.0;
        let others: usize = rounds.iter().map(|round| round.reached - 1).sum();
        let payloads: u64 = rounds.iter().map(|round| round.payloads).sum();
        let per_node = |count: u64| count as f64 / (rounds.len() * self.plan.nodes) as f64;
        Figures {
            rounds: rounds.len(),
            rmr: payloads as f64 / others as f64 - 1.0,
            last_hop: mean(&|round| f64::from(round.last_hop)),
            all_mean_ms: mean(&all_ms),
            all_max_ms: rounds.iter().map(all_ms).fold(0.0, f64::max),
            node_mean_ms: part.delay_sum_us as f64 / 1000.0 / others as f64,
            node_p99_ms: percentile(&part.delays, 0.99),
            grafted_nodes: mean(&|round| round.grafted as f64),
            missed: rounds.iter().map(|round| (self.plan.nodes - round.reached) as u64).sum(),
            repairs: part.repairs,
            full_bytes: per_node(part.full_bytes),
            control_bytes: per_node(part.control_bytes),
            control_messages: per_node(part.control_messages),
        }
    }
}

/// The smallest index that covers `share` of a histogram.
fn percentile(histogram: &[u64], share: f64) -> u64 {
    let wanted = histogram.iter().sum::<u64>() as f64 * share;
    let mut covered = 0;
    let reached = |count: &u64| {
        covered += count;
        covered as f64 >= wanted
    };
    histogram.iter().position(reached).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(loss: f64, every_ms: Option<u64>) -> Plan {
        Plan {
            nodes: 300,
            degree: 5,
            latency_min_ms: 10,
            latency_max_ms: 50,
            loss,
            senders: Senders::Many,
            rounds_cold: 20,
            rounds: 20,
            every_ms,
            payload_bytes: 100,
            seed: 1,
        }
    }

    #[test]
    fn every_rumor_reaches_every_node() {
        for every_ms in [None, Some(50)] {
            let Outcome { cold, settled, .. } = run(&plan(0.0, every_ms));
            assert_eq!((cold.missed, settled.missed), (0, 0));
            assert!(settled.rmr <= cold.rmr, "the tree does not settle: {cold:?} {settled:?}");
            assert!(settled.node_mean_ms <= settled.all_mean_ms && settled.all_mean_ms <= settled.all_max_ms);
        }
    }

    #[test]
    fn announcements_bring_what_was_lost() {
        let lossy = run(&plan(0.05, None));
        assert!(lossy.settled.grafted_nodes > 0.0);
        // What nobody announced either is left to sessions of anti-entropy.
        let due = 300 * lossy.settled.rounds as u64;
        assert!(lossy.settled.missed * 1000 <= due, "{lossy:?}");
    }

    #[test]
    fn equal_seeds_give_equal_outcomes() {
        let plan = plan(0.05, Some(50));
        assert_eq!(run(&plan), run(&plan));
        assert_ne!(run(&plan), run(&Plan { seed: 2, ..plan.clone() }));
    }

    #[test]
    fn percentiles_cover_their_share() {
        assert_eq!(percentile(&[0, 98, 1, 1], 0.99), 2);
        assert_eq!(percentile(&[], 0.99), 0);
    }
}
