//! A small world in virtual time for tests of the composed node: links with latency, kills, restarts,
//! partitions. Deterministic by its seed. Every message passes through the wire codec.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_core::strong::{
    AsideConfig, CreateError, GroupLocation, ManageError, StrongConfig, StrongOutput, Surveyed,
};
use starling_core::{Core, CoreConfig, Input, Now, Output, WriteFailure, upgrade};
use starling_kv::engine::MemoryEngine;
use starling_kv::{Batch, Change, Op, Options, Outcome, Store, Write};
use starling_proto::trust::Certificate;
use starling_proto::{Class, Millis, NodeId, NodeRecord, Role, wire};
use starling_strong::api::{Answer, Failure, Status, WatchUpdate};

/// How long certificates are valid here, milliseconds.
pub const CERTIFICATE_MS: u64 = 60_000;
/// Wall clock at the beginning of the world: 2026-01-01.
const EPOCH_MS: u64 = 1_767_225_600_000;

pub struct SimNode {
    pub core: Core<MemoryEngine>,
    pub record: NodeRecord,
    pub up: bool,
    pub remembered: Vec<NodeRecord>,
    pub written: BTreeMap<u64, Result<Vec<Outcome>, WriteFailure>>,
    pub crawled: Option<(usize, usize)>,
    pub answers: BTreeMap<u64, Result<Answer, Failure>>,
    pub updates: Vec<(u64, WatchUpdate)>,
    pub created: BTreeMap<u64, Result<GroupLocation, CreateError>>,
    pub statuses: BTreeMap<u64, Result<Status, Failure>>,
    pub managed: BTreeMap<u64, Result<(), ManageError>>,
    pub surveys: BTreeMap<u64, Result<Surveyed, ManageError>>,
    /// What the node reported of strong keyspaces.
    pub notices: Vec<starling_strong::group::Notice>,
    /// Keys that changed, and when.
    pub changed: Vec<(Millis, Change)>,
    /// How far its wall clock is ahead of the world's, milliseconds.
    pub ahead_ms: u64,
    pub engine: MemoryEngine,
    timer: Option<Millis>,
}

impl SimNode {
    /// Keeps what a client of a strong keyspace gets.
    fn note(&mut self, output: StrongOutput) {
        match output {
            StrongOutput::Answer { token, result } => drop(self.answers.insert(token, result)),
            StrongOutput::Update { token, update } => self.updates.push((token, update)),
            StrongOutput::Created { token, result } => drop(self.created.insert(token, result)),
            StrongOutput::Status { token, result } => drop(self.statuses.insert(token, result)),
            StrongOutput::Managed { token, result } => drop(self.managed.insert(token, result)),
            StrongOutput::Surveyed { token, result } => drop(self.surveys.insert(token, result)),
        }
    }
}

enum Event {
    Timer(usize),
    Synced { node: usize, incarnation: u64, number: u64 },
    Deliver { from: usize, to: usize, link: u64, class: Class, frame: Bytes },
    Up { from: usize, to: usize, address: Option<String> },
    Down { from: usize, to: usize, link: u64 },
    Failed { from: usize, peer: Option<NodeId>, address: Option<String> },
}

pub struct World {
    pub now: Millis,
    pub nodes: Vec<SimNode>,
    /// Nodes of different groups cannot reach each other; their links are silent.
    pub groups: BTreeMap<usize, u8>,
    /// Full rumors are lost.
    pub loses_rumors: bool,
    pub payloads_delivered: u64,
    pub bytes_delivered: u64,
    pub frames_delivered: u64,
    events: BTreeMap<(Millis, u64), Event>,
    links: BTreeMap<(usize, usize), u64>,
    clear: BTreeMap<(usize, usize), Millis>,
    order: u64,
    rng: ChaCha12Rng,
    pub config: CoreConfig,
    /// How long replicas are kept that were removed from their groups, from a node's next start on.
    pub aside: AsideConfig,
    token: u64,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// A network of `replicas` behind one seed, settled.
pub fn settled(seed: u64, replicas: usize) -> World {
    let mut world = World::new(seed);
    let contact = world.start(Role::Seed, &[]);
    for _ in 0..replicas {
        world.start(Role::Replica, &[contact]);
        world.run(20);
    }
    world.run_until(30_000, "one component", |w| w.components() == 1);
    world.run(5_000);
    world
}

/// A [`settled`] network in which the newest data version is in force.
pub fn current(seed: u64, replicas: usize) -> World {
    let mut world = settled(seed, replicas);
    world.write(1, upgrade::finalize(upgrade::DATA_NEWEST, "test").writes);
    world.run_until(30_000, "the data version is known", |w| {
        (1..=replicas).all(|node| w.nodes[node].core.data_in_force() == upgrade::DATA_NEWEST)
    });
    world
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Millis(0),
            nodes: Vec::new(),
            groups: BTreeMap::new(),
            loses_rumors: false,
            payloads_delivered: 0,
            bytes_delivered: 0,
            frames_delivered: 0,
            events: BTreeMap::new(),
            links: BTreeMap::new(),
            clear: BTreeMap::new(),
            order: 0,
            rng: ChaCha12Rng::seed_from_u64(seed),
            config: CoreConfig::default(),
            aside: AsideConfig::default(),
            token: 0,
        }
    }

    pub fn at(&self) -> Now {
        Now { mono: self.now, wall_ms: EPOCH_MS + self.now.0 }
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    fn address(node: usize) -> String {
        format!("/ip4/10.{}.{}.1/tcp/7400", node / 250, node % 250)
    }

    /// Adds and starts a node that joins through `contacts`.
    pub fn start(&mut self, role: Role, contacts: &[usize]) -> usize {
        self.start_on(MemoryEngine::default(), role, contacts)
    }

    /// As [`World::start`], on the rows of an engine.
    pub fn start_on(&mut self, engine: MemoryEngine, role: Role, contacts: &[usize]) -> usize {
        let index = self.nodes.len();
        let mut id = [0; 32];
        self.rng.fill_bytes(&mut id);
        let record = NodeRecord {
            name: format!("n{index}"),
            addresses: vec![Self::address(index)],
            signature: vec![0; 64],
            ..NodeRecord::new(NodeId(id), self.at().wall_ms, role)
        };
        let store = (role == Role::Replica).then(|| {
            Store::open(engine.clone(), Options::default(), self.seed()).expect("a memory engine opens")
        });
        let seed = self.seed();
        let core = Core::new(self.config.clone(), record.clone(), store, Vec::new(), seed, self.at());
        self.nodes.push(SimNode {
            core,
            record,
            up: true,
            remembered: Vec::new(),
            written: BTreeMap::new(),
            crawled: None,
            answers: BTreeMap::new(),
            updates: Vec::new(),
            created: BTreeMap::new(),
            statuses: BTreeMap::new(),
            managed: BTreeMap::new(),
            surveys: BTreeMap::new(),
            notices: Vec::new(),
            changed: Vec::new(),
            ahead_ms: 0,
            engine,
            timer: None,
        });
        if role == Role::Replica {
            self.open_strong(index);
        }
        if contacts.is_empty() {
            self.drain(index);
        } else {
            let addresses = contacts.iter().map(|&c| Self::address(c)).collect();
            self.input(index, Input::Contact(addresses));
        }
        index
    }

    fn open_strong(&mut self, node: usize) {
        let now = self.at();
        let mut seed = [node as u8; 32];
        seed[..8].copy_from_slice(&now.wall_ms.to_le_bytes());
        let sim = &mut self.nodes[node];
        let config = StrongConfig { replace_ms: Some(60_000), aside: self.aside, ..StrongConfig::default() };
        sim.core.open_strong(sim.engine.clone(), config, seed, now).expect("a memory engine opens");
    }

    /// The next token of a client.
    pub fn token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    /// kill -9.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].up = false;
        let gone: Vec<_> = self.links.keys().copied().filter(|&(a, b)| a == node || b == node).collect();
        for (a, b) in gone {
            let link = self.links.remove(&(a, b)).expect("listed above");
            let other = if a == node { b } else { a };
            self.after(1, Event::Down { from: node, to: other, link });
        }
    }

    /// Starts a killed node again on the same store engine, with the peers it remembered.
    pub fn restart(&mut self, node: usize) {
        let seed = self.seed();
        let now = self.at();
        let store_seed = self.seed();
        let sim = &mut self.nodes[node];
        sim.record.incarnation = now.wall_ms;
        let store = sim
            .core
            .store()
            .map(|_| Store::open(sim.engine.clone(), Options::default(), store_seed).expect("reopens"));
        let (trust, certificate) = (sim.core.trust().clone(), sim.core.certificate().cloned());
        sim.core =
            Core::new(self.config.clone(), sim.record.clone(), store, sim.remembered.clone(), seed, now);
        sim.core.restore_credentials(now, trust, certificate);
        sim.up = true;
        sim.timer = None;
        if sim.record.role == Role::Replica {
            self.open_strong(node);
        }
        self.drain(node);
    }

    /// A client's batch; returns its token.
    pub fn write(&mut self, node: usize, writes: Vec<Write>) -> u64 {
        self.token += 1;
        let token = self.token;
        self.input(node, Input::Write(vec![(token, Batch { writes })]));
        token
    }

    pub fn put(&mut self, node: usize, key: &str, value: &str) {
        let op = Op::Put { value: Bytes::copy_from_slice(value.as_bytes()) };
        let write = Write { keyspace: "default".into(), key: key.into(), op, ttl_ms: None, check: None };
        let token = self.write(node, vec![write]);
        assert!(matches!(self.nodes[node].written.get(&token), Some(Ok(_))), "the write was acknowledged");
    }

    pub fn input(&mut self, node: usize, input: Input) {
        let Now { mono, wall_ms } = self.at();
        let now = Now { mono, wall_ms: wall_ms + self.nodes[node].ahead_ms };
        self.nodes[node].core.handle(now, input);
        self.drain(node);
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.order += 1;
        self.events.insert((self.now + ms, self.order), event);
    }

    fn latency(&mut self) -> u64 {
        self.rng.random_range(1..=10)
    }

    fn reachable(&self, a: usize, b: usize) -> bool {
        self.nodes[b].up && self.groups.get(&a) == self.groups.get(&b)
    }

    fn find(&self, id: &NodeId) -> Option<usize> {
        self.nodes.iter().position(|n| n.record.id == *id)
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].core.poll_output() {
            match output {
                Output::Dial(record) => {
                    let to = self.find(&record.id);
                    self.dial(node, to, Some(record.id), None);
                }
                Output::DialAddress(address) => {
                    let to = (0..self.nodes.len()).find(|&n| Self::address(n) == address);
                    self.dial(node, to, None, Some(address));
                }
                Output::Send { to, message } => {
                    let frame = wire::encode(&message, wire::Protocol::CURRENT.max).expect("has every kind");
                    for peer in to {
                        let to = self.find(&peer).expect("a link to a node of this world");
                        self.send(node, to, message.class(), frame.clone());
                    }
                }
                Output::Close { peer, .. } => {
                    let to = self.find(&peer).expect("a link to a node of this world");
                    if let Some(link) = self.links.remove(&pair(node, to)) {
                        let ms = self.clear_ms(node, to);
                        self.after(ms, Event::Down { from: node, to, link });
                        self.after(0, Event::Down { from: to, to: node, link });
                    }
                }
                Output::Written { token, result } => {
                    self.nodes[node].written.insert(token, result);
                }
                Output::Remember(records) => self.nodes[node].remembered = records,
                Output::Crawled { nodes, unreachable, .. } => {
                    self.nodes[node].crawled = Some((nodes.len(), unreachable.len()));
                }
                Output::Sync(number) => {
                    let incarnation = self.nodes[node].record.incarnation;
                    self.after(2, Event::Synced { node, incarnation, number });
                }
                Output::Strong(output) => self.nodes[node].note(output),
                Output::Changed(changes) => {
                    let now = self.now;
                    self.nodes[node].changed.extend(changes.into_iter().map(|change| (now, change)));
                }
                Output::Notice(starling_core::Notice::Strong { notice, .. }) => {
                    self.nodes[node].notices.push(notice);
                }
                Output::Renew(issuer) => self.renew(node, &issuer),
                Output::NeedContacts
                | Output::Notice(_)
                | Output::Misbehaved { .. }
                | Output::Trust(_)
                | Output::Certified(_) => {}
            }
        }
        let due = self.nodes[node].core.poll_timeout();
        if due != self.nodes[node].timer {
            self.nodes[node].timer = due;
            if let Some(due) = due {
                self.order += 1;
                self.events.insert((due.max(self.now), self.order), Event::Timer(node));
            }
        }
    }

    /// One side of the handshake's exchange of statements.
    fn show(&mut self, from: usize, to: usize) {
        let trust = self.nodes[from].core.trust();
        if let Some(authority) = trust.authority() {
            let statements = trust.statements().cloned().collect();
            let from = Some(self.nodes[from].record.id);
            self.input(to, Input::Statements { from, authority, statements });
        }
    }

    /// Gives a node a certificate if its issuer can be reached, as the driver of the issuer does. The signatures of this
    /// world are empty.
    fn renew(&mut self, node: usize, issuer: &NodeRecord) {
        let is_reached =
            self.find(&issuer.id).is_some_and(|to| self.nodes[to].up && self.reachable(node, to));
        let NodeRecord { id, role, .. } = self.nodes[node].record;
        let is_member = self.find(&issuer.id).is_some_and(|to| {
            let trust = self.nodes[to].core.trust();
            let certificate = self.nodes[node].core.certificate();
            let is_signed = |it: &Certificate| trust.check_signed(&id, role, it).is_ok();
            !trust.is_required() || trust.was_issuer(&id) || certificate.is_some_and(is_signed)
        });
        if is_reached && is_member {
            let issued_ms = self.at().wall_ms;
            let not_after_ms = issued_ms + CERTIFICATE_MS;
            let signature = Vec::new();
            let issuer = issuer.id;
            let certificate = Certificate { node: id, role, issued_ms, not_after_ms, issuer, signature };
            self.input(node, Input::Certified(certificate));
        }
    }

    fn dial(&mut self, from: usize, to: Option<usize>, peer: Option<NodeId>, address: Option<String>) {
        let ms = self.latency();
        match to {
            Some(to) if to != from => self.after(ms * 3, Event::Up { from, to, address }),
            _ => self.after(ms, Event::Failed { from, peer, address }),
        }
    }

    /// Milliseconds until everything sent before has arrived: links keep their order.
    fn clear_ms(&mut self, from: usize, to: usize) -> u64 {
        let latency = self.latency();
        let clear = self.clear.entry((from, to)).or_default();
        *clear = (*clear).max(self.now + latency);
        *clear - self.now
    }

    fn send(&mut self, from: usize, to: usize, class: Class, frame: Bytes) {
        if let Some(&link) = self.links.get(&pair(from, to)) {
            let ms = self.clear_ms(from, to);
            self.after(ms, Event::Deliver { from, to, link, class, frame });
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Timer(node) => {
                let due = self.nodes[node].timer.is_some_and(|t| t <= self.now);
                if self.nodes[node].up && due {
                    self.nodes[node].timer = None;
                    self.input(node, Input::Timeout);
                }
            }
            Event::Synced { node, incarnation, number } => {
                if self.nodes[node].up && self.nodes[node].record.incarnation == incarnation {
                    self.input(node, Input::Synced(number));
                }
            }
            Event::Deliver { from, to, link, class, frame } => self.deliver(from, to, link, class, &frame),
            Event::Up { from, to, address } => self.connect(from, to, address),
            Event::Down { from, to, link } => {
                if self.nodes[to].up && self.links.get(&pair(from, to)).is_none_or(|&l| l == link) {
                    let peer = self.nodes[from].record.id;
                    self.input(to, Input::Disconnected { peer });
                }
            }
            Event::Failed { from, peer, address } => {
                if self.nodes[from].up {
                    self.input(from, Input::Unreachable { peer, address });
                }
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, link: u64, class: Class, frame: &[u8]) {
        if self.loses_rumors && class == Class::Rumor {
            return;
        }
        let alive = self.nodes[to].up && self.links.get(&pair(from, to)) == Some(&link);
        if alive && self.reachable(from, to) {
            let message = wire::decode(class, frame).expect("what a node sends can be decoded");
            self.bytes_delivered += frame.len() as u64;
            self.frames_delivered += 1;
            if class == Class::Rumor {
                self.payloads_delivered += 1;
            }
            let peer = self.nodes[from].record.id;
            self.input(to, Input::Message { peer, message });
        }
    }

    fn connect(&mut self, from: usize, to: usize, address: Option<String>) {
        if !self.nodes[from].up {
            return;
        }
        let peer = self.nodes[to].record.id;
        if !self.reachable(from, to) {
            let peer = address.is_none().then_some(peer);
            self.after(1000, Event::Failed { from, peer, address });
            return;
        }
        if self.links.contains_key(&pair(from, to)) {
            return;
        }
        self.order += 1;
        self.links.insert(pair(from, to), self.order);
        let (ours, theirs) = (self.nodes[from].record.clone(), self.nodes[to].record.clone());
        self.show(from, to);
        self.show(to, from);
        let certificate = |node: usize| self.nodes[node].core.certificate().cloned();
        let (our_certificate, their_certificate) = (certificate(from), certificate(to));
        let (peer_of_theirs, certificate) = (ours.id, our_certificate);
        let connected =
            Input::Connected { peer: peer_of_theirs, record: ours, from: None, dialed: None, certificate };
        self.input(to, connected);
        let certificate = their_certificate;
        self.input(from, Input::Connected { peer, record: theirs, from: None, dialed: address, certificate });
    }

    /// Lets `ms` of virtual time pass.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        let (mut instant, mut steps) = (self.now, 0_u32);
        while let Some((&(at, order), _)) = self.events.iter().next() {
            if at > end {
                break;
            }
            let event = self.events.remove(&(at, order)).expect("just seen");
            steps = if at == instant { steps + 1 } else { 0 };
            instant = at;
            assert!(steps < 100_000, "the world does not get past {at:?}");
            self.now = at;
            self.step(event);
        }
        self.now = end;
    }

    /// Runs until `done`, at most `ms`; returns the virtual milliseconds it took.
    pub fn run_until(&mut self, ms: u64, what: &str, done: impl Fn(&Self) -> bool) -> u64 {
        let began = self.now;
        while !done(self) {
            assert!(self.now - began < ms, "not within {ms} virtual ms: {what}");
            self.run(5);
        }
        self.now - began
    }

    pub fn alive(&self) -> impl Iterator<Item = &SimNode> {
        self.nodes.iter().filter(|n| n.up)
    }

    /// Whether all live replicas have the same root.
    pub fn equal(&self) -> bool {
        let mut roots = self.alive().filter_map(|n| n.core.store()).map(Store::root);
        let first = roots.next().flatten();
        first.is_some() && roots.all(|root| root == first)
    }

    /// Number of components of the overlay of active views among live replicas.
    pub fn components(&self) -> usize {
        let mut left: BTreeSet<NodeId> =
            self.alive().filter(|n| n.record.role == Role::Replica).map(|n| n.record.id).collect();
        let mut components = 0;
        while let Some(first) = left.pop_first() {
            components += 1;
            let mut queue = vec![first];
            while let Some(id) = queue.pop() {
                let node = self.find(&id).expect("a node of this world");
                for peer in self.nodes[node].core.active() {
                    if left.remove(&peer) {
                        queue.push(peer);
                    }
                }
            }
        }
        components
    }
}
