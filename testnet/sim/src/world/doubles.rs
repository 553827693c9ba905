//! Identities that two processes have, as a copied data directory or a cloned machine makes them.
//!
//! ```text
//!   copy_node(A) ──► Copy ──► start_copy ──► A and A': each replaces the links of the other
//!                                              │
//!                          end_earlier(A) ◄────┴────► end_later(A): A is restarted, with what its own disk has
//! ```
//! A copy of a voter lacks what the voter has acknowledged since, and so does the disk of the earlier process once the later
//! one has acted for it. Either starts only where its groups survive that; see [`World::survives_lost_promises`].

use starling_core::Input;
use starling_core::strong::Strong;
use starling_kv::MemoryEngine;
use starling_proto::{NodeId, NodeRecord};

use super::node::{Node, address};
use super::strong::registered;
use super::{World, index_of};
use crate::invariants::Memory;

/// A copy of a node's machine.
pub(crate) struct Copy {
    /// The index of the node.
    of: usize,
    engine: MemoryEngine,
    /// What is durable of the part with strong keyspaces.
    strong: MemoryEngine,
    remembered: Vec<NodeRecord>,
    last_start: u64,
    memory: Option<Memory>,
}

impl World {
    /// Copies the machine of a node, unless its identity has two processes.
    pub(crate) fn copy_node(&self, index: usize) -> Option<Copy> {
        let node = &self.nodes[index];
        let is_single = node.is_up() && !self.has_double(index) && index_of(&node.record.id) == index;
        is_single.then(|| Copy {
            of: index,
            engine: node.engine.copy(),
            strong: node.strong.after_power_cut(&mut |_| 0),
            remembered: node.remembered.clone(),
            last_start: node.last_start,
            memory: self.witness.as_ref().map(|witness| witness.memory_of(index)),
        })
    }

    /// Whether a node still has the members of groups that it had when it was copied.
    pub(crate) fn has_members_of(&self, copy: &Copy) -> bool {
        registered(&copy.strong) == registered(&self.nodes[copy.of].strong)
    }

    /// Whether a node is up and its groups survive that its copy starts.
    pub(crate) fn can_start(&mut self, Copy { of, .. }: &Copy) -> bool {
        self.nodes[*of].is_up() && !self.has_double(*of) && self.survives_lost_promises(*of)
    }

    /// Starts a second process on a copy, at an address of its own, while the first one runs.
    pub(crate) fn start_copy(&mut self, copy: Copy) {
        let Copy { of, engine, strong, remembered, last_start, memory } = copy;
        let index = self.nodes.len();
        let first = &self.nodes[of];
        let mut second = Node::new(index, [0; 32], first.record.role, first.region, first.release);
        second.record = NodeRecord { addresses: vec![address(index)], ..first.record.clone() };
        (second.skew_ms, second.drift_ppm) = (first.skew_ms, first.drift_ppm);
        (second.engine, second.strong) = (engine, strong);
        (second.remembered, second.last_start) = (remembered, last_start);
        second.may_lack_promises = true;
        self.nodes.push(second);
        self.doubles.insert(of, index);
        if let (Some(witness), Some(memory)) = (&mut self.witness, memory) {
            witness.copied(index, memory);
        }
        self.start(index);
    }

    /// The process with the identity of a node: of two the one that has started later, unless it has ended for good.
    pub fn process_of(&self, id: &NodeId) -> usize {
        let first = index_of(id);
        let Some(second) = self.doubles.get(&first).copied() else { return first };
        let key = |index: usize| {
            let node = &self.nodes[index];
            (!node.is_retired, node.record.incarnation)
        };
        if key(first) > key(second) { first } else { second }
    }

    /// The second process with the identity of a node, which some of the node's clients use.
    pub(crate) fn second_process(&self, first: usize) -> Option<usize> {
        self.doubles.get(&first).copied().filter(|second| self.nodes[*second].is_up())
    }

    /// Whether two processes share the identity of this node, and neither has ended for good.
    pub(crate) fn has_double(&self, index: usize) -> bool {
        self.pairs().any(|(first, second)| [first, second].contains(&index))
    }

    /// The first and the second process of every identity that has two, down or not.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let all = self.doubles.iter().map(|(first, second)| (*first, *second));
        all.filter(|(first, second)| !self.nodes[*first].is_retired && !self.nodes[*second].is_retired)
    }

    /// Both processes of an identity, the one that has started later last.
    fn by_start(&self, first: usize) -> Option<[usize; 2]> {
        let second = *self.doubles.get(&first)?;
        let start = |index: usize| self.nodes[index].record.incarnation;
        Some(if start(first) > start(second) { [second, first] } else { [first, second] })
    }

    /// Whether a node's disk may lack what another process with its identity has acknowledged: it does not start unless its
    /// groups survive that.
    pub(super) fn was_replaced(&self, index: usize) -> bool {
        let pair = self.pairs().find(|(first, second)| [*first, *second].contains(&index));
        pair.and_then(|(first, _)| self.by_start(first)).is_some_and(|[earlier, _]| earlier == index)
    }

    /// Whether the earlier process of two has not reported yet that it gave way, with every keyspace that it has a replica of.
    /// `None`: one of them is down.
    pub(crate) fn hides_conflict(&self, first: usize) -> Option<bool> {
        let [earlier, later] = self.by_start(first)?;
        let core = self.nodes[earlier].core.as_ref().filter(|_| self.nodes[later].is_up())?;
        let has_reported = core.status(self.nodes[earlier].now(self.now_us)).double.is_some();
        let impaired = || core.strong().into_iter().flat_map(Strong::impaired);
        let reports = |keyspace: &str| impaired().any(|(of, why)| of == keyspace && why.contains("identity"));
        let mut replicas = core.strong().into_iter().flat_map(Strong::groups);
        Some(!(has_reported && replicas.all(|(_, keyspace)| reports(keyspace))))
    }

    /// Ends the earlier process of two for good.
    pub(crate) fn end_earlier(&mut self, first: usize) {
        if let Some([earlier, _]) = self.by_start(first) {
            self.kill(earlier);
            self.nodes[earlier].is_retired = true;
        }
    }

    /// Ends the later process of two for good, and restarts the other one. Returns whether the groups survive that; if not,
    /// nothing happens.
    pub(crate) fn end_later(&mut self, first: usize) -> bool {
        let Some([earlier, later]) = self.by_start(first) else { return false };
        if !self.survives_lost_promises(earlier) {
            return false;
        }
        self.kill(later);
        self.nodes[later].is_retired = true;
        self.kill(earlier);
        self.nodes[earlier].may_lack_promises = true;
        self.start(earlier);
        if earlier == first {
            self.doubles.remove(&first);
        }
        true
    }

    /// The connection of a node to the process with an identity.
    pub(super) fn slot_to(&mut self, from: usize, peer: &NodeId) -> Option<u32> {
        let others = self.nodes[from].connections.clone();
        let has_identity = |other: u32| self.nodes[other as usize].record.id == *peer;
        let slots: Vec<u32> =
            others.iter().filter(|(other, _)| has_identity(*other)).map(|it| it.1).collect();
        let is_open = |world: &mut Self, slot: u32| {
            let connection = world.connections.get(slot);
            connection.is_some_and(|connection| connection.sides[connection.side_of(from)].is_open)
        };
        let open = slots.iter().copied().find(|slot| is_open(self, *slot));
        open.or(slots.first().copied())
    }

    /// Ends a node's link to another process with the identity of one that connects: a node has one link to an identity.
    pub(super) fn replace_link(&mut self, node: usize, with: usize) {
        let id = self.nodes[with].record.id;
        let is_other = |other: usize| other != with && self.nodes[other].record.id == id;
        let slots: Vec<u32> = self.nodes[node]
            .connections
            .iter()
            .filter(|(other, _)| is_other(*other as usize))
            .map(|it| it.1)
            .collect();
        for slot in slots {
            if self.close_slot(node, slot) {
                self.give(node, Input::Disconnected { peer: id });
            }
        }
    }
}
