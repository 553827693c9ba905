//! The schedule of sessions: when, and with which peer.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Millis, NodeId};

/// Time after which the end of a new link with the higher id opens a session, milliseconds, if the other end, which
/// should do so at once, has not. A guess.
const LINK_UP_FALLBACK_MS: u64 = 1000;
/// Time within which losses are repaired by one session, milliseconds. A guess: longer than grafts take.
const WANT_MS: u64 = 200;
/// First wait for the next sessions after one that changed something, milliseconds; doubles until a session finds
/// nothing: data that spreads by rumors at the same time must not keep every link in session. A guess.
const SPREAD_MS: u64 = 100;
/// First wait after a session that failed or found no seat, milliseconds; doubles. A guess.
const RETRY_MS: u64 = 200;
/// Longest wait after failures, milliseconds. A guess.
const RETRY_MS_MAX: u64 = 10_000;
/// Wait while fingerprints are being rebuilt, milliseconds. A guess.
const ROOTLESS_MS: u64 = 500;

/// The plan for one link.
#[derive(Debug)]
struct Plan {
    due: Option<Millis>,
    failures: u32,
    spread_ms: u64,
}

impl Plan {
    /// Plans a session at `due`, unless one is planned earlier.
    fn plan(&mut self, due: Millis) {
        self.due = Some(self.due.map_or(due, |planned| planned.min(due)));
    }
}

/// Plans for every link of the active view.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_ms: u64,
    plans: BTreeMap<NodeId, Plan>,
    periodic_at: Millis,
}

impl Schedule {
    pub(super) fn new(now: Millis, interval_ms: u64, rng: &mut ChaCha8Rng) -> Self {
        Self { interval_ms, plans: BTreeMap::new(), periodic_at: now + around(interval_ms, rng) }
    }

    /// Plans for a new link; with `first`, this end opens a session at once.
    pub(super) fn link_up(&mut self, now: Millis, peer: NodeId, first: bool) {
        let due = if first { now } else { now + LINK_UP_FALLBACK_MS };
        self.plans.insert(peer, Plan { due: Some(due), failures: 0, spread_ms: SPREAD_MS });
    }

    pub(super) fn link_down(&mut self, peer: &NodeId) {
        self.plans.remove(peer);
    }

    /// Plans a session after a loss of messages between this node and the peer.
    pub(super) fn want(&mut self, now: Millis, peer: &NodeId, rng: &mut ChaCha8Rng) {
        if let Some(plan) = self.plans.get_mut(peer) {
            plan.plan(now + around(WANT_MS, rng));
        }
    }

    /// Plans sessions with the other neighbours, which may lack what a session with `from` has brought.
    pub(super) fn spread(&mut self, now: Millis, from: &NodeId, rng: &mut ChaCha8Rng) {
        for (_, plan) in self.plans.iter_mut().filter(|(peer, _)| *peer != from) {
            let due = now + around(plan.spread_ms, rng);
            if plan.due.is_none() {
                plan.spread_ms = (plan.spread_ms * 2).min(self.interval_ms.max(SPREAD_MS));
            }
            plan.plan(due);
        }
    }

    /// Removes the plan for a peer that has opened a session itself.
    pub(super) fn covered(&mut self, peer: &NodeId) {
        if let Some(plan) = self.plans.get_mut(peer) {
            plan.due = None;
        }
    }

    /// Records a completed session. Plans made since it began remain.
    pub(super) fn completed(&mut self, peer: &NodeId, were_equal: bool) {
        let Some(plan) = self.plans.get_mut(peer) else { return };
        plan.failures = 0;
        if were_equal {
            plan.spread_ms = SPREAD_MS;
        }
    }

    /// Plans another session after one that failed or found no seat.
    pub(super) fn retry(&mut self, now: Millis, peer: &NodeId, rng: &mut ChaCha8Rng) {
        let Some(plan) = self.plans.get_mut(peer) else { return };
        let wait = (RETRY_MS << plan.failures.min(16)).min(RETRY_MS_MAX);
        plan.failures += 1;
        plan.due = Some(now + around(wait, rng));
    }

    /// Postpones a session, because there is no root to compare yet.
    pub(super) fn postpone(&mut self, now: Millis, peer: &NodeId) {
        if let Some(plan) = self.plans.get_mut(peer) {
            plan.due = Some(now + ROOTLESS_MS);
        }
    }

    /// Plans a session with a random neighbour if one is due.
    pub(super) fn tick(&mut self, now: Millis, rng: &mut ChaCha8Rng) {
        if self.periodic_at > now {
            return;
        }
        self.periodic_at = now + around(self.interval_ms, rng);
        if !self.plans.is_empty() {
            let chosen = rng.random_range(0..self.plans.len());
            if let Some(plan) = self.plans.values_mut().nth(chosen) {
                plan.plan(now);
            }
        }
    }

    /// The neighbour whose session is due, longest first, among those without one.
    pub(super) fn pop_due(&mut self, now: Millis, in_session: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let (due, peer) = self.next(in_session)?;
        if due > now {
            return None;
        }
        self.plans.get_mut(&peer)?.due = None;
        Some(peer)
    }

    /// When [`Schedule::pop_due`] will have one.
    pub(super) fn next_due(&self, in_session: impl Fn(&NodeId) -> bool) -> Option<Millis> {
        self.next(in_session).map(|(due, _)| due)
    }

    /// When [`Schedule::tick`] will plan one.
    pub(super) fn next_tick(&self) -> Millis {
        self.periodic_at
    }

    fn next(&self, in_session: impl Fn(&NodeId) -> bool) -> Option<(Millis, NodeId)> {
        let free = self.plans.iter().filter(|(peer, _)| !in_session(peer));
        free.filter_map(|(peer, plan)| plan.due.map(|due| (due, *peer))).min()
    }
}

/// A wait of half to one and a half times `ms`, so that nodes do not act in step.
fn around(ms: u64, rng: &mut ChaCha8Rng) -> u64 {
    rng.random_range(ms / 2..=ms + ms / 2)
}
