//! A small network of groups in virtual time: machines that crash and lose what they had not synced, and
//! a network that loses, doubles, delays and divides.

pub mod clients;
pub mod disk;
pub mod linear;

use std::collections::{BTreeMap, BTreeSet};

use bincode::config;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_strong::api::{Options, Request};
use starling_strong::group::{Group, GroupConfig, GroupMessage, Input, Notice, OpenError, Output};
use starling_strong::machine;
use starling_strong::members::{MemberId, NodeKey};

use clients::Clients;
use disk::Disk;

pub const GROUP: [u8; 16] = [9; 16];

/// How bad the network is. Chances are per mille.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: u64,
    pub doubling: u64,
    pub delay_ms: u64,
    pub sync_ms: u64,
}

impl Weather {
    pub const FINE: Self = Self { loss: 0, doubling: 0, delay_ms: 1, sync_ms: 1 };
    pub const FOUL: Self = Self { loss: 30, doubling: 30, delay_ms: 60, sync_ms: 30 };
}

enum Event {
    Deliver { from: usize, to: usize, message: GroupMessage },
    Synced { node: usize, life: u64, number: u64, writes: usize },
    Wake { node: usize },
    Client { client: usize },
}

pub struct Node {
    pub disk: Disk,
    pub group: Option<Group<Disk>>,
    is_down: bool,
    /// Which run of the process it is: what was under way when it died is nobody's any more.
    life: u64,
    /// Its clock runs so many per mille fast, from a beginning of its own.
    rate: u64,
    epoch_ms: u64,
    wake_at: u64,
}

pub struct World {
    pub now_ms: u64,
    pub nodes: Vec<Node>,
    pub clients: Clients,
    pub weather: Weather,
    pub rng: ChaCha12Rng,
    /// One-way: nothing goes from the first to the second.
    pub blocked: BTreeSet<(usize, usize)>,
    pub leaders: BTreeMap<u64, NodeKey>,
    pub notices: Vec<(usize, Notice)>,
    /// Writes are acknowledged without waiting for the disk: a bug, planted.
    pub syncs_lie: bool,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    trace: blake3::Hasher,
}

pub fn key(node: usize) -> NodeKey {
    [node as u8 + 1; 32]
}

fn index(key: &NodeKey) -> usize {
    usize::from(key[0]) - 1
}

impl World {
    /// `founders` of `nodes` machines found a group.
    pub fn new(seed: u64, nodes: usize, founders: usize) -> Self {
        let mut world = Self {
            now_ms: 0,
            nodes: Vec::new(),
            clients: Clients::default(),
            weather: Weather::FINE,
            rng: ChaCha12Rng::seed_from_u64(seed),
            blocked: BTreeSet::new(),
            leaders: BTreeMap::new(),
            notices: Vec::new(),
            syncs_lie: false,
            events: BTreeMap::new(),
            count: 0,
            trace: blake3::Hasher::new(),
        };
        let keys: Vec<_> = (0..founders).map(key).collect();
        for node in 0..nodes {
            let disk = Disk::new();
            let epoch_ms = world.below(5_000);
            world.nodes.push(Node {
                disk,
                group: None,
                is_down: false,
                life: 0,
                rate: 1000,
                epoch_ms,
                wake_at: 0,
            });
            if node < founders {
                let (config, seed) = (config(node, node as u64 + 1), world.seed());
                let now = world.clock(node);
                let group = Group::found(world.nodes[node].disk.clone(), config, &keys, seed, now);
                world.nodes[node].group = Some(group.expect("a new group"));
                world.carry_out(node);
            }
        }
        world
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    /// A node's own clock.
    pub fn clock(&self, node: usize) -> u64 {
        let Node { rate, epoch_ms, .. } = &self.nodes[node];
        epoch_ms + self.now_ms * rate / 1000
    }

    /// Lets a node's clock run at so many per mille from now on; it may jump forward, never back.
    pub fn set_rate(&mut self, node: usize, rate: u64) {
        let before = self.clock(node);
        self.nodes[node].rate = rate;
        let after = self.clock(node);
        self.nodes[node].epoch_ms += before.saturating_sub(after);
        self.wake(node);
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// The client's next turn; the one it had planned before is forgotten.
    pub fn schedule_client(&mut self, after_ms: u64, client: usize) {
        let at = self.now_ms + after_ms;
        self.clients.turns.insert(client, at);
        self.schedule(at, Event::Client { client });
    }

    fn wake(&mut self, node: usize) {
        let Some(at) = self.nodes[node].group.as_ref().and_then(Group::poll_timeout) else { return };
        let left = at.saturating_sub(self.clock(node));
        let at = self.now_ms + (left * 1000).div_ceil(self.nodes[node].rate).max(1);
        if self.nodes[node].wake_at != at {
            self.nodes[node].wake_at = at;
            self.schedule(at, Event::Wake { node });
        }
    }

    /// Runs until `until_ms`.
    pub fn run_until(&mut self, until_ms: u64) {
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until_ms) {
            let ((at, _), event) = entry.remove_entry();
            self.now_ms = at;
            self.happen(event);
        }
        self.now_ms = until_ms;
    }

    pub fn run_for(&mut self, ms: u64) {
        self.run_until(self.now_ms + ms);
    }

    /// Runs until it holds; panics with `what` if it does not within a minute.
    pub fn run_till(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now_ms + 60_000;
        while !holds(self) {
            assert!(self.now_ms < deadline, "not within a minute: {what}");
            self.run_for(10);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => {
                if !self.blocked.contains(&(from, to)) {
                    self.feed(to, Input::Message { from: key(from), message });
                }
            }
            Event::Synced { node, life, number, writes } => {
                if self.nodes[node].life == life {
                    self.nodes[node].disk.synced(writes);
                    if !self.syncs_lie {
                        self.feed(node, Input::Synced(number));
                    }
                }
            }
            Event::Wake { node } => {
                if self.nodes[node].wake_at == self.now_ms {
                    self.nodes[node].wake_at = 0;
                    self.feed(node, Input::Timeout);
                }
            }
            Event::Client { client } => {
                if self.clients.turns.get(&client) == Some(&self.now_ms) {
                    self.clients.turns.remove(&client);
                    clients::act(self, client);
                }
            }
        }
    }

    pub fn feed(&mut self, node: usize, input: Input) {
        let now = self.clock(node);
        if let Some(group) = &mut self.nodes[node].group {
            group.handle(now, input);
            self.carry_out(node);
        }
    }

    fn carry_out(&mut self, node: usize) {
        let now = self.clock(node);
        while let Some(output) = self.nodes[node].group.as_mut().and_then(Group::poll_output) {
            self.trace.update(format!("{} {node} {output:?}", self.now_ms).as_bytes());
            match output {
                Output::Send { to, message } => self.send(node, index(&to), &message),
                Output::Sync(number) => {
                    let Node { disk, life, .. } = &self.nodes[node];
                    let (writes, life) = (disk.pending(), *life);
                    let slow = if self.syncs_lie { 50 } else { 1 };
                    let after = 1 + slow * self.below(self.weather.sync_ms);
                    self.schedule(self.now_ms + after, Event::Synced { node, life, number, writes });
                    if self.syncs_lie {
                        self.nodes[node].group.as_mut().expect("it wrote").handle(now, Input::Synced(number));
                    }
                }
                Output::Answer { token, result } => clients::on_answer(self, token, result),
                Output::Redirect { token, leader } => {
                    clients::on_redirect(self, token, leader.as_ref().map(index));
                }
                Output::Changed { token, result } => self.clients.changed.push((token, result)),
                Output::Invite { node: invited, member } => self.invite(index(&invited), member),
                Output::Removed => self.remove(node),
                Output::Notice(notice) => self.note(node, notice),
            }
        }
        self.wake(node);
    }

    fn send(&mut self, from: usize, to: usize, message: &GroupMessage) {
        let bytes = bincode::encode_to_vec(message, config::standard()).expect("memory");
        let (message, _): (GroupMessage, _) =
            bincode::decode_from_slice(&bytes, config::standard()).expect("a message comes back");
        let Weather { loss, doubling, delay_ms, .. } = self.weather;
        if self.blocked.contains(&(from, to)) || self.below(1000) < loss {
            return;
        }
        let copies = if self.below(1000) < doubling { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.now_ms + 1 + self.below(delay_ms);
            self.schedule(at, Event::Deliver { from, to, message: message.clone() });
        }
    }

    fn note(&mut self, node: usize, notice: Notice) {
        if let Notice::Leader { term, node: Some(leader) } = &notice {
            // Election safety: one leader a term.
            let known = *self.leaders.entry(*term).or_insert(*leader);
            assert_eq!(known, *leader, "two leaders in term {term}");
        }
        self.notices.push((node, notice));
    }

    fn invite(&mut self, node: usize, member: MemberId) {
        if self.nodes[node].group.is_none() && !self.nodes[node].is_down {
            let (config, seed, now) = (config(node, member), self.seed(), self.clock(node));
            let group = Group::join(self.nodes[node].disk.clone(), config, seed, now);
            self.nodes[node].group = Some(group.expect("an invited member"));
            self.carry_out(node);
        }
    }

    /// The member is none any more; its node forgets it.
    fn remove(&mut self, node: usize) {
        self.nodes[node].group = None;
        self.nodes[node].disk = Disk::new();
        self.nodes[node].life += 1;
    }

    /// Kills the process on a node; with `power_cut`, of what was not synced only a part is left.
    pub fn kill(&mut self, node: usize, power_cut: bool) {
        let pending = self.nodes[node].disk.pending() as u64;
        if power_cut {
            let kept = if self.syncs_lie { 0 } else { self.below(pending + 1) as usize };
            let disk = &self.nodes[node].disk;
            self.nodes[node].disk = disk.after_power_cut(kept);
        }
        self.nodes[node].group = None;
        self.nodes[node].is_down = true;
        self.nodes[node].life += 1;
        self.nodes[node].wake_at = 0;
    }

    /// Tells the others that links to a node broke.
    pub fn break_links(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.feed(other, Input::PeerDown(key(node)));
        }
    }

    /// Starts a killed node again.
    pub fn start(&mut self, node: usize, member: MemberId) -> Result<(), OpenError> {
        self.nodes[node].is_down = false;
        let (seed, now) = (self.seed(), self.clock(node));
        let disk = self.nodes[node].disk.clone();
        if let Some(group) = Group::open(disk, config(node, member), seed, now)? {
            self.nodes[node].group = Some(group);
            self.carry_out(node);
        }
        Ok(())
    }

    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].group.is_some()
    }

    /// The node that leads in the newest term.
    pub fn leader(&mut self) -> Option<usize> {
        let terms = self.nodes.iter().enumerate().filter_map(|(node, it)| {
            let group = it.group.as_ref().filter(|group| group.is_leader())?;
            Some((group.status(0).term, node))
        });
        terms.max().map(|(_, node)| node)
    }

    pub fn wait_for_leader(&mut self) -> usize {
        self.run_till("a leader", |world| world.leader().is_some());
        self.leader().expect("there is one")
    }

    /// Cuts these off from all others, both ways.
    pub fn cut_off(&mut self, some: &[usize]) {
        for inside in some {
            for outside in (0..self.nodes.len()).filter(|node| !some.contains(node)) {
                self.blocked.extend([(*inside, outside), (outside, *inside)]);
            }
        }
    }

    /// One word for everything that has happened.
    pub fn trace(&self) -> blake3::Hash {
        self.trace.finalize()
    }

    /// Every replica that is up has applied the same entries to the same state.
    pub fn assert_equal(&mut self) {
        let states: BTreeSet<_> = self
            .nodes
            .iter_mut()
            .filter_map(|node| node.group.as_mut())
            .map(|group| (group.machine().applied(), group.machine().hash(), group.machine().revision()))
            .collect();
        assert_eq!(states.len(), 1, "replicas differ: {states:?}");
    }
}

fn config(node: usize, member: MemberId) -> GroupConfig {
    let machine = machine::Config::default();
    GroupConfig { group: GROUP, keyspace: "test".into(), node: key(node), member, machine }
}

/// A request as a client sends it.
pub fn request(token: u64, request: Request, timeout_ms: u64) -> Input {
    let options = Options { timeout_ms, stale: false, id: None, fence: None };
    Input::Request { token, request, options }
}
