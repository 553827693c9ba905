//! Failure detection: how soon the neighbours of a node that is gone give it up, and how often one is
//! given up that is not.

use std::collections::BTreeMap;
use std::time::Duration;

use starling_report::{Detection, Summary};

/// Ends that are to be noticed.
#[derive(Debug, Default)]
pub struct Detections {
    watched: BTreeMap<usize, Watched>,
    noticed: Vec<Duration>,
    false_positives: u64,
    measuring: bool,
}

#[derive(Debug)]
struct Watched {
    since_us: u64,
    /// Neighbours that have not noticed.
    watchers: Vec<usize>,
}

impl Detections {
    pub(super) fn begin(&mut self) {
        *self = Self { measuring: true, ..Self::default() };
    }

    pub(super) fn end(&mut self) {
        self.measuring = false;
    }

    pub(super) fn gone(&mut self, node: usize, now_us: u64, watchers: &[usize]) {
        self.stopped(node, now_us, watchers);
        // Whoever has ended notices nothing any more.
        self.watched.values_mut().for_each(|watched| watched.watchers.retain(|&watcher| watcher != node));
        self.watched.retain(|_, watched| !watched.watchers.is_empty());
    }

    pub(super) fn stopped(&mut self, node: usize, now_us: u64, watchers: &[usize]) {
        if self.measuring && !watchers.is_empty() {
            let watched = Watched { since_us: now_us, watchers: watchers.to_vec() };
            self.watched.entry(node).or_insert(watched);
        }
    }

    /// The node runs again.
    pub(super) fn over(&mut self, node: usize) {
        self.watched.remove(&node);
    }

    pub(super) fn gave_up(&mut self, node: usize, other: usize, now_us: u64) {
        let Some(watched) = self.watched.get_mut(&other) else { return };
        watched.watchers.retain(|&watcher| watcher != node);
        if watched.watchers.is_empty() {
            self.noticed.push(Duration::from_micros(now_us - watched.since_us));
            self.watched.remove(&other);
        }
    }

    pub(super) fn wrongly_suspected(&mut self) {
        self.false_positives += u64::from(self.measuring);
    }

    /// The report's part.
    pub fn report(&self, node_seconds: f64) -> Detection {
        let node_hours = node_seconds / 3600.0;
        Detection {
            noticed: Summary::of(&self.noticed),
            false_positives: self.false_positives,
            false_positives_per_node_hour: if node_hours > 0.0 {
                self.false_positives as f64 / node_hours
            } else {
                0.0
            },
        }
    }

    /// The times from the end of a node until its last neighbour gave it up, milliseconds.
    pub fn noticed_ms(&self) -> Vec<f64> {
        self.noticed.iter().copied().map(starling_report::millis).collect()
    }
}
