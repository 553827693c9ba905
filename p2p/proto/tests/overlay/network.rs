//! A network of views and healing in virtual time: per-link latency, ordered messages, crashes,
//! partitions. The same seed gives the same run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_proto::healing::{Healing, HealingConfig, HealingInput, HealingOutput};
use starling_proto::message::ViewMessage;
use starling_proto::view::{ViewConfig, ViewInput, ViewOutput, Views};
use starling_proto::{Millis, NodeId, NodeRecord, Role};

/// Time until a dial to a missing node fails, milliseconds.
const REFUSED_MS: u64 = 20;
/// Time until the nodes at the ends of a link across a partition are suspected, milliseconds.
const SILENCE_MS: u64 = 3_000;

pub struct Node {
    pub record: NodeRecord,
    pub views: Views,
    pub healing: Healing,
    pub disk: Vec<NodeRecord>,
    /// Where it turns when it is alone.
    pub contacts: Vec<NodeId>,
}

enum Event {
    Arrive { to: NodeId, from: NodeRecord, message: ViewMessage },
    Unreachable { at: NodeId, peer: NodeId },
    Lost { at: NodeId, peer: NodeId, suspected: bool },
    Contact { at: NodeId, record: NodeRecord },
    Wake { at: NodeId },
}

pub struct Network {
    /// Of every node that starts.
    pub config: ViewConfig,
    pub now: Millis,
    pub nodes: BTreeMap<NodeId, Node>,
    rng: ChaCha8Rng,
    events: BTreeMap<(Millis, u64), Event>,
    serial: u64,
    links: BTreeSet<(NodeId, NodeId)>,
    /// When the last message on a directed link arrives.
    busy: BTreeMap<(NodeId, NodeId), Millis>,
    /// When a node is to be woken next.
    wakes: BTreeMap<NodeId, Millis>,
    /// Nodes on one side; `None`: no partition.
    island: Option<BTreeSet<NodeId>>,
    /// Everything delivered, as text.
    pub trace: String,
    pub sent: u64,
}

pub fn id(index: usize) -> NodeId {
    let mut bytes = [0; 32];
    ChaCha8Rng::seed_from_u64(index as u64).fill(&mut bytes[..]);
    NodeId(bytes)
}

pub fn record(index: usize, role: Role, address: String) -> NodeRecord {
    let (id, name) = (id(index), format!("n{index}"));
    NodeRecord { name, addresses: vec![address], signature: vec![0; 64], ..NodeRecord::new(id, 1, role) }
}

pub fn local(index: usize) -> NodeRecord {
    record(index, Role::Replica, format!("/ip4/127.0.0.1/tcp/{}", 1000 + index))
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            config: ViewConfig::default(),
            now: Millis(0),
            nodes: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            events: BTreeMap::new(),
            serial: 0,
            links: BTreeSet::new(),
            busy: BTreeMap::new(),
            wakes: BTreeMap::new(),
            island: None,
            trace: String::new(),
            sent: 0,
        }
    }

    /// Starts a node that knows `disk` from before and turns to `contacts` when alone.
    pub fn start(&mut self, record: NodeRecord, disk: Vec<NodeRecord>, contacts: Vec<NodeId>) {
        let id = record.id;
        let (views_seed, healing_seed) = (self.rng.random(), self.rng.random());
        let views = Views::new(self.config.clone(), record.clone(), views_seed, self.now);
        let healing = Healing::new(HealingConfig::default(), id, disk.clone(), healing_seed, self.now);
        self.nodes.insert(id, Node { record, views, healing, disk, contacts });
        self.schedule_wake(id);
    }

    /// As kill -9: neighbours see their links break.
    pub fn kill(&mut self, id: NodeId) -> Option<Node> {
        let node = self.nodes.remove(&id)?;
        self.wakes.remove(&id);
        for (a, b) in self.links.clone().into_iter().filter(|(a, b)| *a == id || *b == id) {
            self.links.remove(&(a, b));
            let at = if a == id { b } else { a };
            self.push_ordered(id, at, Event::Lost { at, peer: id, suspected: false });
        }
        Some(node)
    }

    /// Cuts `island` off; links across it pass nothing, and their ends are suspected after a while.
    pub fn split(&mut self, island: BTreeSet<NodeId>) {
        for (a, b) in self.links.clone() {
            if island.contains(&a) != island.contains(&b) {
                self.links.remove(&(a, b));
                for (at, peer) in [(a, b), (b, a)] {
                    self.push(self.now + SILENCE_MS, Event::Lost { at, peer, suspected: true });
                }
            }
        }
        self.island = Some(island);
    }

    pub fn heal(&mut self) {
        self.island = None;
    }

    pub fn input(&mut self, id: NodeId, input: ViewInput) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.views.handle(self.now, input);
            self.drain(id);
        }
    }

    /// Runs for `ms`.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `holds`, at most `ms`; how long it took.
    pub fn run_until(&mut self, ms: u64, what: &str, holds: impl Fn(&Self) -> Result<(), String>) -> u64 {
        let start = self.now;
        loop {
            let Err(missing) = holds(self) else { return self.now - start };
            assert!(self.now - start < ms, "not {what} after {ms} ms: {missing}");
            self.run(100);
        }
    }

    fn step(&mut self, end: Millis) -> bool {
        let Some(entry) = self.events.first_entry() else { return false };
        if entry.key().0 > end {
            return false;
        }
        self.now = entry.key().0;
        let event = entry.remove();
        self.dispatch(event);
        true
    }

    fn dispatch(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Wake { at } => {
                if self.wakes.get(&at).is_some_and(|due| *due <= now) {
                    self.wakes.remove(&at);
                    let Some(node) = self.nodes.get_mut(&at) else { return };
                    node.views.handle(now, ViewInput::Timeout);
                    node.healing.handle(now, HealingInput::Timeout);
                    self.drain(at);
                }
            }
            Event::Arrive { to, from, message } => self.arrive(to, from, message),
            // As in `starling_core`: the peer's own dial came up before this one failed.
            Event::Unreachable { at, peer } if self.links.contains(&pair(at, peer)) => {}
            Event::Unreachable { at, peer } => {
                let Some(node) = self.nodes.get_mut(&at) else { return };
                node.healing.handle(now, HealingInput::Unreachable(&peer));
                self.input(at, ViewInput::Unreachable(peer));
            }
            Event::Lost { at, peer, suspected } => {
                let input = if suspected { ViewInput::Suspected(peer) } else { ViewInput::LinkLost(peer) };
                self.input(at, input);
            }
            Event::Contact { at, record } => {
                let Some(node) = self.nodes.get_mut(&at) else { return };
                node.healing.handle(now, HealingInput::Contact(&record));
                node.healing.handle(now, HealingInput::Connected(&record));
                self.input(at, ViewInput::Contact(record));
            }
        }
    }

    fn arrive(&mut self, to: NodeId, from: NodeRecord, message: ViewMessage) {
        let linked = self.links.contains(&pair(to, from.id));
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if !linked {
            return;
        }
        let _ = writeln!(self.trace, "{} {:?}>{:?} {}", self.now.0, from.id, to, kind(&message));
        node.healing.handle(self.now, HealingInput::Message { from: &from, message: &message });
        node.views.handle(self.now, ViewInput::Message { from, message });
        self.drain(to);
    }

    fn drain(&mut self, id: NodeId) {
        let now = self.now;
        let Some(mut node) = self.nodes.remove(&id) else { return };
        let mut sends = VecDeque::new();
        loop {
            if let Some(output) = node.views.poll_output() {
                match output {
                    ViewOutput::Send { to, message } => sends.push_back((to, message)),
                    ViewOutput::Up(peer) => node.healing.handle(now, HealingInput::Up(&peer)),
                    ViewOutput::Down { peer, reason } => {
                        let failed = reason.is_failure();
                        node.healing.handle(now, HealingInput::Down { peer: &peer, failed });
                    }
                    ViewOutput::NeedContacts => {
                        let remembered = node.healing.remembered();
                        node.views.handle(now, ViewInput::Known(remembered));
                        for contact in node.contacts.clone() {
                            self.contact(id, contact);
                        }
                    }
                }
            } else if let Some(output) = node.healing.poll_output() {
                match output {
                    HealingOutput::Send { to, message } => sends.push_back((to, message)),
                    HealingOutput::Merge(peer) => node.views.handle(now, ViewInput::Merge(peer)),
                    HealingOutput::NeedContacts => {
                        for contact in node.contacts.clone() {
                            self.contact(id, contact);
                        }
                    }
                    HealingOutput::Remember(records) => node.disk = records,
                }
            } else {
                break;
            }
        }
        let from = node.views.me().clone();
        self.nodes.insert(id, node);
        for (to, message) in sends {
            self.send(&from, &to, message);
        }
        self.schedule_wake(id);
    }

    fn contact(&mut self, at: NodeId, contact: NodeId) {
        let Some(record) = self.nodes.get(&contact).map(|node| node.record.clone()) else { return };
        if self.reaches(at, contact) {
            self.links.insert(pair(at, contact));
            let latency = 3 * self.latency();
            self.push(self.now + latency, Event::Contact { at, record });
        }
    }

    fn send(&mut self, from: &NodeRecord, to: &NodeRecord, message: ViewMessage) {
        self.sent += 1;
        let peer = to.id;
        if !self.links.contains(&pair(from.id, peer)) {
            let silent = !self.reaches(from.id, peer);
            if silent || !self.nodes.contains_key(&peer) {
                let wait = if silent { SILENCE_MS } else { REFUSED_MS };
                return self.push(self.now + wait, Event::Unreachable { at: from.id, peer });
            }
            self.links.insert(pair(from.id, peer));
        }
        self.push_ordered(from.id, peer, Event::Arrive { to: peer, from: from.clone(), message });
    }

    fn reaches(&self, a: NodeId, b: NodeId) -> bool {
        self.island.as_ref().is_none_or(|island| island.contains(&a) == island.contains(&b))
    }

    fn latency(&mut self) -> u64 {
        self.rng.random_range(1..=40)
    }

    fn push_ordered(&mut self, from: NodeId, to: NodeId, event: Event) {
        let earliest = self.now + self.latency();
        let at = self.busy.get(&(from, to)).map_or(earliest, |busy| earliest.max(*busy));
        self.busy.insert((from, to), at);
        self.push(at, event);
    }

    fn push(&mut self, at: Millis, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    fn schedule_wake(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let timeouts = node.views.poll_timeout().into_iter().chain(node.healing.poll_timeout());
        if let Some(at) = timeouts.min() {
            let at = at.max(self.now);
            if self.wakes.get(&id) != Some(&at) {
                self.wakes.insert(id, at);
                self.push(at, Event::Wake { at: id });
            }
        }
    }
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

fn kind(message: &ViewMessage) -> String {
    let text = format!("{message:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}
