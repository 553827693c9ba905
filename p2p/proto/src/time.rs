//! Time in the protocols.

use std::ops::{Add, Sub};

/// Monotonic milliseconds since an epoch that the caller chose (process start, or the beginning of
/// a simulation). Never a wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Add<u64> for Millis {
    type Output = Self;
    /// Saturates: a deadline too far away is never reached.
    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub for Millis {
    type Output = u64;
    /// Milliseconds since `earlier`; 0 if `earlier` is later.
    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
