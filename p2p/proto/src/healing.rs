//! Healing: partial views can split into components that never meet again, because each forgets the
//! other. So every node remembers peers far longer than its views do, and probes those that it has
//! not heard of for a while. A peer that answers after a long silence becomes a neighbour.

use std::collections::{BTreeMap, VecDeque};

use rand::SeedableRng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use crate::message::ViewMessage;
use crate::timers::Timers;
use crate::view::{Block, backoff_ms, jittered};
use crate::{Millis, NodeId, NodeRecord, Role};

/// Settings of [`Healing`]. All defaults are guesses unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealingConfig {
    /// Peers remembered, at most.
    pub remembered_max: usize,
    /// Time between probes of peers not heard of lately, milliseconds, jittered by a quarter. One
    /// dialed connection (4 kB) every 5 minutes is 13 B/s.
    pub probe_ms: u64,
    /// Time without a message from a peer after which it may be probed, milliseconds.
    pub quiet_ms: u64,
    /// Time without a mention by any node after which a peer may be in another component, milliseconds, if
    /// `remembered_max` peers are remembered; less in proportion if there are fewer, but at least `quiet_ms`. In stable
    /// views of a few hundred nodes, each node is named a few times an hour.
    pub silent_ms: u64,
    /// First wait before a neighbour lost by failure is probed, milliseconds; doubles each time.
    pub lost_first_ms: u64,
    /// Longest such wait, milliseconds: how long after the end of a split it may take to heal.
    pub lost_max_ms: u64,
    /// Probes without an answer after which a lost neighbour is probed no more often than any remembered peer. 20 are
    /// about 70 minutes.
    pub lost_probes_max: u32,
    /// Least time between two [`HealingOutput::Remember`], milliseconds; the first comes after a
    /// thirtieth of it, and the time then doubles up to this: a node that has just joined learns of peers quickly, and
    /// may have to come back without the seed through which it joined.
    pub remember_ms: u64,
}

impl Default for HealingConfig {
    fn default() -> Self {
        Self {
            remembered_max: 256,
            probe_ms: 300_000,
            quiet_ms: 600_000,
            silent_ms: 3_600_000,
            lost_first_ms: 5_000,
            lost_max_ms: 300_000,
            lost_probes_max: 20,
            remember_ms: 30_000,
        }
    }
}

/// Probes after which contacts are looked for once instead: they may lead to peers that no node of this component
/// remembers. A guess.
const CONTACTS_EVERY: u32 = 4;

/// Probes without an answer after which a silent peer is probed no more often than others. A guess.
const SILENT_PROBES_MAX: u32 = 3;

/// An event that healing handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealingInput<'a> {
    /// The time of `poll_timeout` has come.
    Timeout,
    /// A link came up and the peer proved this record.
    Connected(&'a NodeRecord),
    /// Bootstrap reached this live peer, which may be in another component. The caller passes it before `Connected`,
    /// after which the peer counts as known.
    Contact(&'a NodeRecord),
    /// The peer became a neighbour.
    Up(&'a NodeRecord),
    /// The peer is no longer a neighbour; `failed` if it may be dead or beyond a split.
    Down {
        /// The former neighbour.
        peer: &'a NodeId,
        /// See [`crate::view::DownReason::is_failure`].
        failed: bool,
    },
    /// A membership message arrived.
    Message {
        /// The sender.
        from: &'a NodeRecord,
        /// What.
        message: &'a ViewMessage,
    },
    /// The peer could not be reached.
    Unreachable(&'a NodeId),
}

/// What the caller has to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealingOutput {
    /// Send this, connecting first if need be.
    Send {
        /// To whom.
        to: NodeRecord,
        /// A probe.
        message: ViewMessage,
    },
    /// The peer answered after a long silence: make it a neighbour
    /// ([`crate::view::ViewInput::Merge`]).
    Merge(NodeRecord),
    /// Look for contacts (seeds, tickets, DNS) although there are neighbours: a contact may be in another component.
    NeedContacts,
    /// Store these peers on disk in place of those stored before; the most likely to be alive come first.
    Remember(Vec<NodeRecord>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Probe a peer that was not heard of lately.
    Probe,
    /// Probe this lost neighbour.
    Lost(NodeId),
    Remember,
}

#[derive(Clone, Debug)]
struct Peer {
    record: NodeRecord,
    /// When it last sent this node a message.
    heard: Option<Millis>,
    /// When a node of this component last named it. That does not prove that it lives, since views contain dead nodes
    /// for a while, but a peer that is named is not forgotten.
    named: Option<Millis>,
    /// Whether it is a neighbour.
    up: bool,
    /// Whether it was a neighbour and failed.
    lost: bool,
    /// Probes without an answer since it was last heard.
    failures: u32,
    /// Set while a probe is under way: whether an answer means that components meet.
    probed: Option<bool>,
}

impl Peer {
    /// Whether it may be in another component.
    fn is_silent(&self, now: Millis, silent_ms: u64) -> bool {
        self.lost || (!self.up && self.heard.max(self.named).is_none_or(|at| now - at >= silent_ms))
    }

    /// Whether it may be probed.
    fn is_quiet(&self, now: Millis, quiet_ms: u64) -> bool {
        !self.up && self.heard.is_none_or(|at| now - at >= quiet_ms)
    }
}

/// The memory and its probes. When it is full, peers that did not answer are evicted first, then those of
/// the most frequent address block, then those heard of longest ago; neighbours never are.
#[derive(Debug)]
pub struct Healing {
    config: HealingConfig,
    me: NodeId,
    rng: ChaCha8Rng,
    peers: BTreeMap<NodeId, Peer>,
    timers: Timers<Timer>,
    outputs: VecDeque<HealingOutput>,
    remembered_at: Option<Millis>,
    /// Least time until the next [`HealingOutput::Remember`], milliseconds.
    remember_again_ms: u64,
    /// Probes of silent peers so far.
    ticks: u32,
}

impl Healing {
    /// Healing for the node `me`, which remembers `remembered` from earlier runs.
    pub fn new(
        config: HealingConfig,
        me: NodeId,
        remembered: Vec<NodeRecord>,
        seed: [u8; 32],
        now: Millis,
    ) -> Self {
        let mut healing = Self {
            remember_again_ms: config.remember_ms / 30,
            config,
            me,
            rng: ChaCha8Rng::from_seed(seed),
            peers: BTreeMap::new(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            remembered_at: None,
            ticks: 0,
        };
        for record in remembered {
            healing.keep(now, &record);
        }
        healing.timers.cancel(&Timer::Remember);
        let first = jittered(healing.config.probe_ms, &mut healing.rng);
        healing.timers.set(Timer::Probe, now + first);
        healing
    }

    /// Whether a peer is remembered.
    pub fn knows_anybody(&self) -> bool {
        !self.peers.is_empty()
    }

    /// All remembered peers, including seeds, the most likely to be alive first.
    pub fn remembered(&self) -> Vec<NodeRecord> {
        let mut peers: Vec<&Peer> = self.peers.values().collect();
        peers.sort_by_key(|p| (!p.up, p.lost, p.failures, std::cmp::Reverse(p.heard)));
        peers.into_iter().map(|p| p.record.clone()).collect()
    }

    /// Neighbours that were lost by failure and have not been heard of since.
    pub fn lost(&self) -> impl Iterator<Item = &NodeRecord> {
        self.peers.values().filter(|peer| peer.lost).map(|peer| &peer.record)
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Millis, input: HealingInput<'_>) {
        match input {
            HealingInput::Timeout => {}
            HealingInput::Connected(record) => self.hear(now, record),
            HealingInput::Contact(record) => self.handle_contact(now, record),
            HealingInput::Up(record) => {
                self.hear(now, record);
                self.set_up(&record.id, true);
            }
            HealingInput::Down { peer, failed } => self.handle_down(now, peer, failed),
            HealingInput::Message { from, message } => self.on_message(now, from, message),
            HealingInput::Unreachable(peer) => self.handle_unreachable(peer),
        }
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Probe => self.probe_silent(now),
                Timer::Lost(peer) => self.probe_lost(now, &peer),
                Timer::Remember => {
                    if self.remembered_at.replace(now).is_some() {
                        self.remember_again_ms = (2 * self.remember_again_ms).min(self.config.remember_ms);
                    }
                    self.outputs.push_back(HealingOutput::Remember(self.remembered()));
                }
            }
        }
    }

    /// The next output; `None` if there is none.
    pub fn poll_output(&mut self) -> Option<HealingOutput> {
        self.outputs.pop_front()
    }

    /// When `Timeout` is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.timers.next()
    }

    fn handle_contact(&mut self, now: Millis, record: &NodeRecord) {
        self.keep(now, record);
        let silent_ms = self.silent_ms();
        let silent = self.peers.get(&record.id).is_some_and(|peer| peer.is_silent(now, silent_ms));
        if silent && self.peers.values().any(|peer| peer.up) {
            self.probe(now, &record.id);
        }
    }

    fn handle_down(&mut self, now: Millis, peer: &NodeId, failed: bool) {
        self.set_up(peer, false);
        if failed && let Some(known) = self.peers.get_mut(peer) {
            known.lost = true;
            known.failures = 0;
            known.probed = None;
            let wait = jittered(self.config.lost_first_ms, &mut self.rng);
            self.timers.set(Timer::Lost(*peer), now + wait);
        }
    }

    fn handle_unreachable(&mut self, peer: &NodeId) {
        if let Some(known) = self.peers.get_mut(peer)
            && known.probed.take().is_some()
        {
            known.failures = known.failures.saturating_add(1);
        }
    }

    fn on_message(&mut self, now: Millis, from: &NodeRecord, message: &ViewMessage) {
        let answered = match message {
            ViewMessage::ProbeReply { .. } => {
                self.peers.get_mut(&from.id).and_then(|peer| peer.probed.take())
            }
            _ => None,
        };
        self.hear(now, from);
        match message {
            ViewMessage::ForwardJoin { joiner, .. } => self.name(now, joiner),
            ViewMessage::Shuffle { origin, sample, .. } => {
                self.name(now, origin);
                self.name_all(now, sample);
            }
            ViewMessage::ShuffleReply { sample } => self.name_all(now, sample),
            ViewMessage::ProbeReply { sample } => {
                if let Some(silent) = answered {
                    self.on_answer(now, from, silent, sample);
                }
                for record in sample {
                    self.keep(now, record);
                }
            }
            _ => {}
        }
    }

    /// Handles the answer of a probed peer.
    fn on_answer(&mut self, now: Millis, from: &NodeRecord, silent: bool, sample: &[NodeRecord]) {
        if from.role == Role::Replica {
            if silent {
                self.outputs.push_back(HealingOutput::Merge(from.clone()));
            }
            return;
        }
        // A seed's answer: a peer in it that this node has not heard of may be in another component.
        let silent_ms = self.silent_ms();
        let silent = |r: &&NodeRecord| self.peers.get(&r.id).is_none_or(|p| p.is_silent(now, silent_ms));
        let strangers = sample.iter().filter(|r| r.id != self.me && r.role == Role::Replica).filter(silent);
        if let Some(stranger) = strangers.choose(&mut self.rng) {
            self.keep(now, stranger);
            self.probe(now, &stranger.id);
        }
    }

    /// Records a message from the peer.
    fn hear(&mut self, now: Millis, record: &NodeRecord) {
        self.keep(now, record);
        if let Some(peer) = self.peers.get_mut(&record.id) {
            peer.heard = Some(now);
            peer.failures = 0;
            // While a probe is out, its answer decides whether the peer counts as found again.
            if peer.probed.is_none() {
                peer.lost = false;
                self.timers.cancel(&Timer::Lost(record.id));
            }
        }
    }

    fn name_all(&mut self, now: Millis, records: &[NodeRecord]) {
        for record in records {
            self.name(now, record);
        }
    }

    /// Records that a node of this component named the peer.
    fn name(&mut self, now: Millis, record: &NodeRecord) {
        self.keep(now, record);
        if let Some(peer) = self.peers.get_mut(&record.id) {
            peer.named = Some(now);
        }
    }

    /// Remembers the record, or the later one of two. A later run of a lost neighbour is not lost: it has
    /// reached another node, from which this node has its record.
    fn keep(&mut self, now: Millis, record: &NodeRecord) {
        if record.id == self.me {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&record.id) {
            if !record.supersedes(&peer.record) {
                return;
            }
            if record.incarnation > peer.record.incarnation && !peer.up {
                peer.lost = false;
                peer.failures = 0;
                self.timers.cancel(&Timer::Lost(record.id));
            }
            peer.record.clone_from(record);
        } else {
            let record = record.clone();
            let peer =
                Peer { record, heard: None, named: None, up: false, lost: false, failures: 0, probed: None };
            self.peers.insert(peer.record.id, peer);
            if self.peers.len() > self.config.remembered_max {
                self.forget_one();
            }
        }
        let ready = self.remembered_at.map_or(now, |at| at + self.remember_again_ms);
        self.timers.set_earlier(Timer::Remember, ready.max(now + self.config.remember_ms / 30));
    }

    fn forget_one(&mut self) {
        let candidates = || self.peers.values().filter(|peer| !peer.up);
        let mut blocks: BTreeMap<Option<Block>, usize> = BTreeMap::new();
        for peer in candidates() {
            *blocks.entry(Block::of(&peer.record)).or_default() += 1;
        }
        let crowd = |peer: &Peer| blocks.get(&Block::of(&peer.record)).copied().unwrap_or(0);
        let worst = candidates().min_by_key(|p| {
            let seldom = std::cmp::Reverse(crowd(p));
            (std::cmp::Reverse(p.failures), p.record.role == Role::Seed, seldom, p.heard.max(p.named))
        });
        if let Some(id) = worst.map(|peer| peer.record.id) {
            self.peers.remove(&id);
            self.timers.cancel(&Timer::Lost(id));
        }
    }

    fn set_up(&mut self, peer: &NodeId, up: bool) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.up = up;
            if up {
                known.lost = false;
                known.probed = None;
                self.timers.cancel(&Timer::Lost(*peer));
            }
        }
    }

    fn probe_silent(&mut self, now: Millis) {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::HealingOff) {
            return;
        }
        let wait = jittered(self.config.probe_ms, &mut self.rng);
        self.timers.set(Timer::Probe, now + wait);
        let (quiet_ms, silent_ms) = (self.config.quiet_ms, self.silent_ms());
        let quiet = self.peers.values().filter(|peer| peer.is_quiet(now, quiet_ms));
        // Peers that may be in another component come first, but dead ones must not delay the others.
        let silent = quiet.clone().filter(|p| p.is_silent(now, silent_ms) && p.failures < SILENT_PROBES_MAX);
        let least = quiet.clone().map(|peer| peer.failures).min().unwrap_or(0);
        let fair = quiet.filter(|peer| peer.failures <= least + 1);
        let chosen = silent.choose(&mut self.rng).or_else(|| fair.choose(&mut self.rng)).map(|p| p.record.id);
        self.ticks = self.ticks.wrapping_add(1);
        match chosen {
            Some(id) if !self.ticks.is_multiple_of(CONTACTS_EVERY) => self.probe(now, &id),
            _ => self.outputs.push_back(HealingOutput::NeedContacts),
        }
    }

    fn probe_lost(&mut self, now: Millis, id: &NodeId) {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::HealingOff) {
            return;
        }
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.failures >= self.config.lost_probes_max {
            return;
        }
        let wait = backoff_ms(self.config.lost_first_ms, self.config.lost_max_ms, peer.failures + 1);
        let wait = jittered(wait, &mut self.rng);
        self.timers.set(Timer::Lost(*id), now + wait);
        self.probe(now, id);
    }

    /// The silence that counts as suspicious: the fewer peers are remembered, the sooner each would have been named.
    fn silent_ms(&self) -> u64 {
        let HealingConfig { remembered_max, quiet_ms, silent_ms, .. } = self.config;
        quiet_ms.max(silent_ms * self.peers.len() as u64 / remembered_max.max(1) as u64)
    }

    fn probe(&mut self, now: Millis, id: &NodeId) {
        let silent_ms = self.silent_ms();
        let Some(peer) = self.peers.get_mut(id) else { return };
        let silent = peer.is_silent(now, silent_ms);
        if peer.probed.replace(silent).is_some() {
            peer.failures = peer.failures.saturating_add(1);
        }
        self.outputs.push_back(HealingOutput::Send { to: peer.record.clone(), message: ViewMessage::Probe });
    }
}
