//! Settings of the failure detector.

/// Derived as a whole from one number by [`DetectorConfig::detecting_in`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorConfig {
    /// A silent neighbour is given up within this time, milliseconds.
    pub detect_ms: u64,
    /// Both sides of a link hear something at least this often, milliseconds.
    pub interval_ms: u64,
    /// After this much silence a side asks, milliseconds.
    pub doubt_ms: u64,
    /// A question must have been open this long before its peer is given up, milliseconds.
    pub answer_ms: u64,
    /// Phi at which a peer is given up. 8 is Akka's and Cassandra's default
    /// (`akka.cluster.failure-detector.threshold`, `phi_convict_threshold`): one wrong suspicion in
    /// 10^8 intervals of the observed distribution.
    pub threshold: u32,
    /// Least standard deviation assumed of the intervals, milliseconds (Akka: `min-std-deviation`,
    /// 100 ms): keeps a very regular link from making phi steep.
    pub std_min_ms: u64,
    /// Silence beyond the mean that raises no suspicion yet, milliseconds (Akka:
    /// `acceptable-heartbeat-pause`, 3 s).
    pub pause_ms: u64,
    /// A timer of ours that fires later than this is added to every peer's last sign of life,
    /// milliseconds. While a question is open timers fire often enough (a quarter of `answer_ms`) for a
    /// stop that shows in none of them, and a backlog as long, to fit before the verdict.
    pub late_ms: u64,
    /// A timer of ours that fires later than this was a stall of our own, milliseconds. Measured: with
    /// both cores of a test machine busy, timers are late by up to 200 ms.
    pub stall_ms: u64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self::detecting_in(3_000)
    }
}

impl DetectorConfig {
    /// The configuration that gives a silent neighbour up within `detect_ms` (at least 500): 3,000
    /// gives a sign of life every 1,250 ms, 10,000 one every 5,000 ms, which costs a quarter.
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

    /// Silence after which a healthy node gives a peer up whatever phi says, milliseconds; the rest of
    /// `detect_ms` is for our own timer to be late.
    pub fn verdict_ms(&self) -> u64 {
        self.detect_ms - self.detect_ms / 40
    }
}
