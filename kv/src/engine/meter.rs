//! What a step of simulated nodes costs their disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Family;

/// Of rows, the journal's included.
const FAMILIES: usize = Family::Journal as usize + 1;

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
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: [AtomicU64; FAMILIES],
    written: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    pub(super) fn read(&self, family: Family, bytes: usize) {
        self.0.read[family as usize].fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.0.written.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Cost {
        let read: u64 = self.0.read.iter().map(|rows| rows.swap(0, Ordering::Relaxed)).sum();
        Cost { rows: read + self.take_written(), bytes: self.0.bytes.swap(0, Ordering::Relaxed) }
    }

    /// Rows of a family that were read since the last call of this or of [`Meter::take`].
    pub fn take_read(&self, family: Family) -> u64 {
        self.0.read[family as usize].swap(0, Ordering::Relaxed)
    }

    /// Rows that were written since the last call of this or of [`Meter::take`].
    pub fn take_written(&self) -> u64 {
        self.0.written.swap(0, Ordering::Relaxed)
    }
}
