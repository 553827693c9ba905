//! What is measured in a world: each part takes notes of one subject, and fills its part of the report.

mod detection;
mod healing;
mod nodes;
mod outcome;
mod overlay;
mod receipts;
mod series;
mod traffic;
mod writes;

use starling_kv::{Batch, MemoryEngine, Store};

pub use healing::Healings;
pub use nodes::NodeSet;
pub use outcome::Outcome;
pub(crate) use outcome::are_equal;
pub use overlay::{components, topology, views};
pub use receipts::{Reason, Receipt, Receipts};
pub use series::Timeline;
pub use traffic::Kind;
pub use writes::{Arrival, Became, Sending, Tracker};

use detection::Detections;
use traffic::Counts;

/// All notes. The world calls it as things happen.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Clients' writes, and where they are.
    pub writes: Tracker,
    /// Bytes and messages.
    pub traffic: Counts,
    /// Who noticed whose end.
    pub detections: Detections,
    /// Integral of the live nodes over the measured time, node-microseconds, and how far it goes.
    node_us: u64,
    noted_us: u64,
    live: u64,
    measuring: bool,
}

impl Recorder {
    /// The measured time begins.
    pub fn begin(&mut self, now_us: u64) {
        self.note(now_us);
        self.node_us = 0;
        self.measuring = true;
        self.traffic = Counts::default();
        self.detections.begin();
        self.writes.begin();
    }

    /// The measured time ends; writes already sent are followed further.
    pub fn end(&mut self, now_us: u64) {
        self.note(now_us);
        self.measuring = false;
        self.detections.end();
    }

    /// Live nodes times measured seconds, until now.
    pub fn node_seconds(&self, now_us: u64) -> f64 {
        let since = if self.measuring { self.live * (now_us - self.noted_us) } else { 0 };
        (self.node_us + since) as f64 / 1e6
    }

    fn note(&mut self, now_us: u64) {
        if self.measuring {
            self.node_us += self.live * (now_us - self.noted_us);
        }
        self.noted_us = now_us;
    }

    /// A node has started.
    pub fn started(&mut self, node: usize, is_replica: bool, now_us: u64) {
        self.note(now_us);
        self.live += 1;
        self.detections.over(node);
        if is_replica {
            self.writes.started(node);
        }
    }

    /// A node has ended; `watchers` had it as their neighbour.
    pub fn died(&mut self, node: usize, is_replica: bool, now_us: u64, watchers: &[usize]) {
        self.note(now_us);
        self.live -= 1;
        self.detections.gone(node, now_us, watchers);
        if is_replica {
            self.writes.excuse(node);
        }
    }

    /// A node has stopped for a while.
    pub fn stopped(&mut self, node: usize, now_us: u64, watchers: &[usize]) {
        self.detections.stopped(node, now_us, watchers);
        self.writes.excuse(node);
    }

    /// A node that had stopped goes on.
    pub fn went_on(&mut self, node: usize, is_replica: bool) {
        self.detections.over(node);
        if is_replica {
            self.writes.started(node);
        }
    }

    /// A node does not have the other as its neighbour any more.
    pub fn gave_up(&mut self, node: usize, other: usize, now_us: u64) {
        self.detections.gave_up(node, other, now_us);
    }

    /// A node gave up another one that runs and can be reached.
    pub fn wrongly_suspected(&mut self) {
        self.detections.wrongly_suspected();
    }

    /// A frame was queued for so many peers.
    pub fn sent(&mut self, kind: Kind, copies: u64, bytes: u64) {
        if self.measuring {
            self.traffic.sent(kind, copies, bytes);
        }
    }

    /// A client's batch is about to be committed.
    pub fn before_write(&mut self, store: Option<&Store<MemoryEngine>>, group: &[(u32, Batch)]) {
        self.writes.before(store, group);
    }

    /// A node has answered a client.
    pub fn written(
        &mut self,
        node: usize,
        number: u32,
        is_accepted: bool,
        store: &Store<MemoryEngine>,
        now_us: u64,
    ) {
        self.writes.written(node, number, is_accepted, store, now_us);
    }

    /// A node has joined what a message brought.
    pub fn arrived(&mut self, node: usize, arrival: &Arrival, store: &Store<MemoryEngine>, now_us: u64) {
        self.writes.arrived(node, arrival, store, now_us);
    }
}
