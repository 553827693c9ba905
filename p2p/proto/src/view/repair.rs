//! Filling the active view: at the start, after losses, and when alone.

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::links::AskKind;
use super::{Timer, ViewOutput, Views};
use crate::message::ViewMessage;
use crate::{Millis, NodeRecord, Role};

/// Longest wait before a lost neighbour is replaced, milliseconds. It lets a neighbour that was handed over ask first,
/// and spreads the load after a mass failure. A guess.
const REPAIR_SOON_MS: u64 = 100;

impl Views {
    /// Whether this node has no neighbour.
    fn is_alone(&self) -> bool {
        self.active.is_empty()
    }

    pub(super) fn handle_contact(&mut self, now: Millis, record: NodeRecord) {
        if self.me.role == Role::Seed || record.id == self.me.id {
            return;
        }
        if record.role == Role::Seed {
            return self.send(record, ViewMessage::Probe);
        }
        self.passive.forgive(&record.id);
        if self.is_alone() && self.asked.is_empty() {
            self.ask(now, record, AskKind::Join);
        } else {
            self.learn(now, vec![record]);
        }
    }

    pub(super) fn handle_merge(&mut self, now: Millis, record: NodeRecord) {
        if self.me.role == Role::Replica {
            self.passive.forgive(&record.id);
            self.ask(now, record, AskKind::High);
        }
    }

    /// Keeps records in the passive view, and uses them at once if neighbours are scarce.
    pub(super) fn learn(&mut self, now: Millis, records: Vec<NodeRecord>) {
        for record in records {
            if let Some(known) = self.active.get_mut(&record.id) {
                if record.incarnation == known.incarnation && record.supersedes(known) {
                    *known = record;
                }
            } else if record.id != self.me.id && record.role == Role::Replica {
                self.passive.add(now, record, &self.blocks, &mut self.rng);
            }
        }
        if self.active.len() < self.config.active_low && self.passive.iter().len() > 0 {
            self.repair_soon(now);
        }
    }

    pub(super) fn repair_soon(&mut self, now: Millis) {
        let wait = self.rng.random_range(REPAIR_SOON_MS / 2..=REPAIR_SOON_MS);
        self.timers.set_earlier(Timer::Repair, now + wait);
    }

    /// Records a question that brought no neighbour: the pause before the next one grows with each.
    pub(super) fn no_neighbor_won(&mut self, now: Millis) {
        if self.active.len() < self.config.active_low {
            return self.repair_soon(now);
        }
        self.fruitless = self.fruitless.saturating_add(1);
        let wait = backoff_ms(self.config.refill_first_ms, self.config.refill_max_ms, self.fruitless);
        let wait = jittered(wait, &mut self.rng);
        self.timers.set(Timer::Repair, now + wait);
    }

    /// Asks passive peers while neighbours are missing: several at once while many are, since each
    /// may bring two.
    pub(super) fn repair(&mut self, now: Millis) {
        if self.is_alone() && !self.timers.is_set(&Timer::Contacts) {
            self.timers.set(Timer::Contacts, now + self.config.contacts_first_ms);
        }
        while self.active.len() + self.asked.len() < self.config.active_max {
            let missing = self.config.active_max - self.active.len();
            if self.asked.len() >= (missing / 2).max(1) {
                return;
            }
            let Some(record) = self.pick_candidate(now) else { break };
            let joining = self.asked.values().any(|ask| ask.kind == AskKind::Join);
            let kind = if self.is_alone() && !joining {
                AskKind::Join
            } else if self.active.len() < self.config.active_low {
                AskKind::High
            } else {
                AskKind::Low
            };
            self.ask(now, record, kind);
        }
        if self.asked.is_empty() && !self.is_alone() && self.active.len() < self.config.active_max {
            self.no_candidate(now);
        }
    }

    /// A passive peer that is neither asked nor resting after a refusal: of another zone if there is no such neighbour, of
    /// an uncrowded block if there is one.
    fn pick_candidate(&mut self, now: Millis) -> Option<NodeRecord> {
        let elsewhere = if self.elsewhere() == 0 { self.pick_elsewhere(now) } else { None };
        let uncrowded = |views: &Self, peer: &NodeRecord| !views.is_crowded(peer);
        elsewhere.or_else(|| self.pick(now, uncrowded)).or_else(|| self.pick(now, |_, _| true))
    }

    fn pick_elsewhere(&mut self, now: Millis) -> Option<NodeRecord> {
        self.pick(now, |views, peer| views.is_elsewhere(peer) && !views.is_crowded(peer))
    }

    /// A random passive peer that may be asked now, of those that are wanted.
    fn pick(&mut self, now: Millis, is_wanted: impl Fn(&Self, &NodeRecord) -> bool) -> Option<NodeRecord> {
        let free = |p: &&NodeRecord| !self.asked.contains_key(&p.id) && !self.passive.is_resting(&p.id, now);
        let wanted: Vec<_> = self.passive.iter().filter(free).filter(|p| is_wanted(self, p)).collect();
        wanted.into_iter().choose(&mut self.rng).cloned()
    }

    /// Replaces a neighbour of a block that has too many by one of another block, and without a neighbour of another zone
    /// any by one, if such a peer is known. This terminates: each time, the view comes closer to what the known peers allow.
    pub(super) fn diversify(&mut self, now: Millis) {
        let enough = self.config.block_enough;
        let too_many =
            self.active.values().any(|peer| self.blocks.count(peer, self.active.values()) > enough);
        if too_many && let Some(record) = self.pick(now, |views, peer| !views.is_crowded(peer)) {
            self.ask(now, record, AskKind::High);
        } else if self.elsewhere() == 0
            && let Some(record) = self.pick_elsewhere(now)
        {
            self.ask(now, record, AskKind::Swap);
        }
    }

    /// Handles that no candidate is left. A node that lacks neighbours asks one of those that it has for a sample.
    fn no_candidate(&mut self, now: Millis) {
        if self.active.len() < self.config.active_low
            && let Some(peer) = self.active.values().choose(&mut self.rng).cloned()
        {
            self.send(peer, ViewMessage::Probe);
        }
        self.fruitless = self.fruitless.saturating_add(1);
        let wait = backoff_ms(self.config.refill_first_ms, self.config.refill_max_ms, self.fruitless);
        let wait = jittered(wait, &mut self.rng);
        self.timers.set_earlier(Timer::Repair, now + wait);
    }

    pub(super) fn need_contacts(&mut self, now: Millis) {
        if !self.is_alone() {
            return;
        }
        self.outputs.push_back(ViewOutput::NeedContacts);
        self.repair_soon(now);
        let wait = backoff_ms(self.config.contacts_first_ms, self.config.contacts_max_ms, self.lonely);
        self.lonely = self.lonely.saturating_add(1);
        let wait = jittered(wait, &mut self.rng);
        self.timers.set(Timer::Contacts, now + wait);
    }
}

/// `first_ms` doubled `times` times, at most `max_ms`.
pub(crate) fn backoff_ms(first_ms: u64, max_ms: u64, times: u32) -> u64 {
    first_ms.saturating_mul(1 << times.min(20)).min(max_ms)
}

/// Between 3/4 and 5/4 of `ms`, so that nodes that started together do not stay in step.
pub(crate) fn jittered(ms: u64, rng: &mut impl rand::Rng) -> u64 {
    rng.random_range(ms - ms / 4..=ms + ms / 4)
}
