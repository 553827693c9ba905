//! When to have a session, and with whom.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Millis, NodeId};

/// The end of a new link with the lower id opens a session at once; the other end steps in after
/// this long if it did not. A guess.
const LINK_UP_FALLBACK_MS: u64 = 1000;
/// Losses within this long are repaired by one session. A guess: longer than grafts take.
const WANT_MS: u64 = 200;
/// After a session that brought news, the next ones wait this long at first, and twice as long each
/// time until a session finds nothing: news that spreads by rumors at the same time must not keep
/// every link in session. A guess.
const SPREAD_MS: u64 = 100;
/// First wait after a session that failed or found no seat; doubles. A guess.
const RETRY_MS: u64 = 200;
/// Longest wait after failures. A guess.
const RETRY_MS_MAX: u64 = 10_000;
/// Wait for fingerprints that are being rebuilt. A guess.
const ROOTLESS_MS: u64 = 500;

/// What is planned for one link.
#[derive(Debug)]
struct Plan {
    due: Option<Millis>,
    failures: u32,
    spread_ms: u64,
}

impl Plan {
    /// At the latest at `due`.
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

    /// A link came up; `first` is the end that opens a session at once.
    pub(super) fn link_up(&mut self, now: Millis, peer: NodeId, first: bool) {
        let due = if first { now } else { now + LINK_UP_FALLBACK_MS };
        self.plans.insert(peer, Plan { due: Some(due), failures: 0, spread_ms: SPREAD_MS });
    }

    pub(super) fn link_down(&mut self, peer: &NodeId) {
        self.plans.remove(peer);
    }

    /// Something was lost between us and the peer.
    pub(super) fn want(&mut self, now: Millis, peer: &NodeId, rng: &mut ChaCha8Rng) {
        if let Some(plan) = self.plans.get_mut(peer) {
            plan.plan(now + around(WANT_MS, rng));
        }
    }

    /// A session with the peer brought news, which the other neighbours may lack too.
    pub(super) fn spread(&mut self, now: Millis, from: &NodeId, rng: &mut ChaCha8Rng) {
        for (_, plan) in self.plans.iter_mut().filter(|(peer, _)| *peer != from) {
            let due = now + around(plan.spread_ms, rng);
            if plan.due.is_none() {
                plan.spread_ms = (plan.spread_ms * 2).min(self.interval_ms.max(SPREAD_MS));
            }
            plan.plan(due);
        }
    }

    /// A session that the peer opened covers what was planned until now.
    pub(super) fn covered(&mut self, peer: &NodeId) {
        if let Some(plan) = self.plans.get_mut(peer) {
            plan.due = None;
        }
    }

    /// A session went through. What was planned since it began stays planned.
    pub(super) fn settled(&mut self, peer: &NodeId, were_equal: bool) {
        let Some(plan) = self.plans.get_mut(peer) else { return };
        plan.failures = 0;
        if were_equal {
            plan.spread_ms = SPREAD_MS;
        }
    }

    /// A session failed, or found no seat.
    pub(super) fn retry(&mut self, now: Millis, peer: &NodeId, rng: &mut ChaCha8Rng) {
        let Some(plan) = self.plans.get_mut(peer) else { return };
        let wait = (RETRY_MS << plan.failures.min(16)).min(RETRY_MS_MAX);
        plan.failures += 1;
        plan.due = Some(now + around(wait, rng));
    }

    /// There is no root to compare yet.
    pub(super) fn postpone(&mut self, now: Millis, peer: &NodeId) {
        if let Some(plan) = self.plans.get_mut(peer) {
            plan.due = Some(now + ROOTLESS_MS);
        }
    }

    /// Plans a session with a random neighbour when it is time for one.
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
