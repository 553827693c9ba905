//! The engine of simulations and tests: ordered maps in memory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::{Engine, Family, RowOp, View, Visitor};
use crate::Error;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Families = [Rows; Family::ALL.len()];

/// Rows in memory. Clones share them; [`MemoryEngine::copy`] does not.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    families: Arc<RwLock<Families>>,
    /// The journal of an engine that records what was synced.
    journal: Option<Arc<Mutex<Journal>>>,
    /// Whether writes fail with [`Error::Full`].
    is_full: Arc<AtomicBool>,
}

/// The synced rows, and the writes that a power cut may lose.
#[derive(Debug, Default)]
struct Journal {
    durable: Families,
    /// Writes since the last sync, in order. They have no bound, so a user of a journal has to sync.
    unsynced: VecDeque<Vec<RowOp>>,
}

impl MemoryEngine {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that records what was synced: a disk that can lose its power.
    pub fn with_journal() -> Self {
        Self { journal: Some(Arc::default()), ..Self::default() }
    }

    /// An independent copy of the state at this instant, as a backup or a copied directory is.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { families: Arc::new(RwLock::new(self.read().clone())), ..Self::default() }
    }

    /// Makes all writes fail as on a full disk, or succeed again.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    fn journal(&self) -> Option<MutexGuard<'_, Journal>> {
        self.journal.as_ref().map(|journal| journal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many writes a sync that begins now covers; 0 without a journal.
    pub fn pending(&self) -> usize {
        self.journal().map_or(0, |journal| journal.unsynced.len())
    }

    /// The unsynced write with this number, counted from 0.
    pub fn unsynced(&self, number: usize) -> Option<Vec<RowOp>> {
        self.journal()?.unsynced.get(number).cloned()
    }

    /// Records the end of a sync of the first `count` writes.
    pub fn synced(&self, count: usize) {
        let Some(mut journal) = self.journal() else { return };
        let count = count.min(journal.unsynced.len());
        let Journal { durable, unsynced } = &mut *journal;
        for ops in unsynced.drain(..count) {
            apply(durable, ops);
        }
    }

    /// The disk after a power cut: what was synced, and the first `kept` writes of the rest. Without a
    /// journal everything is there.
    #[must_use]
    pub fn after_power_cut(&self, kept: usize) -> Self {
        self.synced(kept);
        let Some(journal) = self.journal() else { return self.copy() };
        let durable = journal.durable.clone();
        let families = Arc::new(RwLock::new(durable.clone()));
        let journal = Some(Arc::new(Mutex::new(Journal { durable, unsynced: VecDeque::new() })));
        Self { families, journal, ..Self::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Families> {
        // A panic elsewhere leaves no partial state: `write` only inserts and removes.
        self.families.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    type View<'a> = RwLockReadGuard<'a, Families>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.read().get(family, key)
    }

    fn view(&self) -> Self::View<'_> {
        self.read()
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Error::Full);
        }
        if let Some(mut journal) = self.journal() {
            journal.unsynced.push_back(ops.clone());
        }
        apply(&mut self.families.write().unwrap_or_else(PoisonError::into_inner), ops);
        Ok(())
    }
}

fn apply(families: &mut Families, ops: Vec<RowOp>) {
    for op in ops {
        match op {
            RowOp::Put(family, key, value) => {
                families[family as usize].insert(key, value);
            }
            RowOp::Delete(family, key) | RowOp::DeleteOnce(family, key) => {
                families[family as usize].remove(&key);
            }
        }
    }
}

impl View for RwLockReadGuard<'_, Families> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self[family as usize].get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self[family as usize].range::<[u8], _>((Bound::Included(from), end)) {
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: u8) -> Vec<RowOp> {
        vec![RowOp::Put(Family::Raft, vec![key], vec![key])]
    }

    fn keys(engine: &MemoryEngine) -> Vec<u8> {
        (0..9).filter(|key| engine.get(Family::Raft, &[*key]).expect("memory").is_some()).collect()
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let disk = MemoryEngine::with_journal();
        for key in 0..3 {
            disk.write(put(key)).expect("memory");
        }
        let count = disk.pending();
        disk.write(put(3)).expect("memory");
        disk.synced(count);
        assert_eq!((count, disk.pending(), disk.unsynced(0)), (3, 1, Some(put(3))));
        disk.write(put(4)).expect("memory");
        let after = disk.after_power_cut(1);
        assert_eq!((keys(&disk), keys(&after)), (vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3]));
        after.write(put(5)).expect("memory");
        assert_eq!(keys(&after.after_power_cut(0)), [0, 1, 2, 3]);
    }
}
