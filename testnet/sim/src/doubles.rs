//! Second processes of nodes' identities: started on copies, and ended.

use rand::RngExt;

use crate::faults::RECALL_S;
use crate::measure::components;
use crate::simulation::{Simulation, Task};

/// How long the earlier one of two may take to report that it gave way, once everything has healed, microseconds: neighbours
/// in common see the links flap within seconds, others learn of it by walks, of which each node makes one every ten seconds.
const REPORTS_US: u64 = 60_000_000;
/// Time between two looks whether it has, or whether a copy can start, seconds.
const LOOK_S: f64 = 0.5;

impl Simulation {
    /// Copies machines, which start up to `age_s` later, or as soon as their groups survive that.
    pub(crate) fn copy_nodes(&mut self, nodes: &[usize], age_s: f64, for_s: f64) {
        for node in nodes {
            let after_s = self.rng.random_range(0.0..=age_s);
            if !self.copies.contains_key(node)
                && let Some(copy) = self.world.copy_node(*node)
            {
                self.copies.insert(*node, copy);
                self.plan_in(after_s, Task::StartCopy(*node, for_s));
            }
        }
    }

    pub(crate) fn start_copy(&mut self, node: usize, for_s: f64) {
        let Some(copy) = self.copies.remove(&node).filter(|copy| self.world.has_members_of(copy)) else {
            return;
        };
        if !self.world.can_start(&copy) {
            self.copies.insert(node, copy);
            self.plan_in(LOOK_S, Task::StartCopy(node, for_s));
            return;
        }
        let what = if self.world.votes(node) { "second voter" } else { "second process" };
        *self.faults.entry(what).or_default() += 1;
        self.world.start_copy(copy);
        self.plan_in(for_s, Task::EndDouble(node));
    }

    /// One of the two processes of an identity ends, unless that is over.
    pub(crate) fn end_double(&mut self, node: usize) {
        let Some(pair) = self.world.pairs().find(|(first, _)| *first == node) else { return };
        if self.world.is_recalling() {
            self.plan_in(RECALL_S, Task::EndDouble(node));
            return;
        }
        let is_lost = |node: usize| {
            !self.world.is_up(node) && self.tasks.values().all(|task| *task != Task::Start(node))
        };
        let keeps_earlier = self.rng.random_bool(0.5) || is_lost(pair.0) || is_lost(pair.1);
        self.keep_one(node, keeps_earlier);
    }

    fn keep_one(&mut self, first: usize, keeps_earlier: bool) {
        if !(keeps_earlier && self.world.end_later(first)) {
            self.world.end_earlier(first);
        }
        self.heals("one of two processes with one identity ended".into());
    }

    /// Everything has healed since then: the earlier ones have to report that they gave way, and then one of each two ends.
    pub(crate) fn end_doubles(&mut self, since_us: u64) {
        let pairs: Vec<usize> = self.world.pairs().map(|(first, _)| first).collect();
        if pairs.is_empty() {
            return;
        }
        let now_us = self.world.now_us();
        // Parts that have lost each other may take long to meet.
        let since_us = if components(&self.world) > 1 { now_us } else { since_us };
        let is_late = now_us >= since_us + REPORTS_US;
        for first in pairs {
            let hides = self.world.hides_conflict(first) == Some(true);
            if hides && is_late {
                self.world.with_witness(|witness, world| witness.look_at_double(world, first));
            }
            if is_late {
                self.keep_one(first, false);
            } else if !hides && !self.world.is_recalling() {
                let keeps_earlier = self.rng.random_bool(0.5);
                self.keep_one(first, keeps_earlier);
            }
        }
        self.plan_in(LOOK_S, Task::EndDoubles(since_us));
    }
}
