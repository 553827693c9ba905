//! What a step of simulated nodes costs their disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that were read or written, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Rows, those that were looked for and not found included.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

impl Cost {
    /// The cost as one number: a row costs about as much as a kibibyte (measured on RocksDB with cached rows: one
    /// microsecond).
    pub fn units(self) -> u64 {
        self.rows + self.bytes / 1024
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }
}

/// Counts rows. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    counts: Arc<[AtomicU64; 2]>,
}

impl Meter {
    pub(super) fn count(&self, bytes: usize) {
        self.counts[0].fetch_add(1, Ordering::Relaxed);
        self.counts[1].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Cost {
        let [rows, bytes] = &*self.counts;
        Cost { rows: rows.swap(0, Ordering::Relaxed), bytes: bytes.swap(0, Ordering::Relaxed) }
    }
}
