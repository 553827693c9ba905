//! What clients share while they run: what they have counted, and what must not happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use starling_history::Checked;
use starling_report::Availabilities;
use tokio::time::Instant;

use crate::lock;

/// Unexpected answers that are kept, at most: one is enough.
const NOTES_MAX: usize = 20;

/// Operations by what became of them.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Outcomes {
    /// Answered.
    pub done: u64,
    /// Refused by the state machine: a fence or a lease that is good no more.
    pub refused: u64,
    /// Said to have changed nothing: no leader in time.
    pub failed: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// Sent again after an answer that did not settle it.
    pub again: u64,
}

/// Counts of one run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub operations: BTreeMap<&'static str, Outcomes>,
    pub writes: u64,
    /// The longest time between two writes that succeeded, and when it ended.
    pub longest_gap: Duration,
    pub longest_gap_at: Duration,
    last_write: Duration,
    /// Clients are told to stop: from now on nobody has to write.
    pub is_over: bool,
    /// Leaders by their terms.
    pub leaders: BTreeMap<u64, usize>,
    /// By whom they were for and what was done to each.
    pub faults: BTreeMap<(&'static str, &'static str), u64>,
    pub watches_lost: u64,
    /// Requests, and their attempts at one node each.
    pub availabilities: Availabilities,
    /// Clients so far.
    pub clients: usize,
    pub notes: Vec<String>,
}

impl Counts {
    /// Something was answered or told that must not be.
    pub fn note(&mut self, what: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(what);
        }
    }
}

/// Handle to the counts and the clock of a run.
#[derive(Clone, Debug)]
pub struct Tally {
    began: Instant,
    counts: Arc<Mutex<Counts>>,
}

impl Tally {
    /// The run begins.
    pub fn begin() -> Self {
        Self { began: Instant::now(), counts: Arc::default() }
    }

    /// Since then, microseconds of the monotonic clock: the time of all histories.
    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// A number that no other client has.
    pub fn client(&self) -> usize {
        let mut counts = lock(&self.counts);
        counts.clients += 1;
        counts.clients
    }

    /// Something that a client asked for is over, unless clients are told to stop: then what fails is nobody's outage.
    pub fn ended(&self, client: usize, operation: &'static str, span_us: [u64; 2], succeeded: bool) {
        self.count(|counts| {
            if !counts.is_over {
                counts.availabilities.note(client, operation, span_us, succeeded);
            }
        });
    }

    /// Changes the counts.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.counts));
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// A write succeeded now.
    pub fn wrote(&self) {
        let now = self.began.elapsed();
        self.count(|counts| {
            counts.writes += 1;
            if counts.is_over {
                return;
            }
            let gap = now.saturating_sub(counts.last_write);
            if gap > counts.longest_gap {
                (counts.longest_gap, counts.longest_gap_at) = (gap, now);
            }
            counts.last_write = now;
        });
    }

    /// Something was answered or told that must not be.
    pub fn note(&self, what: impl Into<String>) {
        let what = format!("at {:.3} s: {}", self.began.elapsed().as_secs_f64(), what.into());
        self.count(|counts| counts.note(what));
    }

    /// Notes a violation that a client has found while it ran.
    pub fn check(&self, checked: Checked) {
        if let Err(violation) = checked {
            self.note(violation.0);
        }
    }
}
