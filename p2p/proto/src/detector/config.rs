//! Settings of the failure detector.

/// Settings of the detector, all derived from one number by [`DetectorConfig::detecting_in`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorConfig {
    /// Time within which a silent neighbour is suspected, milliseconds.
    pub detect_ms: u64,
    /// Longest time between two signs of life in each direction of a link, milliseconds.
    pub interval_ms: u64,
    /// Silence after which a side sends a question (an unscheduled ping), milliseconds.
    pub doubt_ms: u64,
    /// Time that a question must have been open before its peer is suspected, milliseconds.
    pub answer_ms: u64,
    /// Phi at which a peer is suspected. 8 is Akka's and Cassandra's default
    /// (`akka.cluster.failure-detector.threshold`, `phi_convict_threshold`): one wrong suspicion in
    /// 10^8 intervals of the observed distribution.
    pub threshold: u32,
    /// Least standard deviation assumed of the intervals, milliseconds (Akka: `min-std-deviation`,
    /// 100 ms): keeps a very regular link from making phi steep.
    pub std_min_ms: u64,
    /// Silence beyond the mean that raises no suspicion yet, milliseconds (Akka:
    /// `acceptable-heartbeat-pause`, 3 s).
    pub pause_ms: u64,
    /// Delay of this node's own timer from which on the delay is added to every peer's last sign of life,
    /// milliseconds. While a question is open timers fire often enough (a quarter of `answer_ms`) for a
    /// suspension that none of them shows, and an equally long backlog, to fit before the verdict.
    pub late_ms: u64,
    /// Delay of this node's own timer from which on it counts as a stall of this process, milliseconds. Measured: with
    /// both cores of a test machine busy, timers are late by up to 200 ms.
    pub stall_ms: u64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self::detecting_in(3_000)
    }
}

impl DetectorConfig {
    /// The configuration that suspects a silent neighbour within `detect_ms` (at least 500): 3,000 means a sign of
    /// life every 1,250 ms, 10,000 one every 5,000 ms, which costs a quarter.
    ///
    /// With regular signs of life phi crosses the threshold at 95 % of `detect_ms`; signs so irregular
    /// that it would cross later do not delay the verdict beyond [`Self::verdict_ms`].
    pub fn detecting_in(detect_ms: u64) -> Self {
        let detect_ms = detect_ms.max(500);
        // 5/12 up to 3 s, so that a doubt, a question and its answer still fit when both processors
        // are busy; 1/2 from 10 s on, where there is time for that anyway; in between a straight line.
        let twelfth_ms = detect_ms / 12;
        let interval_ms = 5 * twelfth_ms + twelfth_ms * (detect_ms.clamp(3_000, 10_000) - 3_000) / 7_000;
        let spare_ms = detect_ms - interval_ms;
        let std_min_ms = spare_ms / 16;
        Self {
            detect_ms,
            interval_ms,
            doubt_ms: interval_ms + spare_ms / 5,
            answer_ms: spare_ms * 2 / 5,
            threshold: 8,
            std_min_ms,
            // phi reaches 8 at 5.23 standard deviations beyond mean and pause.
            pause_ms: detect_ms * 19 / 20 - interval_ms - std_min_ms * 523 / 100,
            late_ms: detect_ms / 64,
            stall_ms: spare_ms / 6,
        }
    }

    /// Silence after which a healthy node suspects a peer regardless of phi, milliseconds; the rest of `detect_ms`
    /// allows for a late timer of this node.
    pub fn verdict_ms(&self) -> u64 {
        self.detect_ms - self.detect_ms / 40
    }
}
