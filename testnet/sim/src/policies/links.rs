//! What datagrams of a full view go through.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Latency and loss of all links. Each datagram draws its own, so that one may overtake another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Least latency, one way, milliseconds.
    pub latency_min_ms: u64,
    /// Largest latency, one way, milliseconds.
    pub latency_max_ms: u64,
    /// Share of datagrams lost.
    #[serde(default)]
    pub loss: f64,
}

impl Links {
    /// Draws the latency of a datagram, microseconds; `None`: it is lost.
    pub(super) fn draw_us(&self, rng: &mut ChaCha8Rng) -> Option<u64> {
        if self.loss > 0.0 && rng.random_bool(self.loss) {
            return None;
        }
        Some(rng.random_range(self.latency_min_ms * 1000..=self.latency_max_ms * 1000))
    }
}
