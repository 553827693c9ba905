//! SWIM, member by member: A. Das, I. Gupta, A. Motivala, "SWIM: scalable weakly-consistent infection-style process group
//! membership protocol", DSN 2002; and Lifeguard: A. Dadgar, J. Phillips, J. Currey, "Lifeguard: local health awareness
//! for more accurate failure detection", DSN-W 2018.
//!
//! ```text
//!   a --Ping--> b            no Ack within half a period:  a --PingReq(b)--> c --Ping--> b
//!   a <--Ack--- b                                          a <-----Ack------ c <--Ack--- b
//! ```
//!
//! A member that answers neither way within its prober's period is suspected; the suspicion is an update, which rides on
//! pings and acks, and which the suspect refutes with a higher incarnation. One that is not refuted in time becomes a
//! failure, at every member by its own clock. Numbers are memberlist's (`swim::Protocol::serf`), without its messages
//! of updates alone and its synchronization of full states.
//!
//! Lifeguard: a member that misses acks of its own probes while relays do not report the same (no `Nack`), or that has to
//! refute, counts itself as unwell, and probes more slowly and with more patience; a suspicion is given much time at
//! first, and less with each member that confirms it; a ping to a suspect contains the suspicion.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bincode::Encode;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_strong::codec;

use super::machine::{Input, Machine, Node, Verdict};
use crate::policies::swim::Protocol;

/// Updates on one message, at most. An estimate: memberlist fills a packet of 1,400 bytes, and a rumor here has 10.
const UPDATES_MAX: usize = 32;
/// A member's own health is no worse than this (memberlist's `AwarenessMaxMultiplier`).
const HEALTH_MAX: u64 = 8;
/// Lifeguard: the first patience with a suspicion, in its last one (memberlist's `SuspicionMaxTimeoutMult`).
const PATIENCE_FIRST: f64 = 6.0;
/// Lifeguard: confirmations after which a suspicion has no more than its last patience: memberlist has the suspicion's
/// multiplier less 2.
const CONFIRMATIONS: f64 = 2.0;
/// The share of a ping's time-out after which a relay reports that it has no ack (memberlist).
const NACK_SHARE: f64 = 0.8;

/// What is said of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode)]
pub enum Claim {
    /// It is alive.
    Alive,
    /// It does not answer.
    Suspect,
    /// It is faulty.
    Faulty,
}

/// A claim about one incarnation of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub struct Update {
    about: u32,
    incarnation: u32,
    claim: Claim,
    /// The member whose probe it comes from.
    by: u32,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
#[allow(missing_docs, reason = "the figure of the module names them")]
pub enum Message {
    /// `via`: the member on whose behalf a relay asks, with its number of the probe.
    Ping {
        number: u32,
        via: Option<(u32, u32)>,
        updates: Vec<Update>,
    },
    Ack {
        number: u32,
        via: Option<(u32, u32)>,
        updates: Vec<Update>,
    },
    PingReq {
        number: u32,
        target: u32,
        updates: Vec<Update>,
    },
    Nack {
        number: u32,
    },
}

#[derive(Clone, Debug)]
struct Rumor {
    update: Update,
    /// Times left to send it.
    left: u32,
}

#[derive(Clone, Debug)]
struct Known {
    incarnation: u32,
    claim: Claim,
    since_us: u64,
    /// Members from whose probes the suspicion comes.
    by: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    target: Node,
    /// When relays are asked, if they have not been.
    relay_us: Option<u64>,
    end_us: u64,
    nacks_due: u32,
    nacks: u32,
    is_acked: bool,
}

/// One member.
#[derive(Debug)]
pub struct Swim {
    protocol: Protocol,
    is_guarded: bool,
    own: Node,
    nodes: usize,
    rng: ChaCha8Rng,
    incarnation: u32,
    /// The next member to probe, and the step to the one after it, which has no divisor in common with the number of
    /// members: a round of probes reaches each member once, in an order of this member's own.
    next: usize,
    stride: usize,
    number: u32,
    probe: Option<Probe>,
    probe_us: u64,
    /// Members about which something other than "alive, as in the beginning" is known.
    known: BTreeMap<Node, Known>,
    rumors: Vec<Rumor>,
    /// When the patience with each suspect ends.
    due: BTreeSet<(u64, Node)>,
    /// Nacks that are to be sent: when, to whom, for which probe of whom.
    nacks: VecDeque<(u64, Node, u32)>,
    health: u64,
    outputs: VecDeque<(Node, Message)>,
    verdicts: VecDeque<Verdict>,
}

impl Swim {
    /// A member that knows all others, and probes the first one at `first_us`.
    pub fn new(is_guarded: bool, own: Node, nodes: usize, first_us: u64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let stride = loop {
            // 1 has no divisor in common with any number.
            let stride = rng.random_range(1..nodes.max(2));
            if gcd(stride, nodes) == 1 {
                break stride;
            }
        };
        Self {
            protocol: Protocol::serf(),
            is_guarded,
            own,
            nodes,
            next: rng.random_range(0..nodes),
            rng,
            incarnation: 0,
            stride,
            number: 0,
            probe: None,
            probe_us: first_us,
            known: BTreeMap::new(),
            rumors: Vec::new(),
            due: BTreeSet::new(),
            nacks: VecDeque::new(),
            health: 0,
            outputs: VecDeque::new(),
            verdicts: VecDeque::new(),
        }
    }

    fn period_us(&self) -> u64 {
        self.protocol.period_ms * 1000 * (1 + self.health)
    }

    fn claim(&self, node: Node) -> Claim {
        self.known.get(&node).map_or(Claim::Alive, |known| known.claim)
    }

    fn notice_health(&mut self, worse: i64) {
        if self.is_guarded {
            self.health = self.health.saturating_add_signed(worse).min(HEALTH_MAX);
        }
    }

    /// The updates of the next message, those first that were sent least.
    fn updates(&mut self, to: Node) -> Vec<Update> {
        let mut updates = Vec::new();
        // Lifeguard's buddy system.
        if self.is_guarded && self.claim(to) == Claim::Suspect {
            let incarnation = self.known[&to].incarnation;
            let (about, by) = (to as u32, self.own as u32);
            updates.push(Update { about, incarnation, claim: Claim::Suspect, by });
        }
        self.rumors.sort_by_key(|rumor| std::cmp::Reverse(rumor.left));
        for rumor in self.rumors.iter_mut().take(UPDATES_MAX - updates.len()) {
            rumor.left -= 1;
            updates.push(rumor.update);
        }
        self.rumors.retain(|rumor| rumor.left > 0);
        updates
    }

    fn spread(&mut self, update: Update) {
        self.rumors.retain(|rumor| rumor.update.about != update.about);
        self.rumors.push(Rumor { update, left: self.protocol.retransmits(self.nodes) });
    }

    fn begin_probe(&mut self, now_us: u64) {
        let target = (0..self.nodes).find_map(|_| {
            self.next = (self.next + self.stride) % self.nodes;
            let is_target = self.next != self.own && self.claim(self.next) != Claim::Faulty;
            is_target.then_some(self.next)
        });
        let period_us = self.period_us();
        self.probe_us = now_us + period_us;
        let Some(target) = target else { return };
        self.number += 1;
        let updates = self.updates(target);
        self.outputs.push_back((target, Message::Ping { number: self.number, via: None, updates }));
        self.probe = Some(Probe {
            target,
            relay_us: Some(now_us + period_us / 2),
            end_us: now_us + period_us,
            nacks_due: 0,
            nacks: 0,
            is_acked: false,
        });
    }

    fn ask_relays(&mut self) {
        let Some(mut probe) = self.probe else { return };
        probe.relay_us = None;
        for _ in 0..self.protocol.indirect {
            let relay = self.rng.random_range(0..self.nodes);
            if relay != self.own && relay != probe.target && self.claim(relay) == Claim::Alive {
                let updates = self.updates(relay);
                let request = Message::PingReq { number: self.number, target: probe.target as u32, updates };
                self.outputs.push_back((relay, request));
                probe.nacks_due += 1;
            }
        }
        self.probe = Some(probe);
    }

    fn end_probe(&mut self, now_us: u64) {
        let Some(probe) = self.probe.take() else { return };
        if probe.is_acked {
            return;
        }
        // Relays that did not even report in vain: the fault may be here.
        let missing = i64::from(probe.nacks_due) - i64::from(probe.nacks);
        self.notice_health(if probe.nacks_due == 0 { 1 } else { missing });
        let incarnation = self.known.get(&probe.target).map_or(0, |known| known.incarnation);
        let (about, by) = (probe.target as u32, self.own as u32);
        self.learn(now_us, Update { about, incarnation, claim: Claim::Suspect, by });
    }

    /// How long a suspect has to refute, microseconds.
    fn patience_us(&self, confirmations: usize) -> u64 {
        let last_us = self.protocol.suspicion(self.nodes).as_micros() as f64;
        if !self.is_guarded {
            return last_us as u64;
        }
        let first_us = PATIENCE_FIRST * last_us;
        let share = (confirmations as f64 + 1.0).ln() / (CONFIRMATIONS + 1.0).ln();
        (first_us - (first_us - last_us) * share).max(last_us) as u64
    }

    fn learn(&mut self, now_us: u64, update: Update) {
        let node = update.about as Node;
        if node == self.own {
            if update.claim != Claim::Alive && update.incarnation >= self.incarnation {
                self.incarnation = update.incarnation + 1;
                self.notice_health(1);
                let (incarnation, about) = (self.incarnation, update.about);
                self.spread(Update { about, incarnation, claim: Claim::Alive, by: about });
            }
            return;
        }
        let alive = Known { incarnation: 0, claim: Claim::Alive, since_us: 0, by: BTreeSet::new() };
        let mut known = self.known.remove(&node).unwrap_or(alive);
        let is_news = match update.claim {
            Claim::Alive => update.incarnation > known.incarnation,
            claim => update.incarnation >= known.incarnation && claim > known.claim,
        };
        let is_confirmation = !is_news
            && update.claim == Claim::Suspect
            && known.claim == Claim::Suspect
            && update.incarnation == known.incarnation
            && known.by.len() <= CONFIRMATIONS as usize
            && known.by.insert(update.by);
        if is_news {
            let was = known.claim;
            self.due.remove(&(known.since_us + self.patience_us(known.by.len().saturating_sub(1)), node));
            let by = BTreeSet::from([update.by]);
            known = Known { incarnation: update.incarnation, claim: update.claim, since_us: now_us, by };
            self.judge(node, was, update.claim);
        } else if is_confirmation && self.is_guarded {
            self.due.remove(&(known.since_us + self.patience_us(known.by.len() - 2), node));
        }
        if (is_news || is_confirmation) && known.claim == Claim::Suspect {
            let patience_us = self.patience_us(known.by.len() - 1);
            self.due.insert((known.since_us + patience_us, node));
        }
        if is_news || (is_confirmation && self.is_guarded) {
            self.spread(update);
        }
        self.known.insert(node, known);
    }

    fn judge(&mut self, about: Node, was: Claim, is: Claim) {
        if (was == Claim::Faulty) != (is == Claim::Faulty) {
            self.verdicts.push_back(Verdict { about, is_faulty: is == Claim::Faulty });
        }
    }

    fn on_timeout(&mut self, now_us: u64) {
        if self.probe.is_some_and(|probe| probe.end_us <= now_us) {
            self.end_probe(now_us);
        }
        if self.probe.is_some_and(|probe| probe.relay_us.is_some_and(|at| at <= now_us) && !probe.is_acked) {
            self.ask_relays();
        }
        if self.probe_us <= now_us {
            self.begin_probe(now_us);
        }
        while let Some((at_us, to, number)) = self.nacks.front().copied()
            && at_us <= now_us
        {
            self.nacks.pop_front();
            self.outputs.push_back((to, Message::Nack { number }));
        }
        while let Some((due_us, node)) = self.due.first().copied()
            && due_us <= now_us
        {
            self.due.pop_first();
            let incarnation = self.known.get(&node).map_or(0, |known| known.incarnation);
            let (about, by) = (node as u32, self.own as u32);
            self.learn(now_us, Update { about, incarnation, claim: Claim::Faulty, by });
        }
    }

    fn on_message(&mut self, now_us: u64, from: Node, message: Message) {
        match message {
            Message::Ping { number, via, updates } => {
                self.learn_all(now_us, updates);
                let updates = self.updates(from);
                self.outputs.push_back((from, Message::Ack { number, via, updates }));
            }
            Message::PingReq { number, target, updates } => {
                self.learn_all(now_us, updates);
                let target = target as Node;
                let (via, updates) = (Some((from as u32, number)), self.updates(target));
                self.outputs.push_back((target, Message::Ping { number, via, updates }));
                if self.is_guarded {
                    let wait_us = self.protocol.period_ms as f64 * 1000.0 / 2.0 * NACK_SHARE;
                    self.nacks.push_back((now_us + wait_us as u64, from, number));
                }
            }
            Message::Ack { number, via: Some((prober, probe)), updates } => {
                self.learn_all(now_us, updates);
                let prober = prober as Node;
                self.nacks.retain(|(_, to, nacked)| (*to, *nacked) != (prober, probe));
                let updates = self.updates(prober);
                self.outputs.push_back((prober, Message::Ack { number, via: None, updates }));
            }
            Message::Ack { number, via: None, updates } => {
                self.learn_all(now_us, updates);
                if number == self.number
                    && let Some(probe) = &mut self.probe
                    && !std::mem::replace(&mut probe.is_acked, true)
                {
                    self.notice_health(-1);
                }
            }
            Message::Nack { number } => {
                if number == self.number
                    && let Some(probe) = &mut self.probe
                {
                    probe.nacks += 1;
                }
            }
        }
    }

    fn learn_all(&mut self, now_us: u64, updates: Vec<Update>) {
        for update in updates {
            self.learn(now_us, update);
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Machine for Swim {
    type Message = Message;
    const CONNECTED: bool = false;

    fn handle(&mut self, now_us: u64, input: Input<Message>) {
        match input {
            Input::Message { from, message } => self.on_message(now_us, from, message),
            Input::Timeout => self.on_timeout(now_us),
            Input::Ended(node) => {
                let incarnation = self.known.get(&node).map_or(0, |known| known.incarnation);
                let (about, by) = (node as u32, self.own as u32);
                self.learn(now_us, Update { about, incarnation, claim: Claim::Faulty, by });
            }
            Input::Restarted => {
                self.probe = None;
                self.probe_us = now_us;
                self.incarnation += 1;
                let (about, incarnation) = (self.own as u32, self.incarnation);
                self.spread(Update { about, incarnation, claim: Claim::Alive, by: about });
            }
        }
    }

    fn poll_output(&mut self) -> Option<(Node, Message)> {
        self.outputs.pop_front()
    }

    fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    fn poll_timeout(&self) -> Option<u64> {
        let probe_us = self.probe.map(|probe| match probe.relay_us {
            Some(relay_us) if !probe.is_acked => relay_us,
            _ => probe.end_us,
        });
        let nack_us = self.nacks.front().map(|(at_us, ..)| *at_us);
        let due_us = self.due.first().map(|(due_us, _)| *due_us);
        [Some(self.probe_us), probe_us, nack_us, due_us].into_iter().flatten().min()
    }

    fn notified(&self) -> Vec<Node> {
        // As memberlist's `Leave`: an update, to as many as a probe has relays.
        (1..=self.protocol.indirect as usize)
            .map(|step| (self.own + step * self.stride) % self.nodes)
            .collect()
    }

    fn bytes(message: &Message) -> usize {
        codec::encoded_len(message)
    }
}
