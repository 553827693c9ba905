//! What must hold whatever happens, one invariant per file, each named after what it protects. A
//! [`Witness`] in the world sees what nodes commit and what reaches them, keeps a record of every
//! operation ever made, and judges the nodes' stores by it. It reads states in their plainest form and
//! shares no code with the store's own sets and joins.

mod acknowledged;
mod bounded;
mod claims;
mod convergence;
mod counters;
mod dissemination;
mod done_once;
mod dots;
mod exclusion;
mod followed;
mod history;
mod killed;
mod linearizable;
mod minted;
mod narrow;
mod once;
mod resurrection;
mod revoked;
mod state;
mod steps;
mod strong;
mod timestamps;
mod views;
mod watches;
mod withdrawn;

use std::collections::BTreeMap;
use std::fmt;

use starling_core::strong::LOCATIONS;
use starling_kv::engine::Cost;
use starling_kv::{Batch, Dot, MemoryEngine, Root, Store, delta};
use starling_proto::Message;
use starling_proto::message::{RumorMessage, SyncMessage};

pub use dissemination::CALM_S;
pub use dots::Dots;
pub use history::History;
pub use state::{Entry, State};
pub use steps::UNITS_MAX as STEP_UNITS_MAX;
pub use strong::judge as judge_strong;

use crate::strong::Strong;
use crate::world::{EPOCH_MS, World};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which, by its file's name.
    pub invariant: &'static str,
    /// On which node, if it is about one.
    pub node: Option<usize>,
    /// When, virtual microseconds.
    pub at_us: u64,
    /// What was expected and what was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.3} s", self.invariant, self.at_us as f64 / 1e6)?;
        if let Some(node) = self.node {
            write!(f, " on node {node}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What the witness knows of one node.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Dots that it minted, or that deltas which reached it claimed.
    offered: Dots,
    /// Of these, the ones that were told to be dead, or that it killed.
    told_dead: Dots,
    /// Dead dots whose followers it has seen.
    followed: Dots,
    /// Dots that its disk held since it was lost last.
    held: Dots,
    /// At the last look, unless the disk was lost since.
    state: Option<State>,
    root: Option<Root>,
    /// The latest that its wall clock has shown in this run, milliseconds.
    wall_ms_max: u64,
    /// It holds something else than at the last look.
    has_moved: bool,
}

/// A commit under way.
#[derive(Debug)]
struct Commit {
    before: State,
    group: Vec<(u32, Batch)>,
    accepted: BTreeMap<u32, bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Witness {
    history: History,
    memories: Vec<Memory>,
    commit: Option<Commit>,
    /// Deltas delivered in the second that began then, virtual microseconds.
    delivered: (u64, u64),
    /// The first one.
    violation: Option<Violation>,
}

impl Witness {
    /// The first invariant that was seen not to hold.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn judge(
        &mut self,
        invariant: &'static str,
        node: Option<usize>,
        at_us: u64,
        verdict: Result<(), String>,
    ) {
        if let Err(what) = verdict {
            self.violation.get_or_insert(Violation { invariant, node, at_us, what });
        }
    }

    /// A node has handled one input.
    pub fn after_step(&mut self, node: usize, cost: Cost, at_us: u64) {
        self.judge("steps", Some(node), at_us, steps::check(cost));
    }

    fn memory(&mut self, node: usize) -> &mut Memory {
        if self.memories.len() <= node {
            self.memories.resize_with(node + 1, Memory::default);
        }
        &mut self.memories[node]
    }

    fn read(&self, store: &Store<MemoryEngine>) -> State {
        State::read(store, &|dot| self.history.entry(dot))
    }

    /// A node has started, and its wall clock shows this.
    pub fn started(&mut self, node: usize, wall_ms: u64) {
        let memory = self.memory(node);
        (memory.wall_ms_max, memory.has_moved) = (wall_ms, true);
    }

    /// What is known of a node now, for a copy of its machine.
    pub fn memory_of(&self, node: usize) -> Memory {
        let known = self.memories.get(node).cloned().unwrap_or_default();
        Memory { state: None, root: None, ..known }
    }

    /// A node starts on a copy of another one's machine, of which this was known.
    pub fn copied(&mut self, node: usize, known: Memory) {
        *self.memory(node) = known;
    }

    /// A node's disk has fallen back to an earlier state.
    pub fn disk_lost(&mut self, node: usize) {
        let memory = self.memory(node);
        (memory.state, memory.root) = (None, None);
        (memory.held, memory.followed) = (Dots::default(), Dots::default());
    }

    /// A node suspects a running, reachable peer.
    pub fn suspected(&mut self, node: usize, peer: usize, carries_progress: bool, at_us: u64) {
        self.judge("narrow", Some(node), at_us, narrow::check(peer, carries_progress));
    }

    /// A node's wall clock shows this.
    pub fn clock(&mut self, node: usize, wall_ms: u64) {
        let memory = self.memory(node);
        memory.wall_ms_max = memory.wall_ms_max.max(wall_ms);
    }

    /// A node is about to commit a group.
    pub fn before_commit(&mut self, store: &Store<MemoryEngine>, group: &[(u32, Batch)]) {
        let before = self.read(store);
        self.commit = Some(Commit { before, group: group.to_vec(), accepted: BTreeMap::new() });
    }

    /// It has answered a client.
    pub fn answered(&mut self, number: u32, is_accepted: bool) {
        if let Some(commit) = &mut self.commit {
            commit.accepted.insert(number, is_accepted);
        }
    }

    /// It has committed, by a wall clock that shows this.
    pub fn after_commit(&mut self, node: usize, store: &Store<MemoryEngine>, wall_ms: u64, at_us: u64) {
        let Some(Commit { before, group, accepted }) = self.commit.take() else { return };
        let after = self.read(store);
        self.judge(
            "minted",
            Some(node),
            at_us,
            minted::check(&self.history, &before, &after, store.minted()),
        );
        self.history.record(node, &before, &after);
        let own = store.own_actor().unwrap_or(starling_kv::ActorId([0; 16]));
        let mut reference = acknowledged::Reference::new(&before, own, wall_ms);
        for (number, batch) in &group {
            if accepted.get(number) == Some(&true) {
                reference.apply(batch);
            }
        }
        let mut verdict = reference.compare(&after);
        if let ([(number, batch)], Ok(())) = (group.as_slice(), &verdict)
            && accepted.get(number) == Some(&true)
        {
            verdict = acknowledged::was_acceptable(&before, batch, wall_ms);
        }
        self.history.increments.append(&mut reference.increments);
        self.judge("acknowledged", Some(node), at_us, verdict);
        let wall_ms_max = self.memory(node).wall_ms_max.max(wall_ms);
        self.judge("timestamps", Some(node), at_us, timestamps::check(&before, &after, wall_ms, wall_ms_max));
        let memory = self.memory(node);
        for dot in after.seen.minus(&before.seen) {
            memory.offered.add(dot);
            memory.held.add(dot);
            if !after.alive.contains(dot) {
                memory.told_dead.add(dot);
            }
        }
        for dot in before.alive.minus(&after.alive) {
            memory.told_dead.add(dot);
        }
        memory.has_moved = true;
    }

    /// A node has handled something, and may have written by itself where its strong keyspaces are.
    pub fn wrote_itself(&mut self, node: usize, store: &Store<MemoryEngine>, at_us: u64) {
        // What clients write is looked at when it is committed.
        let Some(last) = store.minted().filter(|_| self.commit.is_none()) else { return };
        let first = self.memory(node).offered.last(last.actor) + 1;
        if first > last.seq {
            return;
        }
        let after = self.read(store);
        for dot in (first..=last.seq).map(|seq| Dot { actor: last.actor, seq }) {
            let verdict = minted::check_new(&self.history, dot);
            self.judge("minted", Some(node), at_us, verdict);
            self.history
                .operations
                .insert(dot, history::Minted { node, entry: after.live.get(&dot).cloned() });
            let memory = &mut self.memories[node];
            memory.offered.add(dot);
            memory.held.add(dot);
            if !after.alive.contains(dot) {
                self.history.killed.add(dot);
                memory.told_dead.add(dot);
            }
        }
        // Whatever was said of these keyspaces before may have been superseded by it.
        for dot in after.seen.minus(&after.alive) {
            if self.history.entry(dot).is_some_and(|entry| entry.is_in(LOCATIONS)) {
                self.history.killed.add(dot);
                self.memories[node].told_dead.add(dot);
            }
        }
        self.memories[node].has_moved = true;
    }

    /// A message is about to be handled by a node.
    pub fn delivered(&mut self, from: usize, node: usize, message: &Message, at_us: u64) {
        let Some(payload) = payload(message) else { return };
        let Ok(delta) = delta::decode(payload) else {
            let what = "sent a delta that cannot be decoded".to_string();
            return self.judge("claims", Some(from), at_us, Err(what));
        };
        self.memory(from.max(node));
        let (count, since_us) = self.delivered;
        let is_same = at_us - since_us < 1_000_000;
        self.delivered = if is_same { (count + 1, since_us) } else { (1, at_us) };
        let verdict = bounded::check_deltas(self.delivered.0, self.memories.len());
        self.judge("bounded", None, at_us, verdict);
        let verdict = claims::check_delta(&delta, &self.memories[from], &self.history);
        self.judge("claims", Some(from), at_us, verdict);
        for section in &delta.actors {
            let mut entries = section.entries.iter().map(|entry| entry.seq).peekable();
            for &(first, last) in section.claimed.spans() {
                self.memories[node].offered.insert(section.actor, first, last);
                for seq in first..=last {
                    if entries.next_if_eq(&seq).is_some() {
                        continue;
                    }
                    let dot = Dot { actor: section.actor, seq };
                    if self.memories[node].told_dead.contains(dot) {
                        continue;
                    }
                    let verdict = killed::check_dead(&mut self.history, dot, EPOCH_MS + at_us / 1000);
                    self.judge("killed", Some(from), at_us, verdict);
                    self.memories[node].told_dead.add(dot);
                }
            }
        }
        self.memories[node].has_moved = true;
    }

    /// A node has handled a message. What a full rumor claims, it has seen now.
    pub fn handled(&mut self, node: usize, message: &Message, store: &Store<MemoryEngine>, at_us: u64) {
        let Message::Rumor(RumorMessage::Full { payload, .. }) = message else { return };
        let Ok(delta) = delta::decode(&payload.0) else { return };
        for section in &delta.actors {
            for &(first, last) in section.claimed.spans() {
                let range = starling_kv::DotRange { actor: section.actor, first, last };
                if !store.contains(&range) {
                    let what = format!("a rumor claims {range:?}, and is handled without being joined");
                    self.judge("claims", Some(node), at_us, Err(what));
                }
            }
        }
    }

    /// Looks at every live node that has moved since the last look.
    pub fn look(&mut self, world: &World, cache_bytes_max: usize) {
        let at_us = world.now_us();
        for (index, node) in world.nodes.iter().enumerate() {
            let Some(core) = &node.core else { continue };
            self.judge("bounded", Some(index), at_us, bounded::check(core, cache_bytes_max));
            if let Some(store) = core.store() {
                self.look_at(index, store, at_us);
            }
        }
    }

    fn look_at(&mut self, node: usize, store: &Store<MemoryEngine>, at_us: u64) {
        let memory = self.memory(node);
        let root = store.root();
        if !memory.has_moved && root.is_some() && root == memory.root {
            return;
        }
        let state = self.read(store);
        let memory = &mut self.memories[node];
        let mut verdicts = vec![("claims", claims::check(&state, memory))];
        if let Some(before) = &memory.state {
            verdicts.push(("resurrection", resurrection::check(before, &state)));
        }
        verdicts.push(("killed", killed::check(&mut self.history, &state, memory, EPOCH_MS + at_us / 1000)));
        verdicts.push(("followed", followed::check(&self.history, &state, memory, EPOCH_MS + at_us / 1000)));
        verdicts.push(("counters", counters::check(&state, store)));
        for dot in state.seen.minus(&memory.held).collect::<Vec<_>>() {
            memory.held.add(dot);
        }
        (memory.root, memory.has_moved, memory.state) = (root, false, Some(state));
        for (invariant, verdict) in verdicts {
            self.judge(invariant, Some(node), at_us, verdict);
        }
    }

    /// After healing: everything about all live replicas together.
    pub fn look_at_end(&mut self, world: &World, cache_bytes_max: usize) {
        self.look(world, cache_bytes_max);
        let at_us = world.now_us();
        let nodes = world.nodes.iter().enumerate();
        let stores: Vec<(usize, &Store<MemoryEngine>)> =
            nodes.filter_map(|(index, node)| Some((index, node.store()?))).collect();
        for &(node, store) in &stores {
            self.judge("convergence", Some(node), at_us, convergence::check_sound(store));
        }
        let memories: Vec<&Memory> = self.memories.iter().collect();
        let states: Vec<(usize, &State, &Store<MemoryEngine>)> = stores
            .iter()
            .filter_map(|&(node, store)| Some((node, memories.get(node)?.state.as_ref()?, store)))
            .collect();
        let replicas: Vec<(usize, &State)> = states.iter().map(|(node, state, _)| (*node, *state)).collect();
        let verdicts = [
            ("acknowledged", acknowledged::check_held(&memories, &replicas)),
            ("convergence", convergence::check(&states)),
            (
                "counters",
                replicas.first().map_or(Ok(()), |(_, state)| counters::check_sums(&self.history, state)),
            ),
        ];
        for (invariant, verdict) in verdicts {
            self.judge(invariant, None, at_us, verdict);
        }
    }

    /// The strong keyspace, once those who use it are done.
    pub fn look_at_strong(&mut self, strong: &Strong, at_us: u64) {
        for (invariant, what) in judge_strong(strong) {
            self.judge(invariant, None, at_us, Err(what));
        }
    }

    /// Two processes of one identity that could hear each other for long; `first` was there first.
    pub fn look_at_double(&mut self, world: &World, first: usize) {
        self.judge("withdrawn", Some(first), world.now_us(), withdrawn::check(world, first));
    }

    /// Nodes that the authority has revoked, at any time.
    pub fn look_at_revoked(&mut self, world: &World) {
        self.judge("revoked", None, world.now_us(), revoked::check(world));
    }

    /// The overlay, after healing.
    pub fn look_at_views(&mut self, world: &World, need_symmetry: bool) {
        self.judge("views", None, world.now_us(), views::check(world, need_symmetry));
        self.judge("revoked", None, world.now_us(), revoked::check_spread(world));
    }

    /// Writes in the calm, [`CALM_S`] later, and large ones later still; so many of them may miss somebody.
    pub fn look_at_rumors(&mut self, world: &World, dots: &[Dot], may_miss: usize) {
        let verdict = dissemination::check(world, dots, may_miss);
        self.judge("dissemination", None, world.now_us(), verdict);
    }
}

/// Whether the overlay is as it has to be after healing.
pub fn are_views_whole(world: &World, need_symmetry: bool) -> bool {
    views::check(world, need_symmetry).is_ok()
}

/// The delta that a message carries.
fn payload(message: &Message) -> Option<&[u8]> {
    match message {
        Message::Rumor(RumorMessage::Full { payload, .. }) => Some(&payload.0),
        Message::Sync(SyncMessage::Delta { delta, .. } | SyncMessage::Push { delta, .. }) => Some(&delta.0),
        _ => None,
    }
}
