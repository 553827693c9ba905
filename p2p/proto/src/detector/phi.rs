//! The arrival window of one link and the suspicion it yields: Hayashibara, Defago, Yared, Katayama,
//! "The phi accrual failure detector", SRDS 2004, section 4.

use std::collections::VecDeque;

/// Intervals kept per link. The paper keeps 1,000 and Akka too; 64 follow a change of the link within
/// a minute or two and cost 512 bytes. A guess.
const WINDOW: usize = 64;
/// The highest suspicion; higher values are not distinguished.
pub(super) const PHI_MAX: f64 = 30.0;

/// The last intervals between signs of life, milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Window {
    intervals: VecDeque<u32>,
    sum: u64,
    squares: u64,
}

impl Window {
    /// Adds an interval in place of the oldest. Intervals are bounded by the caller to less than a
    /// day, so that sums of squares fit 64 bits.
    pub fn push(&mut self, interval_ms: u32) {
        if self.intervals.len() == WINDOW
            && let Some(old) = self.intervals.pop_front()
        {
            self.sum -= u64::from(old);
            self.squares -= u64::from(old).pow(2);
        }
        self.intervals.push_back(interval_ms);
        self.sum += u64::from(interval_ms);
        self.squares += u64::from(interval_ms).pow(2);
    }

    /// Mean and standard deviation, milliseconds; `expected_ms` and 0 before the first interval.
    fn moments(&self, expected_ms: u64) -> (f64, f64) {
        if self.intervals.is_empty() {
            return (expected_ms as f64, 0.0);
        }
        let count = self.intervals.len() as f64;
        let mean = self.sum as f64 / count;
        (mean, (self.squares as f64 / count - mean * mean).max(0.0).sqrt())
    }

    /// -log10 of the probability that a sign of life comes later than after `silent_ms`, for a normal
    /// distribution of intervals whose tail is approximated by a logistic one (Akka's
    /// `PhiAccrualFailureDetector`, after Bowling et al. 2009; error below 0.00014).
    pub fn phi(&self, silent_ms: u64, expected_ms: u64, std_min_ms: u64, pause_ms: u64) -> f64 {
        let (mean, std) = self.moments(expected_ms);
        let y = (silent_ms as f64 - mean - pause_ms as f64) / std.max(std_min_ms as f64).max(1.0);
        // P(later) = e^-x / (1 + e^-x), written so that neither tail overflows.
        let x = y * (1.5976 + 0.070_566 * y * y);
        let phi = (x.max(0.0) + (-x.abs()).exp().ln_1p()) / std::f64::consts::LN_10;
        phi.clamp(0.0, PHI_MAX)
    }
}
