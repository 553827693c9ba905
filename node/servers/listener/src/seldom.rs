//! What happens often, and is reported once in a while.

use std::time::{Duration, Instant};

/// Time between two reports, at least. An estimate.
const INTERVAL: Duration = Duration::from_secs(60);

/// Events, and when they were last reported.
#[derive(Debug, Default)]
pub struct Seldom {
    /// Since the last report.
    count: u64,
    reported: Option<Instant>,
}

impl Seldom {
    /// Counts one. Returns how many are to be reported, if it is time.
    pub fn note(&mut self) -> Option<u64> {
        self.count += 1;
        let is_due = self.reported.is_none_or(|at| at.elapsed() >= INTERVAL);
        is_due.then(|| {
            self.reported = Some(Instant::now());
            std::mem::take(&mut self.count)
        })
    }
}
