//! The health of this node itself, by which the detector stretches its limits.

use crate::Millis;

/// Limits are stretched by this number plus one, at most. Lifeguard's multiplier goes to 8; here a
/// detection that takes longer than three times the promise is no detection.
const WORST: u64 = 2;

/// The local health multiplier of Lifeguard (Dadgar et al. 2018, section IV.A), fed by this node's own
/// stalls alone: those are certain.
#[derive(Debug, Default)]
pub(super) struct Health {
    score: u64,
    worsened: Millis,
}

impl Health {
    /// Records a stall of this node.
    pub(super) fn worsen(&mut self, now: Millis) {
        self.score = (self.score + 1).min(WORST);
        self.worsened = now;
    }

    /// The factor on all limits, from 1. Every `recover_ms` without a stall reduces it by one.
    pub(super) fn patience(&mut self, now: Millis, recover_ms: u64) -> u64 {
        let steps = (now - self.worsened) / recover_ms.max(1);
        if steps > 0 && self.score > 0 {
            self.score = self.score.saturating_sub(steps);
            self.worsened = self.worsened + steps * recover_ms;
        }
        1 + self.score
    }
}
