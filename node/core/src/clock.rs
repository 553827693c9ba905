//! Decides whether this node may expire entries by its wall clock. A removal by one node spreads to all others, so
//! a node with a wrong clock must not expire anything.

use starling_proto::Millis;

use crate::Now;

/// Difference between this clock and the neighbours' median from which on this node expires nothing, milliseconds.
/// Half of the store's grace, so that no node expires what another still shows.
const OFF_MS: u64 = starling_kv::store::EXPIRY_GRACE_MS / 2;
/// How long this node expires nothing after its clock was set, milliseconds: until the clock has been compared with
/// every neighbour's again.
const SET_MS: u64 = 20_000;
/// How long a node without neighbours expires nothing if it knows of other nodes, milliseconds. After that the others
/// may be gone for good. A guess.
const ALONE_MS: u64 = 3_600_000;

/// Observations of the wall clock.
#[derive(Debug)]
pub struct Clock {
    last: Now,
    /// When the clock was last found to have been set.
    set_at: Option<Millis>,
    /// When there was last a neighbour to compare it with; at first the start.
    alone_since: Millis,
    was_off: bool,
}

impl Clock {
    /// The observations of a node that starts.
    pub fn new(now: Now) -> Self {
        Self { last: now, set_at: None, alone_since: now.mono, was_off: false }
    }

    /// Whether this node may expire entries now; called at every step of expiry. `offset_ms` is the median of the
    /// neighbours' clocks minus this one, if there are neighbours; `knows_others` whether there are or were any.
    pub fn may_expire(&mut self, now: Now, offset_ms: Option<i64>, knows_others: bool) -> bool {
        let expected_ms = self.last.wall_ms.saturating_add(now.mono - self.last.mono);
        if now.wall_ms.abs_diff(expected_ms) > OFF_MS {
            self.set_at = Some(now.mono);
        }
        self.last = now;
        if offset_ms.is_some() {
            self.alone_since = now.mono;
        }
        if self.set_at.is_some_and(|at| now.mono - at < SET_MS) {
            return false;
        }
        match offset_ms {
            Some(offset_ms) => !is_off(offset_ms),
            None => !knows_others || now.mono - self.alone_since >= ALONE_MS,
        }
    }

    /// The offset, if it has just become too large.
    pub fn newly_off(&mut self, offset_ms: Option<i64>) -> Option<i64> {
        let off = offset_ms.filter(|offset_ms| is_off(*offset_ms));
        let was_off = std::mem::replace(&mut self.was_off, off.is_some());
        off.filter(|_| !was_off)
    }
}

fn is_off(offset_ms: i64) -> bool {
    offset_ms.unsigned_abs() > OFF_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_s: u64, wall_s: u64) -> Now {
        Now { mono: Millis(mono_s * 1_000), wall_ms: wall_s * 1_000 }
    }

    #[test]
    fn only_a_clock_that_agrees_with_the_neighbours_is_believed() {
        let mut clock = Clock::new(at(0, 1_000));
        assert!(clock.may_expire(at(10, 1_010), Some(-29_000), true));
        assert!(!clock.may_expire(at(20, 1_020), Some(31_000), true));
        assert_eq!((clock.newly_off(Some(31_000)), clock.newly_off(Some(31_000))), (Some(31_000), None));
        assert_eq!((clock.newly_off(Some(0)), clock.newly_off(Some(-31_000))), (None, Some(-31_000)));
    }

    #[test]
    fn a_clock_that_was_set_is_compared_again_first() {
        let mut clock = Clock::new(at(0, 1_000));
        assert!(!clock.may_expire(at(10, 8_000), Some(0), true), "the offset is from before");
        assert!(!clock.may_expire(at(20, 8_010), Some(0), true));
        assert!(clock.may_expire(at(30, 8_020), Some(0), true));
    }

    #[test]
    fn a_node_that_has_lost_the_others_waits_and_one_that_never_had_any_does_not() {
        let mut clock = Clock::new(at(0, 1_000));
        assert!(clock.may_expire(at(10, 1_010), None, false));
        assert!(!clock.may_expire(at(20, 1_020), None, true));
        assert!(clock.may_expire(at(30, 1_030), Some(0), true));
        assert!(!clock.may_expire(at(3_620, 4_620), None, true));
        assert!(clock.may_expire(at(3_640, 4_640), None, true));
    }
}
