//! The world: nodes in virtual time, and the links between them. Everything in it is drawn from one
//! seed, and it iterates only ordered collections: equal seeds give equal runs, event by event, on one
//! platform (logarithms of another mathematics library may differ in the last bit).

mod connection;
mod doubles;
mod latency;
mod lifecycle;
mod link;
mod network;
mod node;
mod outputs;
mod queue;
mod strong;
mod trace;
mod trust;

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_core::{CoreConfig, Input};
use starling_kv::Batch;
use starling_kv::engine::Cost;
use starling_proto::Role;

pub(crate) use doubles::Copy;
pub use latency::Delays;
pub use link::transfer_us;
pub use node::{EPOCH_MS, Node, index_of};
pub use strong::{HEARD, Heard};

use crate::invariants::Witness;
use crate::measure::{Receipts, Recorder};
use crate::scenario::{Links, Release, Scenario};
use connection::Connections;
use network::{Cut, Dial};
use node::Waiting;
use queue::Queue;
use strong::Strong;
use trace::Trace;

/// Time from a node's asking for contacts until it has their addresses, microseconds: what a seed list
/// or a cached DNS answer takes. A guess.
const FIND_CONTACTS_US: u64 = 10_000;

/// What is going to happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A node wanted to be woken.
    Timer { node: u32 },
    /// Something arrives that the side sent.
    Arrive { slot: u32, generation: u32, side: u8 },
    /// Bytes of a large message that the side sends arrive.
    Progress { slot: u32, generation: u32, side: u8 },
    /// A stream that stands still goes on.
    Release { slot: u32, generation: u32, side: u8 },
    /// This side learns that the other process is gone.
    Reset { slot: u32, generation: u32, side: u8 },
    /// A dial has come to its end.
    Dialed { dial: u32 },
    /// A stall ends.
    Wake { node: u32 },
    /// Contacts have been found.
    Contacts { node: u32 },
    /// The disk of this run of a node has synced.
    Synced { node: u32, life: u32 },
    /// Whoever runs the world has something to do.
    Task { task: u32 },
}

/// See the module.
pub struct World {
    /// Every node there ever was, by index.
    pub nodes: Vec<Node>,
    /// What is measured.
    pub recorder: Recorder,
    /// What nodes have received, if it is counted.
    pub receipts: Option<Box<Receipts>>,
    /// Judges what nodes do, if it is there.
    pub witness: Option<Box<Witness>>,
    /// What the longest step of a node has cost.
    pub longest_step: Cost,
    /// How good the links are now.
    pub links: Links,
    now_us: u64,
    queue: Queue<Event>,
    connections: Connections,
    dials: Vec<Option<Dial>>,
    free_dials: Vec<u32>,
    cuts: Vec<Cut>,
    cuts_made: u32,
    delays: Delays,
    config: CoreConfig,
    /// What new nodes run.
    release: Release,
    rng: ChaCha8Rng,
    trace: Trace,
    events: u64,
    /// Every message passes through the wire codec.
    through_codec: bool,
    /// Nodes have strong keyspaces.
    strong: Option<Strong>,
    /// The second process of identities that have, or had, two; by the index of the first one.
    doubles: BTreeMap<usize, usize>,
    /// Nodes that the authority has revoked, and whose processes go on.
    revoked: Vec<usize>,
}

impl World {
    /// An empty world with a scenario's links.
    pub fn new(scenario: &Scenario) -> Result<Self, crate::scenario::Error> {
        let rng = ChaCha8Rng::seed_from_u64(scenario.seed);
        let delays = Delays::new(&scenario.links.latency, scenario.regions.len(), scenario.seed)?;
        Ok(Self {
            nodes: Vec::new(),
            recorder: Recorder::default(),
            receipts: None,
            witness: None,
            longest_step: Cost::default(),
            revoked: Vec::new(),
            links: scenario.links.clone(),
            now_us: 0,
            queue: Queue::default(),
            connections: Connections::default(),
            dials: Vec::new(),
            free_dials: Vec::new(),
            cuts: Vec::new(),
            cuts_made: 0,
            delays,
            config: node::config(scenario.node),
            release: scenario.node.release,
            rng,
            trace: Trace::new(),
            events: 0,
            // Only the codec knows what the previous release cannot say.
            through_codec: scenario.mixes_releases(),
            strong: scenario.strong.as_ref().map(Strong::new),
            doubles: BTreeMap::new(),
        })
    }

    /// Has every message encoded and decoded again, as between processes: slower, and nothing that the
    /// wire cannot carry gets through.
    pub fn pass_through_codec(&mut self) {
        self.through_codec = true;
    }

    /// Virtual microseconds since the beginning.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Events handled.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Hash of every event until now.
    pub fn trace(&self) -> String {
        self.trace.hex()
    }

    /// Has the witness look at the world, if there is one.
    pub(crate) fn with_witness(&mut self, look: impl FnOnce(&mut Witness, &Self)) {
        if let Some(mut witness) = self.witness.take() {
            look(&mut witness, self);
            self.witness = Some(witness);
        }
    }

    /// A generator seeded by this world's.
    pub fn fork_rng(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.draw_seed())
    }

    fn draw_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    /// Plans a task of whoever runs the world: [`World::advance`] comes back with it.
    pub fn plan(&mut self, at_us: u64, task: u32) {
        self.queue.push(at_us.max(self.now_us), Event::Task { task });
    }

    /// Lets time pass until a task is due, or until `until_us`: then `None`. So too
    /// when the witness has seen an invariant violated.
    pub fn advance(&mut self, until_us: u64) -> Option<u32> {
        while let Some((at_us, event)) = self.queue.pop(until_us) {
            self.now_us = at_us;
            self.events += 1;
            if let Event::Task { task } = event {
                self.trace.add(7, at_us, u64::from(task));
                return Some(task);
            }
            self.happen(event);
            if self.witness.as_ref().is_some_and(|witness| witness.violation().is_some()) {
                return None;
            }
        }
        self.now_us = self.now_us.max(until_us);
        None
    }

    /// Lets so many microseconds pass. Tasks that are due are left out: whoever planned them is done with them.
    pub fn pass(&mut self, us: u64) {
        let until_us = self.now_us + us;
        while self.advance(until_us).is_some() {}
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Timer { node } => self.on_timer(node as usize),
            Event::Arrive { slot, generation, side } => self.on_arrival(slot, generation, side.into()),
            Event::Progress { slot, generation, side } => self.on_progress(slot, generation, side.into()),
            Event::Release { slot, generation, side } => self.on_release(slot, generation, side.into()),
            Event::Reset { slot, generation, side } => self.on_reset(slot, generation, side.into()),
            Event::Dialed { dial } => self.on_dialed(dial),
            Event::Wake { node } => self.on_wake(node as usize),
            Event::Contacts { node } => self.on_contacts(node as usize),
            Event::Synced { node, life } => self.on_synced(node as usize, life),
            Event::Task { .. } => unreachable!("taken by the caller"),
        }
    }

    fn on_timer(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.scheduled_us == Some(self.now_us) {
            node.scheduled_us = None;
        }
        if node.stalled_until_us > self.now_us {
            return;
        }
        let Some(core) = &node.core else { return };
        let now = node.now(self.now_us).mono;
        if core.poll_timeout().is_some_and(|due| due <= now) {
            self.trace.add(1, self.now_us, index as u64);
            self.give(index, Input::Timeout);
        } else {
            self.schedule(index);
        }
    }

    /// Has the node woken when it wants to be.
    fn schedule(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(due) = node.core.as_ref().and_then(|core| core.poll_timeout()) else { return };
        let due_us = node.when_us(due).max(self.now_us);
        if node.scheduled_us.is_none_or(|scheduled| due_us < scheduled) {
            node.scheduled_us = Some(due_us);
            self.queue.push(due_us, Event::Timer { node: index as u32 });
        }
    }

    /// Gives an input to a node, now or when it handles things again; to one that is down, not at all.
    fn give(&mut self, index: usize, input: Input) {
        let node = &mut self.nodes[index];
        if node.stalled_until_us > self.now_us {
            node.backlog.push_back(Waiting::Input(Box::new(input)));
            return;
        }
        let now = node.now(self.now_us);
        // What was read to judge it is no step.
        node.take_cost();
        if let Some(core) = &mut node.core {
            core.handle(now, input);
            let cost = node.take_cost();
            if cost.units() > self.longest_step.units() {
                self.longest_step = cost;
            }
            if let Some(witness) = &mut self.witness {
                witness.after_step(index, cost, self.now_us);
            }
            self.note_own_writes(index);
            self.carry_out(index);
        }
    }

    /// Clients' batches, committed as one group, each under a number by which
    /// [`Recorder::written`] names its outcome. Answers whether the node takes them; one that is stalled
    /// does, and answers later.
    pub fn write(&mut self, index: usize, group: Vec<(u32, Batch)>) -> bool {
        let node = &mut self.nodes[index];
        if node.core.is_none() {
            return false;
        }
        if node.stalled_until_us > self.now_us {
            node.backlog.push_back(Waiting::Writes(group));
            return true;
        }
        self.trace.add(6, self.now_us, index as u64);
        self.recorder.before_write(node.store(), &group);
        if let (Some(witness), Some(store)) = (&mut self.witness, node.store()) {
            witness.before_commit(store, &group);
        }
        let group = group.into_iter().map(|(number, batch)| (u64::from(number), batch)).collect();
        self.give(index, Input::Write(group));
        let node = &self.nodes[index];
        if let (Some(witness), Some(store)) = (&mut self.witness, node.store()) {
            witness.after_commit(index, store, node.now(self.now_us).wall_ms, self.now_us);
        }
        true
    }

    fn on_wake(&mut self, index: usize) {
        if self.nodes[index].stalled_until_us > self.now_us {
            return;
        }
        self.trace.add(8, self.now_us, index as u64);
        self.recorder.went_on(index, self.nodes[index].store().is_some());
        let mut backlog = std::mem::take(&mut self.nodes[index].backlog);
        for waiting in backlog.drain(..) {
            match waiting {
                Waiting::Input(input) => self.give(index, *input),
                Waiting::Message(from, message) => self.give_message(index, from, *message),
                Waiting::Writes(group) => drop(self.write(index, group)),
            }
        }
        self.schedule(index);
    }

    fn on_contacts(&mut self, index: usize) {
        let contacts = self.contacts(index);
        self.give(index, Input::Contact(contacts));
    }

    /// What a ticket says: the seeds, or without any the first nodes.
    fn contacts(&self, index: usize) -> Vec<String> {
        let seeds = self.nodes.iter().enumerate().filter(|(_, node)| node.record.role == Role::Seed);
        let mut contacts: Vec<usize> = seeds.map(|(seed, _)| seed).collect();
        if contacts.is_empty() {
            contacts = (0..self.nodes.len().min(3)).collect();
        }
        contacts.into_iter().filter(|&contact| contact != index).map(node::address).collect()
    }
}
