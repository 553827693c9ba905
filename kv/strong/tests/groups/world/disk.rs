//! A disk that loses what was not synced.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error, MemoryEngine};

/// Rows in memory, and the writes since the last sync. Clones share both.
#[derive(Clone)]
pub struct Disk {
    live: MemoryEngine,
    durable: MemoryEngine,
    unsynced: Arc<Mutex<Vec<Vec<RowOp>>>>,
}

impl Disk {
    pub fn new() -> Self {
        Self { live: MemoryEngine::new(), durable: MemoryEngine::new(), unsynced: Arc::default() }
    }

    fn unsynced(&self) -> MutexGuard<'_, Vec<Vec<RowOp>>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many writes a sync that begins now covers.
    pub fn pending(&self) -> usize {
        self.unsynced().len()
    }

    /// A sync of the first `count` writes ends.
    pub fn synced(&self, count: usize) {
        let count = count.min(self.pending());
        for ops in self.unsynced().drain(..count) {
            self.durable.write(ops).expect("memory");
        }
    }

    /// The disk after a power cut: of what was not synced, the first `kept` writes are there.
    pub fn after_power_cut(&self, kept: usize) -> Self {
        self.synced(kept);
        Self { live: self.durable.copy(), durable: self.durable.copy(), unsynced: Arc::default() }
    }
}

impl Engine for Disk {
    type View<'a> = <MemoryEngine as Engine>::View<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.live.get(family, key)
    }

    fn view(&self) -> Self::View<'_> {
        self.live.view()
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.unsynced().push(ops.clone());
        self.live.write(ops)
    }
}
