//! Nodes come and go: started, killed, switched off, stalled, restarted.

use rand::Rng;
use starling_core::Input;
use starling_kv::MemoryEngine;
use starling_proto::Role;

use super::link::Item;
use super::node::Node;
use super::{Event, Heard, World};

impl World {
    /// Adds a node, which is down; answers its index.
    pub fn add(&mut self, role: Role, region: Option<usize>) -> usize {
        let index = self.nodes.len();
        let mut id = [0; 32];
        self.rng.fill_bytes(&mut id);
        self.nodes.push(Node::new(index, id, role, region, self.release));
        index
    }

    /// Starts a node that is down, on its disk, unless another process goes on with its identity. A new one looks for contacts.
    pub fn start(&mut self, index: usize) {
        let node = &self.nodes[index];
        if node.is_up() || node.is_retired || self.was_replaced(index) {
            return;
        }
        self.trace.add(9, self.now_us, index as u64);
        let seeds = [self.draw_seed(), self.draw_seed()];
        let node = &mut self.nodes[index];
        let (is_new, was_off) = (node.remembered.is_empty(), node.is_off);
        node.start(&self.config, self.now_us, seeds);
        if index == 0 && self.nodes[index].life == 1 {
            // The network begins with this node.
            let now = self.nodes[index].now(self.now_us);
            if let Some(core) = &mut self.nodes[index].core {
                core.start_network(now);
            }
        }
        if let Some(receipts) = &mut self.receipts {
            receipts.started(index);
        }
        self.open_strong(index);
        let node = &self.nodes[index];
        self.recorder.started(index, node.is_replica(), self.now_us);
        if let Some(store) = node.store().filter(|_| was_off) {
            self.recorder.writes.fell_back(index, store);
        }
        if let Some(witness) = &mut self.witness {
            witness.started(index, self.nodes[index].now(self.now_us).wall_ms);
            // What the first node of a network writes as it starts.
            if let Some(store) = self.nodes[index].store() {
                witness.wrote_itself(index, store, self.now_us);
            }
        }
        self.carry_out(index);
        if is_new {
            self.queue.push(self.now_us + super::FIND_CONTACTS_US, Event::Contacts { node: index as u32 });
        }
    }

    /// kill -9: the kernel closes what the process had open. What was under way to others arrives.
    pub fn kill(&mut self, index: usize) {
        self.end(index, false);
        self.kill_strong(index);
    }

    /// Power loss: nobody is told, and the disk falls back to what was synced.
    pub fn power_off(&mut self, index: usize, synced: MemoryEngine) {
        self.end(index, true);
        self.cut_strong_power(index);
        let node = &mut self.nodes[index];
        (node.is_off, node.engine) = (true, synced);
        if let Some(witness) = &mut self.witness {
            witness.disk_lost(index);
        }
    }

    /// The disk as it is now.
    pub fn copy_disk(&self, index: usize) -> MemoryEngine {
        self.nodes[index].engine.copy()
    }

    /// A polite goodbye, then the end.
    pub fn leave(&mut self, index: usize) {
        self.give(index, Input::Leave);
        self.end(index, false);
    }

    /// The node handles nothing for a while.
    pub fn stall(&mut self, index: usize, until_us: u64) {
        let node = &mut self.nodes[index];
        if node.is_up() && until_us > node.stalled_until_us {
            node.stalled_until_us = until_us;
            let neighbours = self.watchers(index);
            self.recorder.stopped(index, self.now_us, &neighbours);
            self.queue.push(until_us, Event::Wake { node: index as u32 });
        }
    }

    /// The node opens no connection and accepts none for a while.
    pub fn exhaust(&mut self, index: usize, until_us: u64) {
        let node = &mut self.nodes[index];
        node.exhausted_until_us = node.exhausted_until_us.max(until_us);
    }

    /// When a node handles what it receives now: at once, or when its stall ends; microseconds.
    pub fn handles_us(&self, index: usize) -> u64 {
        self.nodes[index].stalled_until_us.max(self.now_us)
    }

    /// Every stalled node goes on now, and every node can open connections.
    pub fn end_stalls(&mut self) {
        for index in 0..self.nodes.len() {
            self.nodes[index].exhausted_until_us = 0;
            let until_us = &mut self.nodes[index].stalled_until_us;
            if *until_us > self.now_us {
                *until_us = self.now_us;
                self.queue.push(self.now_us, Event::Wake { node: index as u32 });
            }
        }
    }

    /// The node's wall clock is wrong by so much, and runs fast by so much.
    pub fn skew(&mut self, index: usize, skew_ms: i64, drift_ppm: f64) {
        let node = &mut self.nodes[index];
        let before_ms = node.now(self.now_us).wall_ms;
        (node.skew_ms, node.drift_ppm) = (skew_ms, drift_ppm);
        if let Some(witness) = &mut self.witness {
            witness.clock(index, before_ms);
        }
    }

    /// The clock of the node that counts the time that passes gains so many millionths from now on.
    pub fn gain(&mut self, index: usize, gain_ppm: i64) {
        self.nodes[index].gain(self.now_us, gain_ppm);
        self.nodes[index].scheduled_us = None;
        self.schedule(index);
    }

    fn end(&mut self, index: usize, silently: bool) {
        if !self.nodes[index].is_up() {
            return;
        }
        self.trace.add(10, self.now_us, index as u64);
        let neighbours = self.watchers(index);
        let node = &mut self.nodes[index];
        node.core = None;
        // A stop ends with its process.
        node.stalled_until_us = 0;
        node.backlog.clear();
        let connections = std::mem::take(&mut node.connections);
        let is_replica = node.is_replica();
        self.recorder.died(index, is_replica, self.now_us, &neighbours);
        self.hear(index, Heard::Down);
        for (_, slot) in connections {
            let Some(connection) = self.connections.get(slot) else { continue };
            let side = connection.side_of(index);
            let was_open = std::mem::take(&mut connection.sides[side].is_open);
            connection.sides[side].is_gone = true;
            if silently {
                connection.sides[side].out.clear();
            } else if was_open {
                self.put(slot, side, Item::End);
            }
            self.forget_if_over(slot);
        }
    }

    /// Live nodes that have this one as their neighbour.
    fn watchers(&self, index: usize) -> Vec<usize> {
        let node = &self.nodes[index];
        let Some(core) = &node.core else { return Vec::new() };
        let has = |peer: usize| {
            self.nodes[peer].core.as_ref().is_some_and(|other| other.active().any(|id| id == node.record.id))
        };
        core.active().map(|id| self.process_of(&id)).filter(|&peer| has(peer)).collect()
    }
}
