//! Order statistics of measured durations, and how far a write had spread at which time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Distribution;

/// Quantiles of a sample, in milliseconds. All zero for an empty sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many were measured.
    pub count: usize,
    /// The median.
    pub p50_ms: f64,
    /// 90 % are at most this.
    pub p90_ms: f64,
    /// 99 % are at most this.
    pub p99_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

impl Summary {
    /// Summarizes a sample in any order.
    pub fn of(sample: &[Duration]) -> Self {
        let mut sorted = sample.to_vec();
        sorted.sort_unstable();
        let at = |percent| rank(&sorted, percent).map_or(0.0, millis);
        Self { count: sorted.len(), p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: at(100) }
    }
}

/// Milliseconds with a fraction, rounded to microseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// The nearest-rank quantile: the smallest element that at least `percent` of the sample do not
/// exceed. None of an empty sample.
pub fn rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied()
}

/// The median of a sample in any order; of an even number of values the mean of the two in the middle.
/// 0 for an empty sample.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (below, above) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(below), sorted.get(above)) {
        (Some(below), Some(above)) => f64::midpoint(*below, *above),
        _ => 0.0,
    }
}

/// How one write spread: when each live node answered a local read with it.
#[derive(Clone, Debug)]
pub struct Spread {
    /// From sending the write to its acknowledgement.
    pub acknowledged: Duration,
    /// From sending the write to its being readable, one per node, in any order.
    pub readable: Vec<Duration>,
}

/// Convergence as the design defines it (section 10): over many writes, the time after the
/// acknowledgement at which a share of the live nodes answered a local read with the write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// Client-seen time of the write itself.
    pub acknowledged: Summary,
    /// Acknowledgement until readable on half of the nodes.
    pub nodes_50: Summary,
    /// Acknowledgement until readable on 90 % of the nodes.
    pub nodes_90: Summary,
    /// Acknowledgement until readable on 99 % of the nodes.
    pub nodes_99: Summary,
    /// Acknowledgement until readable on the last node.
    pub nodes_all: Summary,
    /// The same, counted from sending the write.
    pub nodes_all_from_send: Summary,
}

impl Convergence {
    /// Summarizes the spreads of many writes.
    pub fn of(spreads: &[Spread]) -> Self {
        let share = |percent: usize, from_send: bool| {
            let times: Vec<Duration> = spreads.iter().filter_map(|s| s.reached(percent, from_send)).collect();
            Summary::of(&times)
        };
        let acknowledged: Vec<Duration> = spreads.iter().map(|s| s.acknowledged).collect();
        Self {
            acknowledged: Summary::of(&acknowledged),
            nodes_50: share(50, false),
            nodes_90: share(90, false),
            nodes_99: share(99, false),
            nodes_all: share(100, false),
            nodes_all_from_send: share(100, true),
        }
    }

    /// The distributions of the times from the acknowledgement until readable on 50, 90, 99 and 100 % of
    /// the nodes; those of an empty sample are left out.
    pub fn distributions(reached: [Vec<Duration>; 4]) -> Vec<Distribution> {
        let shares = ["50 %", "90 %", "99 %", "every one"];
        let of = |(share, times): (&str, Vec<Duration>)| {
            Distribution::of(
                format!("time to the nodes: {share}"),
                "ms",
                times.into_iter().map(millis).collect(),
            )
        };
        let all = shares.into_iter().zip(reached).map(of);
        all.filter(|distribution| !distribution.points.is_empty()).collect()
    }

    /// The rows of its table: what was reached, and when.
    pub fn rows(&self) -> [(&'static str, Summary); 6] {
        [
            ("acknowledged (from send)", self.acknowledged),
            ("readable on 50 % of the nodes", self.nodes_50),
            ("readable on 90 % of the nodes", self.nodes_90),
            ("readable on 99 % of the nodes", self.nodes_99),
            ("readable on every node", self.nodes_all),
            ("every node (from send)", self.nodes_all_from_send),
        ]
    }
}

impl Spread {
    /// When `percent` of the nodes had it. A node that shows a write before its acknowledgement has
    /// reached the client counts as zero.
    pub fn reached(&self, percent: usize, from_send: bool) -> Option<Duration> {
        let mut sorted = self.readable.clone();
        sorted.sort_unstable();
        let since_send = rank(&sorted, percent)?;
        Some(if from_send { since_send } else { since_send.saturating_sub(self.acknowledged) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let summary = Summary::of(&ms(&[40, 10, 30, 20]));
        assert_eq!(summary, Summary { count: 4, p50_ms: 20.0, p90_ms: 40.0, p99_ms: 40.0, max_ms: 40.0 });
        assert_eq!(Summary::of(&[]), Summary::default());
    }

    #[test]
    fn a_median_is_in_the_middle() {
        for (values, expected) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0)] {
            assert!((median(values) - expected).abs() < 1e-9);
        }
        assert!((median([4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn distributions_say_how_far_and_leave_out_what_nobody_measured() {
        let all = Convergence::distributions([ms(&[5, 1]), ms(&[7]), vec![], ms(&[9])]);
        let names: Vec<_> = all.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(
            names,
            ["time to the nodes: 50 %", "time to the nodes: 90 %", "time to the nodes: every one"]
        );
        assert_eq!(all[0].points, [(1.0, 0.5), (5.0, 1.0)]);
    }

    #[test]
    fn convergence_counts_from_the_acknowledgement() {
        let spread = Spread { acknowledged: Duration::from_millis(5), readable: ms(&[3, 9, 20, 6]) };
        let convergence = Convergence::of(&[spread]);
        assert!((convergence.nodes_50.max_ms - 1.0).abs() < 1e-9);
        assert!((convergence.nodes_all.max_ms - 15.0).abs() < 1e-9);
        assert!((convergence.nodes_all_from_send.max_ms - 20.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_rank_covers_its_share_and_no_smaller_element_does(
            mut values in prop::collection::vec(0u64..1000, 1..200), percent in 1usize..=100,
        ) {
            values.sort_unstable();
            let sorted = ms(&values);
            let found = rank(&sorted, percent).expect("the sample is not empty");
            let covered = sorted.iter().filter(|d| **d <= found).count();
            prop_assert!(covered * 100 >= percent * sorted.len());
            let below = sorted.iter().filter(|d| **d < found).count();
            prop_assert!(below * 100 < percent * sorted.len());
        }
    }
}
