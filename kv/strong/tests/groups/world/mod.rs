//! A small network with one group in virtual time: machines that crash and lose unsynced writes, and a network that
//! loses, duplicates, delays and partitions.

pub mod actors;
mod checks;
pub mod clients;
pub mod disk;
mod doubles;
pub mod operator;
pub mod roles;
pub mod scribe;
mod trouble;
pub mod watchers;

use std::collections::{BTreeMap, BTreeSet};

use bincode::config;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_history::Log;
use starling_kv::engine::Pending;
use starling_strong::api::{Options, Request};
use starling_strong::group::wire::{Kind, RaftMessage};
use starling_strong::group::{
    Group, GroupConfig, GroupMessage, History, Input, KEPT_ENTRIES, Notice, Output, Stop,
};
use starling_strong::machine::{self, VERSION_NEWEST};
use starling_strong::members::{MemberId, NodeKey};

use actors::Actors;
use clients::Clients;
use disk::Disk;
use doubles::Double;
use operator::Operator;
use starling_kv::engine::Cost;
use watchers::Watchers;

pub const GROUP: [u8; 16] = [9; 16];

/// The faults of the network. Probabilities are per mille.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: u64,
    pub doubling: u64,
    pub delay_ms: u64,
    pub sync_ms: u64,
}

impl Weather {
    pub const FINE: Self = Self { loss: 0, doubling: 0, delay_ms: 1, sync_ms: 1 };
    pub const SLOW: Self = Self { delay_ms: 120, ..Self::FINE };
    pub const SLOW_DISKS: Self = Self { sync_ms: 150, ..Self::FINE };
    pub const FOUL: Self = Self { loss: 30, doubling: 30, delay_ms: 60, sync_ms: 30 };
}

/// Faults at the worst moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treachery {
    /// A member that has granted its vote often crashes at once, and restarts before the election is over. Sometimes
    /// the candidate is cut off too, so that there is another one in the same term.
    Voters,
    /// When a leader has applied a change of voters, the previous voters are cut off from the rest.
    Changes,
    /// When a client was answered, sometimes all machines lose power at once.
    Answers,
}

enum Event {
    Deliver {
        from: usize,
        to: usize,
        message: GroupMessage,
    },
    Synced {
        node: usize,
        life: u64,
        number: u64,
        pending: Pending,
    },
    Wake {
        node: usize,
    },
    Work {
        node: usize,
        life: u64,
    },
    /// The messages that arrived while the process was suspended.
    Late {
        node: usize,
        life: u64,
        input: Input,
    },
    /// A process that has stopped is started again.
    Restart {
        node: usize,
        life: u64,
    },
    PowerCut,
    /// A partition ends.
    Unblock,
    Client {
        client: usize,
    },
    Actor {
        actor: usize,
    },
    Watcher {
        watcher: usize,
    },
    Operator,
}

#[allow(clippy::struct_excessive_bools, reason = "each says one thing of a machine")]
pub struct Node {
    pub disk: Disk,
    pub group: Option<Group<Disk>>,
    /// The number of its member, if it has one.
    pub member: Option<MemberId>,
    pub is_down: bool,
    /// The number of the process's run: timers of an earlier run are ignored.
    pub life: u64,
    /// The rate of its clock in per mille; `epoch_ms` is where the clock begins.
    rate: u64,
    epoch_ms: i64,
    wake_at: u64,
    is_working: bool,
    /// Until when the process is suspended.
    paused_until: u64,
    /// Whether its log was damaged and did not open, so that it is no longer a member.
    pub is_lost: bool,
    was_torn: bool,
    /// Whether a row was changed outside of its replica.
    is_corrupt: bool,
    /// Nodes of the voters it knew last.
    voters: BTreeSet<NodeKey>,
    /// The first revision that is not taken down yet; 0: it begins where the log is.
    scribed: u64,
}

pub struct World {
    pub now_ms: u64,
    history: History,
    machine: machine::Config,
    pub nodes: Vec<Node>,
    pub clients: Clients,
    pub actors: Actors,
    pub watchers: Watchers,
    pub operator: Operator,
    /// Every entry that any member has applied.
    pub log: Log,
    /// See `scribe`.
    scribe_stays: bool,
    pub weather: Weather,
    pub rng: ChaCha12Rng,
    /// One-way cuts: no message passes from the first to the second.
    pub blocked: BTreeSet<(usize, usize)>,
    pub treachery: Option<Treachery>,
    pub leaders: BTreeMap<u64, NodeKey>,
    pub notices: Vec<(usize, Notice)>,
    /// How often [`Treachery`] struck: voters, changes.
    betrayed: (u64, u64),
    /// The candidates of each term.
    candidates: BTreeMap<u64, BTreeSet<usize>>,
    /// Messages that members have sent.
    pub sent: u64,
    /// The most that one step of a member has cost.
    pub longest_step: Cost,
    /// Logs that were damaged.
    lost: u64,
    /// Writes are acknowledged without waiting for the disk: a bug, planted.
    pub syncs_lie: bool,
    /// Whether logs begin in the journal. Otherwise they are moved there when they are opened again.
    in_journal: bool,
    /// The data version that a node knows to be in force when it opens its replica.
    pub version: u16,
    /// Two machines with one member, if there are.
    double: Option<Double>,
    /// Entries that stay in the logs.
    kept_entries: u64,
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
    /// Creates a group on the first `founders` of `nodes` machines.
    pub fn new(seed: u64, nodes: usize, founders: usize) -> Self {
        Self::with_bounds(seed, nodes, founders, History::default(), machine::Config::default())
    }

    /// Creates a group whose history and size are bounded like this.
    pub fn with_bounds(
        seed: u64,
        nodes: usize,
        founders: usize,
        history: History,
        machine: machine::Config,
    ) -> Self {
        let mut world = Self {
            now_ms: 0,
            history,
            machine,
            nodes: Vec::new(),
            clients: Clients::default(),
            actors: Actors::default(),
            watchers: Watchers::default(),
            operator: Operator::default(),
            log: Log::default(),
            scribe_stays: !seed.is_multiple_of(2),
            weather: Weather::FINE,
            rng: ChaCha12Rng::seed_from_u64(seed),
            blocked: BTreeSet::new(),
            treachery: None,
            leaders: BTreeMap::new(),
            notices: Vec::new(),
            betrayed: (0, 0),
            candidates: BTreeMap::new(),
            sent: 0,
            longest_step: Cost::default(),
            lost: 0,
            syncs_lie: false,
            in_journal: !seed.is_multiple_of(4),
            version: VERSION_NEWEST,
            double: None,
            kept_entries: if seed.is_multiple_of(3) { 32 } else { KEPT_ENTRIES },
            events: BTreeMap::new(),
            count: 0,
            trace: blake3::Hasher::new(),
        };
        let keys: Vec<_> = (0..founders).map(key).collect();
        for node in 0..nodes {
            let disk = Disk::new();
            let epoch_ms = world.below(5_000).cast_signed();
            world.nodes.push(Node {
                disk,
                group: None,
                member: (node < founders).then_some(node as u64 + 1),
                is_down: false,
                life: 0,
                rate: 1000,
                epoch_ms,
                wake_at: 0,
                is_working: false,
                paused_until: 0,
                is_lost: false,
                was_torn: false,
                is_corrupt: false,
                voters: BTreeSet::new(),
                scribed: 0,
            });
            if node < founders {
                let (config, seed) = (world.config(node, node as u64 + 1), world.seed());
                let now = world.clock(node);
                let group = Group::create(world.nodes[node].disk.clone(), config, &keys, seed, now);
                let mut group = group.expect("a new group");
                group.set_version(VERSION_NEWEST);
                world.nodes[node].group = Some(group);
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
        (self.now_ms * rate / 1000).saturating_add_signed(*epoch_ms)
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

    pub fn schedule_actor(&mut self, at: u64, actor: usize) {
        self.schedule(at, Event::Actor { actor });
    }

    pub fn schedule_watcher(&mut self, after_ms: u64, watcher: usize) {
        self.schedule(self.now_ms + after_ms, Event::Watcher { watcher });
    }

    pub fn schedule_operator(&mut self, after_ms: u64) {
        self.schedule(self.now_ms + after_ms, Event::Operator);
    }

    /// Does the background work of a group.
    fn plan_work(&mut self, node: usize) {
        let Node { group, is_working, life, .. } = &mut self.nodes[node];
        let Some(pause) = group.as_ref().and_then(Group::poll_work).filter(|_| !*is_working) else { return };
        *is_working = true;
        let life = *life;
        self.schedule(self.now_ms + pause, Event::Work { node, life });
    }

    fn work(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life {
            return;
        }
        if self.is_paused(node) {
            self.schedule(self.nodes[node].paused_until, Event::Work { node, life });
            return;
        }
        self.nodes[node].is_working = false;
        let now = self.clock(node);
        if let Some(group) = &mut self.nodes[node].group {
            group.work();
            group.process_ready(now);
            self.end_step(node);
            self.carry_out(node);
        }
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

    /// Runs until the condition holds; panics with `what` if it does not within a minute.
    pub fn run_till(&mut self, what: &str, holds: impl FnMut(&mut Self) -> bool) {
        self.run_till_by(10, what, holds);
    }

    /// Runs until the condition holds, which is checked every `step_ms`; panics with `what` after a minute.
    pub fn run_till_by(&mut self, step_ms: u64, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now_ms + 60_000;
        while !holds(self) {
            assert!(self.now_ms < deadline, "not within a minute: {what}\n{}", self.picture());
            self.run_for(step_ms);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => {
                if !self.blocked.contains(&(from, to)) && !self.is_former(from, to) {
                    self.meet(from, to);
                    self.feed(to, Input::Message { from: self.identity(from), message });
                }
            }
            Event::Synced { node, life, number, pending } => {
                if self.nodes[node].life == life {
                    self.nodes[node].disk.synced(&pending);
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
            Event::Work { node, life } => self.work(node, life),
            Event::Late { node, life, input } => {
                if self.nodes[node].life == life {
                    self.feed(node, input);
                }
            }
            Event::Restart { node, life } => {
                if self.nodes[node].life == life {
                    self.kill(node, false);
                    self.start(node);
                }
            }
            Event::PowerCut => self.cut_power(),
            Event::Unblock => self.blocked.clear(),
            Event::Client { client } => {
                if self.clients.turns.get(&client) == Some(&self.now_ms) {
                    self.clients.turns.remove(&client);
                    clients::act(self, client);
                }
            }
            Event::Actor { actor } => actors::turn(self, actor),
            Event::Watcher { watcher } => watchers::turn(self, watcher),
            Event::Operator => operator::turn(self),
        }
    }

    pub fn feed(&mut self, node: usize, input: Input) {
        if self.is_paused(node) {
            let (at, life) = (self.nodes[node].paused_until, self.nodes[node].life);
            self.schedule(at, Event::Late { node, life, input });
            return;
        }
        let now = self.clock(node);
        if let Some(group) = &mut self.nodes[node].group {
            group.handle(now, input);
            self.end_step(node);
            self.carry_out(node);
        }
    }

    /// Takes down what a step has cost: messages, ticks and clients wait for it.
    fn end_step(&mut self, node: usize) {
        let cost = self.nodes[node].disk.meter().take();
        if cost.units() > self.longest_step.units() {
            self.longest_step = cost;
        }
    }

    fn carry_out(&mut self, node: usize) {
        let now = self.clock(node);
        while let Some(output) = self.nodes[node].group.as_mut().and_then(Group::poll_output) {
            self.trace.update(format!("{} {node} {output:?}", self.now_ms).as_bytes());
            self.betray_answer(&output);
            match output {
                Output::Send { to, message } => self.send(node, index(&to), &message),
                Output::Sync(number) => {
                    let Node { disk, life, .. } = &self.nodes[node];
                    let (pending, life) = (disk.pending(), *life);
                    let slow = if self.syncs_lie { 50 } else { 1 };
                    let after = 1 + slow * self.below(self.weather.sync_ms);
                    self.schedule(self.now_ms + after, Event::Synced { node, life, number, pending });
                    if self.syncs_lie {
                        self.nodes[node].group.as_mut().expect("it wrote").handle(now, Input::Synced(number));
                    }
                }
                Output::Answer { token, result } if actors::owns(token) => {
                    actors::on_answer(self, token, result);
                }
                Output::Answer { token, result } => clients::on_answer(self, token, result),
                Output::Redirect { token, leader } if actors::owns(token) => {
                    actors::on_redirect(self, token, leader.as_ref().map(index));
                }
                Output::Redirect { token, leader } => {
                    clients::on_redirect(self, token, leader.as_ref().map(index));
                }
                Output::Changed { token, result } => self.clients.changed.push((token, result)),
                Output::Invite { node: invited, member } => self.invite(index(&invited), member),
                Output::Removed | Output::Dropped => self.remove(node),
                Output::Notice(notice) => self.note(node, notice),
            }
        }
        self.wake(node);
        self.plan_work(node);
        self.betray_change(node);
        scribe::listen(self, node);
    }

    fn send(&mut self, from: usize, to: usize, message: &GroupMessage) {
        let Some(to) = self.linked(from, to) else { return };
        self.betray_voter(from, to, message);
        self.sent += 1;
        if let GroupMessage::Raft(RaftMessage { kind: Kind::Vote, term, .. }) = message {
            self.candidates.entry(*term).or_default().insert(from);
        }
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
        if let Notice::Stopped(stop) = &notice {
            if *stop == Stop::Diverged {
                assert!(self.nodes[node].is_corrupt, "node {node} is said to have diverged");
            } else {
                // The disk is repaired, and the node restarted.
                let (at, life) = (self.now_ms + 500, self.nodes[node].life);
                self.schedule(at, Event::Restart { node, life });
            }
        }
        self.notices.push((node, notice));
    }

    fn invite(&mut self, node: usize, member: MemberId) {
        // It was removed, has not been notified, and is to be a member again.
        let members = operator::members(self).unwrap_or_default();
        if let Some(group) = self.nodes[node].group.as_mut().filter(|group| group.member() < member) {
            group.check_membership(members.iter().copied().map(key));
            self.carry_out(node);
        }
        let hosts = members.into_iter().chain(self.leader()).map(key).collect::<Vec<_>>();
        if let Some(group) = self.nodes[node].group.as_mut().filter(|group| group.member() == member) {
            group.introduce_hosts(hosts.iter().copied());
        }
        if self.nodes[node].group.is_none() && !self.nodes[node].is_down {
            self.nodes[node].disk = Disk::new();
            let (config, seed, now) = (self.config(node, member), self.seed(), self.clock(node));
            let group = Group::join(self.nodes[node].disk.clone(), config, hosts, seed, now);
            self.nodes[node].member = Some(member);
            (self.nodes[node].is_lost, self.nodes[node].was_torn) = (false, false);
            self.adopt(node, group.expect("an invited member"));
        }
    }

    fn adopt(&mut self, node: usize, mut group: Group<Disk>) {
        // To open a replica is no step.
        self.nodes[node].disk.meter().take();
        group.set_version(self.version);
        self.nodes[node].group = Some(group);
        self.nodes[node].scribed = 0;
        self.nodes[node].is_working = false;
        self.carry_out(node);
    }

    /// Removes the replica of a member that was removed from the group.
    fn remove(&mut self, node: usize) {
        self.nodes[node].group = None;
        self.nodes[node].member = None;
        self.nodes[node].disk = Disk::new();
        self.nodes[node].life += 1;
    }

    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].group.is_some()
    }

    /// The node that leads in the newest term.
    pub fn leader(&mut self) -> Option<usize> {
        let terms = self.nodes.iter().enumerate().filter_map(|(node, it)| {
            let group = it.group.as_ref().filter(|group| group.is_leader())?;
            let status = group.status(0);
            status.stopped.is_none().then_some((status.term, node))
        });
        terms.max().map(|(_, node)| node)
    }

    pub fn wait_for_leader(&mut self) -> usize {
        self.run_till("a leader", |world| world.leader().is_some());
        self.leader().expect("there is one")
    }

    fn config(&self, node: usize, member: MemberId) -> GroupConfig {
        let (machine, history) = (self.machine, self.history);
        let (node, kept_entries, in_journal) = (self.identity(node), self.kept_entries, self.in_journal);
        let keyspace = "test".into();
        GroupConfig { group: GROUP, keyspace, node, member, machine, history, kept_entries, in_journal }
    }

    /// A hash of everything that has happened.
    pub fn trace(&self) -> blake3::Hash {
        self.trace.finalize()
    }
}

/// A request as a client sends it.
pub fn request(token: u64, request: Request, timeout_ms: u64) -> Input {
    let options = Options { timeout_ms, stale: false, id: None, fence: None };
    Input::Request { token, request, options }
}
