//! The size of a session's deltas.

use super::DELTA_BYTES_MAX;

/// Bytes of the first delta: a second's worth of a link of 32 kB/s. All other messages on the
/// link, heartbeats included, may have to wait behind two of them.
const FIRST_BYTES: usize = 32 << 10;
/// Bytes of the smallest delta.
const BYTES_MIN: usize = 4 << 10;
/// Time beyond two round trips up to which a full delta doubles the size of the next ones, milliseconds. A guess.
const QUICK_MS: u64 = 250;
/// Time beyond two round trips from which on the size is halved, milliseconds: a fraction of the time after which a
/// silent neighbour is suspected. A guess.
const SLOW_MS: u64 = 1000;

/// The size of deltas over one link, adapted to the time that they take.
#[derive(Debug)]
pub(super) struct Pace {
    bytes: usize,
    /// The quickest answer so far, milliseconds: about a round trip.
    round_trip_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { bytes: FIRST_BYTES, round_trip_ms: u64::MAX }
    }
}

impl Pace {
    /// Bytes that the next delta should have, at most [`DELTA_BYTES_MAX`].
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records the time of a request with its answer, one of which carried these bytes of a delta.
    pub(super) fn took(&mut self, ms: u64, bytes: usize) {
        self.round_trip_ms = self.round_trip_ms.min(ms);
        let beyond_ms = ms.saturating_sub(2 * self.round_trip_ms);
        if beyond_ms > SLOW_MS {
            self.bytes = (self.bytes / 2).max(BYTES_MIN);
        } else if beyond_ms <= QUICK_MS && bytes >= self.bytes / 2 {
            self.bytes = (self.bytes * 2).min(DELTA_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_grow_over_a_quick_link_however_far_and_shrink_over_a_slow_one() {
        let mut far = Pace::default();
        far.took(600, 0);
        for _ in 0..10 {
            far.took(900, far.bytes());
        }
        assert_eq!(far.bytes(), DELTA_BYTES_MAX);
        let mut narrow = Pace::default();
        narrow.took(40, 0);
        narrow.took(40 + 500, narrow.bytes());
        assert_eq!(narrow.bytes(), FIRST_BYTES, "neither quick nor slow");
        narrow.took(40, 100);
        assert_eq!(narrow.bytes(), FIRST_BYTES, "too little to tell");
        for _ in 0..10 {
            narrow.took(2000, narrow.bytes());
        }
        assert_eq!(narrow.bytes(), BYTES_MIN);
    }
}
