//! How long a silence may last: three ways to bound it.

use starling_proto::detector::Window;

/// Which bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Patience {
    /// A fixed time-out, microseconds.
    Fixed(u64),
    /// Mean and four mean deviations of the intervals between heartbeats: V. Jacobson, "Congestion avoidance and
    /// control", SIGCOMM 1988, whose estimator of round-trip times this is, with its gains of 1/8 and 1/4.
    Jacobson,
    /// Phi accrual: N. Hayashibara, X. Defago, R. Yared, T. Katayama, "The phi accrual failure detector", SRDS 2004;
    /// suspicion at this phi. The window is the node's (`starling_proto`), with a least standard deviation of
    /// `PHI_STD_MIN_MS` and no further pause.
    Phi(u32),
}

/// Akka's `min-std-deviation`: 100 ms.
const PHI_STD_MIN_MS: u64 = 100;
/// The longest silence that phi is asked about, milliseconds.
const PHI_SILENCE_MS_MAX: u64 = 1 << 16;
/// Least deviation that Jacobson's estimator counts on, microseconds; TCP has the granularity of its clock there
/// (RFC 6298, section 2).
const DEVIATION_US_MIN: u64 = 10_000;

/// The silence of one node, as another one measures it.
#[derive(Clone, Debug)]
pub struct Silence {
    patience: Patience,
    period_us: u64,
    mean_us: u64,
    deviation_us: u64,
    window: Option<Box<Window>>,
}

impl Silence {
    /// Before the first heartbeat, of which one comes in each period.
    pub fn new(patience: Patience, period_us: u64) -> Self {
        let window = matches!(patience, Patience::Phi(_)).then(Box::default);
        Self { patience, period_us, mean_us: period_us, deviation_us: period_us / 2, window }
    }

    /// Learns from the interval between two heartbeats.
    pub fn learn(&mut self, interval_us: u64) {
        match self.patience {
            Patience::Fixed(_) => {}
            Patience::Jacobson => {
                let off_us = interval_us.abs_diff(self.mean_us);
                self.deviation_us = self.deviation_us - self.deviation_us / 4 + off_us / 4;
                self.mean_us = self.mean_us - self.mean_us / 8 + interval_us / 8;
            }
            Patience::Phi(_) => {
                if let Some(window) = &mut self.window {
                    window.push((interval_us / 1000).min(PHI_SILENCE_MS_MAX) as u32);
                }
            }
        }
    }

    /// The silence after which the node is considered faulty, microseconds.
    pub fn bound_us(&self) -> u64 {
        match self.patience {
            Patience::Fixed(us) => us,
            Patience::Jacobson => self.mean_us + (4 * self.deviation_us).max(DEVIATION_US_MIN),
            Patience::Phi(threshold) => {
                let phi = |silent_ms| {
                    let window = self.window.as_deref();
                    window.map_or(0.0, |w| w.phi(silent_ms, self.period_us / 1000, PHI_STD_MIN_MS, 0))
                };
                let (mut low, mut high) = (0, PHI_SILENCE_MS_MAX);
                while low < high {
                    let middle = low.midpoint(high);
                    if phi(middle) >= f64::from(threshold) {
                        high = middle;
                    } else {
                        low = middle + 1;
                    }
                }
                low * 1000
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(patience: Patience, intervals_ms: &[u64]) -> u64 {
        let mut silence = Silence::new(patience, 1_000_000);
        for interval_ms in intervals_ms {
            silence.learn(interval_ms * 1000);
        }
        silence.bound_us() / 1000
    }

    #[test]
    fn bounds_follow_the_jitter_that_was_measured() {
        let regular = [1000; 64];
        let irregular: Vec<u64> = (0..64).map(|turn| if turn % 2 == 0 { 600 } else { 1400 }).collect();
        assert_eq!(after(Patience::Fixed(3_000_000), &irregular), 3000);
        let jacobson = |intervals: &[u64]| after(Patience::Jacobson, intervals);
        assert!((1010..1050).contains(&jacobson(&regular)), "{}", jacobson(&regular));
        assert!((2400..2900).contains(&jacobson(&irregular)), "{}", jacobson(&irregular));
        let phi = |intervals: &[u64]| after(Patience::Phi(8), intervals);
        // Phi reaches 8 at 5.2 standard deviations, of 100 ms at least.
        assert!((1500..1550).contains(&phi(&regular)), "{}", phi(&regular));
        assert!((3050..3150).contains(&phi(&irregular)), "{}", phi(&irregular));
    }
}
