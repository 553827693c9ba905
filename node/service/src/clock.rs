//! The machine's two clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use starling_core::Now;
use starling_proto::Millis;
use tokio::time::Instant as TokioInstant;

/// Milliseconds since the Unix epoch; 0 if the clock is set before it.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Monotonic time since the process's node started.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// This instant on both clocks.
    pub fn now(&self) -> Now {
        Now { mono: Millis(self.0.elapsed().as_millis() as u64), wall_ms: wall_ms() }
    }

    /// When the monotonic clock will show `at`.
    pub fn instant(&self, at: Millis) -> TokioInstant {
        TokioInstant::from_std(self.0 + std::time::Duration::from_millis(at.0))
    }
}
