//! Clients' writes: which nodes show each, and since when.
//!
//! A node shows a write when its store has seen the write's dots: then a local read answers with the
//! write, or with one that superseded it. The nodes that a write is due on are the replicas that run when
//! it is acknowledged, and go on running, without a stop, until all of them show it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use starling_kv::{ActorId, Batch, Dot, DotRange, MemoryEngine, Op, Store, delta};
use starling_report::{Convergence, Dissemination, Distribution, Summary};

use super::NodeSet;

/// What a message brought to a node.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A rumor in full.
    Rumor {
        /// Its name.
        range: DotRange,
        /// The links it came over; 0 if nobody counted.
        hops: u16,
        /// It claims its own dots, and those that it superseded.
        delta: Bytes,
    },
    /// Dots by anti-entropy.
    Repair {
        /// It claims them.
        delta: Bytes,
    },
}

/// How a write came to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As a rumor, over so many links.
    Rumor(u16),
    /// As known to be dead, in the rumor of a write that superseded it.
    Superseded,
    /// By anti-entropy.
    Repair,
}

/// A write as its client sends it.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// When, microseconds.
    pub at_us: u64,
    /// Bytes of key and value.
    pub payload_bytes: u32,
    /// It writes a register's value, which stays until it is superseded.
    pub is_lasting: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sent,
    Failed,
    Acknowledged,
}

/// What became of a write so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It awaits its answer.
    Open,
    /// It failed.
    Failed,
    /// It was acknowledged at this time, microseconds.
    Acknowledged(u64),
}

/// Whether a later write's node had seen this one at the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Superseded {
    /// No.
    Not,
    /// It wrote another value.
    ByPut,
    /// It deleted the key.
    ByDelete,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    sending: Sending,
    state: State,
    is_measured: bool,
    /// Its dots; none before the acknowledgement, or if it changed nothing.
    pub(super) dots: Option<DotRange>,
    acknowledged_us: u64,
    /// Writes that it superseded: the node had seen them at the same key.
    observed: Vec<u32>,
    deletes: bool,
    pub(super) superseded: Superseded,
    /// Nodes on whose disk it is, or was when they ended.
    pub(super) holders: NodeSet,
    due: NodeSet,
    /// Due nodes that do not show it.
    left: usize,
    /// Due nodes that do, and microseconds after the acknowledgement.
    shown: Vec<(u32, u32)>,
    last_hop: u16,
}

impl Write {
    pub(super) fn is_acknowledged(&self) -> bool {
        self.state == State::Acknowledged
    }

    pub(super) fn is_lasting(&self) -> bool {
        self.sending.is_lasting && self.is_acknowledged()
    }
}

/// Every write there was.
#[derive(Debug, Default)]
pub struct Tracker {
    writes: Vec<Write>,
    /// Numbers of writes by actor and sequence number less one.
    by_actor: BTreeMap<ActorId, Vec<Option<u32>>>,
    /// Acknowledged, and not yet on all due nodes.
    open: Vec<u32>,
    up: NodeSet,
    up_count: usize,
    measuring: bool,
    /// The dot minted last before the group that is being committed.
    minted: Option<Dot>,
    payload_bytes: u64,
    full_received: u64,
    by_rumor: u64,
    by_repair: u64,
    hops: u64,
    hops_counted: u64,
    hops_max: u16,
    spread: Spread,
}

/// Times of finished writes, microseconds.
#[derive(Debug, Default)]
struct Spread {
    acknowledged: Vec<Duration>,
    /// Half, 90 %, 99 % and all of the nodes, from the acknowledgement.
    reached: [Vec<Duration>; 4],
    all_from_send: Vec<Duration>,
    last_hops: Vec<f64>,
}

impl Tracker {
    pub(super) fn begin(&mut self) {
        self.measuring = true;
    }

    /// No further write counts among the measured ones.
    pub fn stop_measuring(&mut self) {
        self.measuring = false;
    }

    /// A client sends a write; answers its number.
    pub fn send(&mut self, sending: Sending) -> u32 {
        self.writes.push(Write {
            sending,
            state: State::Sent,
            is_measured: self.measuring,
            dots: None,
            acknowledged_us: 0,
            observed: Vec::new(),
            deletes: false,
            superseded: Superseded::Not,
            holders: NodeSet::default(),
            due: NodeSet::default(),
            left: 0,
            shown: Vec::new(),
            last_hop: 0,
        });
        self.writes.len() as u32 - 1
    }

    /// What became of a write so far.
    pub fn became(&self, number: u32) -> Became {
        match &self.writes[number as usize] {
            Write { state: State::Sent, .. } => Became::Open,
            Write { state: State::Failed, .. } => Became::Failed,
            Write { state: State::Acknowledged, acknowledged_us, .. } => {
                Became::Acknowledged(*acknowledged_us)
            }
        }
    }

    /// The node of the client is down.
    pub fn fail(&mut self, number: u32) {
        self.writes[number as usize].state = State::Failed;
    }

    pub(super) fn started(&mut self, node: usize) {
        self.up_count += usize::from(self.up.insert(node));
    }

    /// A node has come back on a disk that had lost what was not synced: what it acknowledged there, and
    /// nobody else has, is gone by the durability that was chosen.
    pub(crate) fn fell_back(&mut self, node: usize, store: &Store<MemoryEngine>) {
        for write in &mut self.writes {
            if write.dots.is_some_and(|dots| !store.contains(&dots)) {
                write.holders.remove(node);
            }
        }
    }

    /// A node ends, or stands still: no write is due on it any more.
    pub(super) fn excuse(&mut self, node: usize) {
        if !self.up.remove(node) {
            return;
        }
        self.up_count -= 1;
        for number in std::mem::take(&mut self.open) {
            let write = &mut self.writes[number as usize];
            if write.due.remove(node) && !write.holders.contains(node) {
                write.left -= 1;
            }
            if !self.finish_if_shown(number) {
                self.open.push(number);
            }
        }
    }

    pub(super) fn before(&mut self, store: Option<&Store<MemoryEngine>>, group: &[(u32, Batch)]) {
        let Some(store) = store else { return };
        self.minted = store.minted();
        let reader = store.reader();
        let mut earlier: BTreeMap<&[u8], u32> = BTreeMap::new();
        for (number, batch) in group {
            let Some(write) = batch.writes.first() else { continue };
            if !matches!(write.op, Op::Put { .. } | Op::Delete) {
                continue;
            }
            let register = reader.register(0, &write.keyspace, &write.key).expect("a memory engine reads");
            let mut observed: Vec<u32> = Vec::new();
            if let Some(register) = register {
                let dots = std::iter::once(register.dot).chain(register.siblings.iter().map(|s| s.dot));
                observed.extend(dots.filter_map(|dot| self.number(dot)));
            }
            observed.extend(earlier.insert(&write.key, *number));
            let tracked = &mut self.writes[*number as usize];
            (tracked.observed, tracked.deletes) = (observed, matches!(write.op, Op::Delete));
        }
    }

    /// The write that minted a dot.
    fn number(&self, dot: Dot) -> Option<u32> {
        self.by_actor.get(&dot.actor)?.get((dot.seq as usize).checked_sub(1)?).copied().flatten()
    }

    pub(super) fn written(
        &mut self,
        node: usize,
        number: u32,
        is_accepted: bool,
        store: &Store<MemoryEngine>,
        now_us: u64,
    ) {
        let write = &mut self.writes[number as usize];
        if !is_accepted {
            write.state = State::Failed;
            return;
        }
        (write.state, write.acknowledged_us) = (State::Acknowledged, now_us);
        let deletes = write.deletes;
        for observed in std::mem::take(&mut write.observed) {
            let observed = &mut self.writes[observed as usize];
            let by = if deletes { Superseded::ByDelete } else { Superseded::ByPut };
            observed.superseded = observed.superseded.max(by);
        }
        let Some(dots) = self.minted_since(store) else { return };
        let write = &mut self.writes[number as usize];
        write.dots = Some(dots);
        write.holders.insert(node);
        write.due = self.up.clone();
        write.left = self.up_count;
        if write.due.contains(node) {
            write.left -= 1;
            write.shown.push((node as u32, 0));
        }
        let numbers = self.by_actor.entry(dots.actor).or_default();
        numbers.resize(dots.last as usize, None);
        numbers[dots.first as usize - 1..].fill(Some(number));
        if !self.finish_if_shown(number) {
            self.open.push(number);
        }
    }

    /// The dots that the write answered now has minted. In a group each mints one: a group of several
    /// is puts only.
    fn minted_since(&mut self, store: &Store<MemoryEngine>) -> Option<DotRange> {
        let last = store.minted()?;
        let first =
            self.minted.filter(|before| before.actor == last.actor).map_or(1, |before| before.seq + 1);
        if first > last.seq {
            return None;
        }
        let dots = DotRange { actor: last.actor, first, last: first };
        self.minted = Some(Dot { actor: last.actor, seq: first });
        Some(dots)
    }

    pub(super) fn arrived(
        &mut self,
        node: usize,
        arrival: &Arrival,
        store: &Store<MemoryEngine>,
        now_us: u64,
    ) {
        match arrival {
            Arrival::Rumor { range, hops, delta } => {
                let Some(first) = self.number(Dot { actor: range.actor, seq: range.first }) else { return };
                self.full_received += u64::from(self.writes[first as usize].is_measured);
                if self.writes[first as usize].holders.contains(node) {
                    return;
                }
                self.show_range(node, *range, Way::Rumor(*hops), store, now_us);
                self.show_claimed(node, delta, Way::Superseded, store, now_us);
            }
            Arrival::Repair { delta } => self.show_claimed(node, delta, Way::Repair, store, now_us),
        }
    }

    fn show_claimed(
        &mut self,
        node: usize,
        delta: &[u8],
        way: Way,
        store: &Store<MemoryEngine>,
        now_us: u64,
    ) {
        // What cannot be decoded was not joined.
        let Ok(delta) = delta::decode(delta) else { return };
        for section in &delta.actors {
            for &(first, last) in section.claimed.spans() {
                let range = DotRange { actor: section.actor, first, last };
                self.show_range(node, range, way, store, now_us);
            }
        }
    }

    fn show_range(
        &mut self,
        node: usize,
        range: DotRange,
        way: Way,
        store: &Store<MemoryEngine>,
        now_us: u64,
    ) {
        let known = self.by_actor.get(&range.actor).map_or(0, |numbers| numbers.len() as u64);
        for seq in range.first..=range.last.min(known) {
            if let Some(number) = self.number(Dot { actor: range.actor, seq }) {
                self.shows(node, number, way, store, now_us);
            }
        }
    }

    fn shows(&mut self, node: usize, number: u32, way: Way, store: &Store<MemoryEngine>, now_us: u64) {
        let write = &mut self.writes[number as usize];
        let Some(dots) = write.dots else { return };
        if write.holders.contains(node) || !store.contains(&dots) {
            return;
        }
        write.holders.insert(node);
        if write.is_measured {
            self.payload_bytes += u64::from(write.sending.payload_bytes);
            match way {
                Way::Rumor(hops) => {
                    self.by_rumor += 1;
                    self.hops += u64::from(hops);
                    self.hops_counted += u64::from(hops > 0);
                    self.hops_max = self.hops_max.max(hops);
                    write.last_hop = write.last_hop.max(hops);
                }
                Way::Repair if write.due.contains(node) => self.by_repair += 1,
                Way::Repair | Way::Superseded => {}
            }
        }
        if write.due.contains(node) {
            write.left -= 1;
            let after_us = (now_us - write.acknowledged_us).min(u64::from(u32::MAX));
            write.shown.push((node as u32, after_us as u32));
            if self.finish_if_shown(number) {
                self.open.retain(|&open| open != number);
            }
        }
    }

    /// Takes the times of a write that all due nodes show.
    fn finish_if_shown(&mut self, number: u32) -> bool {
        let write = &mut self.writes[number as usize];
        if write.left > 0 {
            return false;
        }
        let due = std::mem::take(&mut write.due);
        let shown = std::mem::take(&mut write.shown);
        if write.is_measured && !due.is_empty() {
            let mut times: Vec<u32> =
                shown.iter().filter(|(node, _)| due.contains(*node as usize)).map(|(_, us)| *us).collect();
            times.sort_unstable();
            let acknowledged = Duration::from_micros(write.acknowledged_us - write.sending.at_us);
            let spread = &mut self.spread;
            for (times_of, percent) in spread.reached.iter_mut().zip([50, 90, 99, 100]) {
                let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
                times_of.push(Duration::from_micros(times[index].into()));
            }
            let all = spread.reached[3].last().copied().unwrap_or_default();
            spread.all_from_send.push(acknowledged + all);
            spread.acknowledged.push(acknowledged);
            if write.last_hop > 0 {
                spread.last_hops.push(f64::from(write.last_hop));
            }
        }
        true
    }

    /// Acknowledged writes that some due node does not show yet.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The dots of acknowledged writes that a live node holds, in order.
    pub(super) fn held(&self) -> Vec<DotRange> {
        let held = |number: &u32| {
            let write = &self.writes[*number as usize];
            write.holders.meets(&self.up)
        };
        let mut ranges: Vec<DotRange> = Vec::new();
        for (&actor, numbers) in &self.by_actor {
            for (seq, _) in (1..).zip(numbers).filter(|(_, number)| number.as_ref().is_some_and(held)) {
                match ranges.last_mut() {
                    Some(last) if last.actor == actor && last.last + 1 == seq => last.last = seq,
                    _ => ranges.push(DotRange { actor, first: seq, last: seq }),
                }
            }
        }
        ranges
    }

    /// Writes sent, acknowledged and failed; an unanswered one failed.
    pub fn counts(&self) -> (u64, u64, u64) {
        let acknowledged = self.writes.iter().filter(|write| write.is_acknowledged()).count();
        (self.writes.len() as u64, acknowledged as u64, (self.writes.len() - acknowledged) as u64)
    }

    /// Bytes of keys and values of measured writes that nodes got to show.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The report's part on times.
    pub fn convergence(&self) -> Convergence {
        let [half, most, nearly, all] = &self.spread.reached;
        Convergence {
            acknowledged: Summary::of(&self.spread.acknowledged),
            nodes_50: Summary::of(half),
            nodes_90: Summary::of(most),
            nodes_99: Summary::of(nearly),
            nodes_all: Summary::of(all),
            nodes_all_from_send: Summary::of(&self.spread.all_from_send),
        }
    }

    /// Times until all due nodes showed a write, milliseconds; infinite for those that some did not.
    pub fn all_ms(&self) -> Vec<f64> {
        let done = self.spread.reached[3].iter().copied().map(starling_report::millis);
        let undone = self.open.iter().filter(|&&number| {
            let write = &self.writes[number as usize];
            write.is_measured && write.holders.meets(&self.up)
        });
        done.chain(undone.map(|_| f64::INFINITY)).collect()
    }

    /// The report's part on rumors.
    pub fn dissemination(&self) -> Dissemination {
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let open = self.open.iter().map(|&number| &self.writes[number as usize]);
        let left: usize = open.filter(|write| write.is_measured).map(|write| write.left).sum();
        let due = self.by_rumor + self.by_repair + left as u64;
        let last_hops = &self.spread.last_hops;
        Dissemination {
            rumors: self.writes.iter().filter(|write| write.is_measured && write.dots.is_some()).count()
                as u64,
            residue: Some(ratio((self.by_repair + left as u64) as f64, due as f64)),
            rmr: (ratio(self.full_received as f64, self.by_rumor as f64) - 1.0).max(0.0),
            hops_mean: ratio(self.hops as f64, self.hops_counted as f64),
            last_hop_mean: ratio(last_hops.iter().sum(), last_hops.len() as f64),
            hops_max: self.hops_max.into(),
        }
    }

    /// The report's distributions.
    pub fn distributions(&self) -> Vec<Distribution> {
        let times = Convergence::distributions(self.spread.reached.clone()).into_iter();
        times.chain([Distribution::of("hops to the last node", "", self.spread.last_hops.clone())]).collect()
    }
}
