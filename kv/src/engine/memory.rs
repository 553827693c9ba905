//! The engine of simulations and tests: ordered maps in memory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::meter::Meter;
use super::{Engine, Family, RowOp, View, Visitor, journal_ops, no_journal};
use crate::Error;
use crate::journal::{Journal, LostRecords, MemoryFiles, Syncing};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Families = [Rows; Family::ALL.len()];

/// Unlogged writes after which a disk flushes them unprompted, as an engine whose buffers are full.
const UNFLUSHED_MAX: usize = 256;

/// Rows in memory. Clones share them; [`MemoryEngine::copy`] does not.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    families: Arc<RwLock<Families>>,
    /// The disk of an engine that records what is durable.
    disk: Option<Arc<Mutex<Disk>>>,
    journal: Option<(MemoryFiles, Journal<MemoryFiles>)>,
    /// Whether writes fail with [`Error::Full`].
    is_full: Arc<AtomicBool>,
    meter: Meter,
}

/// The durable rows, and the writes that a crash may lose.
#[derive(Debug, Default)]
struct Disk {
    durable: Families,
    /// Writes that are not all durable, in order. They have no bound, so a user of a disk has to sync.
    writes: VecDeque<Write>,
    /// The number of the last write.
    written: u64,
    /// The last write of those that a sync has covered.
    synced: u64,
    /// The last write of those that are durable whether they were logged or not.
    flushed: u64,
    /// The last write of those that the next flush covers.
    flushing: Option<u64>,
}

#[derive(Clone, Debug)]
struct Write {
    number: u64,
    ops: Vec<RowOp>,
    is_logged: bool,
}

/// What a sync that begins now covers; see [`MemoryEngine::pending`].
#[derive(Clone, Debug, Default)]
pub struct Pending {
    written: u64,
    changes: u64,
    syncing: Option<Syncing>,
}

impl Disk {
    fn is_durable(&self, write: &Write) -> bool {
        write.number <= if write.is_logged { self.synced.max(self.flushed) } else { self.flushed }
    }

    fn settle(&mut self) {
        while let Some(write) = self.writes.pop_front() {
            if !self.is_durable(&write) {
                self.writes.push_front(write);
                return;
            }
            apply(&mut self.durable, write.ops);
        }
    }

    /// The rows that are left if all writes up to `flushed` are there, and logged ones up to `synced`.
    fn after(&self, flushed: u64, synced: u64) -> Families {
        let mut rows = self.durable.clone();
        for write in &self.writes {
            if write.number <= if write.is_logged { flushed.max(synced) } else { flushed } {
                apply(&mut rows, write.ops.clone());
            }
        }
        rows
    }
}

/// Draws how much of what a crash may take is left: a number up to this one.
pub type Draw<'d> = dyn FnMut(u64) -> u64 + 'd;

impl MemoryEngine {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that records what is durable, with a journal: a disk that can lose its power.
    pub fn with_disk() -> Self {
        Self::on_disk(Families::default(), MemoryFiles::default()).expect("an empty journal opens")
    }

    fn on_disk(durable: Families, files: MemoryFiles) -> Result<Self, Error> {
        let families = Arc::new(RwLock::new(durable.clone()));
        let journal = Journal::open(files.clone())?;
        let disk = Some(Arc::new(Mutex::new(Disk { durable, ..Disk::default() })));
        Ok(Self { families, disk, journal: Some((files, journal)), ..Self::default() })
    }

    /// An independent copy of the rows at this instant, as a backup or a copied directory is, without the journal.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { families: Arc::new(RwLock::new(self.read().clone())), ..Self::default() }
    }

    /// Counts the rows that are read and written.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Makes all writes fail as on a full disk, or succeed again.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// The files of the journal.
    pub fn files(&self) -> Option<&MemoryFiles> {
        self.journal.as_ref().map(|(files, _)| files)
    }

    /// What was durable in the journal and is not there, if anything.
    pub fn lost_records(&self) -> Option<LostRecords> {
        self.journal.as_ref().and_then(|(_, journal)| journal.lost())
    }

    fn disk(&self) -> Option<MutexGuard<'_, Disk>> {
        self.disk.as_ref().map(|disk| disk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a sync that begins now covers.
    pub fn pending(&self) -> Pending {
        Pending {
            written: self.disk().map_or(0, |disk| disk.written),
            changes: self.journal.as_ref().map_or(0, |(files, _)| files.changes()),
            syncing: self.journal.as_ref().map(|(_, journal)| journal.begin_sync()),
        }
    }

    /// Records the end of a sync, and of a flush that was begun before.
    pub fn synced(&self, pending: &Pending) {
        if let Some(mut disk) = self.disk() {
            disk.synced = disk.synced.max(pending.written);
            disk.flushed = disk.flushed.max(disk.flushing.take().unwrap_or_default());
            disk.settle();
        }
        if let (Some((files, journal)), Some(syncing)) = (&self.journal, &pending.syncing) {
            files.synced(pending.changes);
            journal.end_sync(syncing).expect("memory");
        }
    }

    /// How many writes and changes of the journal's files a crash of the machine may undo.
    pub fn unsynced(&self) -> usize {
        let files = self.journal.as_ref().map_or(0, |(files, _)| files.unsynced());
        files + self.disk().map_or(0, |disk| disk.writes.len())
    }

    /// The disk after a crash of the process: unlogged writes up to one are left. Without a disk everything is there.
    #[must_use]
    pub fn after_kill(&self, draw: &mut Draw<'_>) -> Self {
        let (Some(disk), Some((files, _))) = (self.disk(), &self.journal) else { return self.copy() };
        let flushed = disk.flushed + draw(disk.written - disk.flushed);
        let rows = disk.after(flushed, disk.written);
        let Disk { synced, written, .. } = *disk;
        let left = Self::on_disk(rows, files.clone()).expect("it opened before");
        // The kernel still has what was logged, and it may be lost in a power failure later.
        if let Some(mut new) = left.disk() {
            new.durable = disk.after(flushed, synced);
            new.writes = disk
                .writes
                .iter()
                .filter(|it| it.is_logged && it.number > flushed.max(synced))
                .cloned()
                .collect();
            (new.written, new.synced, new.flushed) = (written, synced, flushed);
        }
        left
    }

    /// The disk after a power failure: of what was not durable a part is left. Without a disk everything is there.
    #[must_use]
    pub fn after_power_cut(&self, draw: &mut Draw<'_>) -> Self {
        let (Some(disk), Some((files, _))) = (self.disk(), &self.journal) else { return self.copy() };
        // Rows may have been flushed at any time.
        let flushed = disk.flushed + draw(disk.written - disk.flushed);
        let synced = disk.synced + draw(disk.written - disk.synced);
        let files = files.after_power_cut(&mut |bytes| match draw(2) {
            0 => 0,
            1 => draw(bytes as u64) as usize,
            _ => bytes,
        });
        Self::on_disk(disk.after(flushed, synced), files).expect("a torn journal opens")
    }

    fn read(&self) -> RwLockReadGuard<'_, Families> {
        // A panic elsewhere leaves no partial state: `write` only inserts and removes.
        self.families.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryEngine {
    fn write_rows(&self, ops: Vec<RowOp>, is_logged: bool) -> Result<(), Error> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Error::Full);
        }
        for op in &ops {
            self.meter.wrote(if let RowOp::Put(_, _, row) = op { row.len() } else { 0 });
        }
        if let Some(ops) = journal_ops(&ops)? {
            return self.journal.as_ref().map_or(Err(no_journal()), |(_, journal)| journal.write(&ops));
        }
        if let Some(mut disk) = self.disk() {
            disk.written += 1;
            let (number, ops) = (disk.written, ops.clone());
            disk.writes.push_back(Write { number, ops, is_logged });
            if disk.writes.iter().filter(|write| !write.is_logged).count() > UNFLUSHED_MAX {
                disk.flushed = number;
            }
            disk.settle();
        }
        apply(&mut self.families.write().unwrap_or_else(PoisonError::into_inner), ops);
        Ok(())
    }
}

impl Engine for MemoryEngine {
    type View<'a> = MemoryView<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.view().get(family, key)
    }

    fn view(&self) -> MemoryView<'_> {
        let journal = self.journal.as_ref().map(|(_, journal)| journal);
        MemoryView { rows: self.read(), journal, meter: &self.meter }
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.write_rows(ops, true)
    }

    fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    fn sync_journal(&self) -> Result<(), Error> {
        self.journal.as_ref().map_or(Ok(()), |(_, journal)| journal.sync())
    }

    fn write_unlogged(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.write_rows(ops, false)
    }

    fn written(&self) -> u64 {
        self.disk().map_or(0, |disk| disk.written)
    }

    fn flushed(&self) -> u64 {
        self.disk().map_or(u64::MAX, |disk| disk.flushed)
    }

    /// The flush ends with the next sync.
    fn begin_flush(&self) {
        if let Some(mut disk) = self.disk() {
            let written = disk.written;
            disk.flushing.get_or_insert(written);
        }
    }

    fn flush(&self) -> Result<(), Error> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Error::Full);
        }
        if let Some(mut disk) = self.disk() {
            disk.flushed = disk.written;
            disk.settle();
        }
        Ok(())
    }
}

/// The rows at one instant.
pub struct MemoryView<'a> {
    rows: RwLockReadGuard<'a, Families>,
    journal: Option<&'a Journal<MemoryFiles>>,
    meter: &'a Meter,
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

impl View for MemoryView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row = match (family, self.journal) {
            (Family::Journal, Some(journal)) => journal.get(key)?,
            (Family::Journal, None) => None,
            _ => self.rows[family as usize].get(key).cloned(),
        };
        self.meter.read(family, row.as_ref().map_or(0, Vec::len));
        Ok(row)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        let visit = &mut |key: &[u8], row: &[u8]| {
            self.meter.read(family, row.len());
            visit(key, row)
        };
        if family == Family::Journal {
            return self.journal.map_or(Ok(()), |journal| journal.scan(from, to, visit));
        }
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.rows[family as usize].range::<[u8], _>((Bound::Included(from), end)) {
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

    fn put(family: Family, key: u8) -> Vec<RowOp> {
        vec![RowOp::Put(family, vec![key], vec![key])]
    }

    fn keys(engine: &MemoryEngine, family: Family) -> Vec<u8> {
        (0..9).filter(|key| engine.get(family, &[*key]).expect("memory").is_some()).collect()
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let disk = MemoryEngine::with_disk();
        for key in 0..3 {
            disk.write(put(Family::Raft, key)).expect("memory");
            disk.write(put(Family::Journal, key)).expect("memory");
        }
        let pending = disk.pending();
        for family in [Family::Raft, Family::Journal] {
            disk.write(put(family, 3)).expect("memory");
        }
        disk.synced(&pending);
        for family in [Family::Raft, Family::Journal] {
            assert_eq!(keys(&disk, family), [0, 1, 2, 3]);
            assert_eq!(keys(&disk.after_kill(&mut |_| 0), family), [0, 1, 2, 3]);
            assert_eq!(keys(&disk.after_kill(&mut |_| 0).after_power_cut(&mut |_| 0), family), [0, 1, 2]);
            assert_eq!(keys(&disk.after_power_cut(&mut |_| 0), family), [0, 1, 2]);
            assert_eq!(keys(&disk.after_power_cut(&mut |most| most), family), [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_crash_takes_what_was_neither_logged_nor_flushed() {
        let disk = MemoryEngine::with_disk();
        let family = Family::StrongNow;
        disk.write_unlogged(put(family, 0)).expect("memory");
        disk.flush().expect("memory");
        disk.write_unlogged(put(family, 1)).expect("memory");
        disk.write(put(family, 2)).expect("memory");
        disk.write_unlogged(put(family, 3)).expect("memory");
        assert_eq!(keys(&disk.after_kill(&mut |_| 0), family), [0, 2]);
        assert_eq!(keys(&disk.after_kill(&mut |_| 1), family), [0, 1, 2]);
        assert_eq!(keys(&disk.after_power_cut(&mut |_| 0), family), [0]);
        disk.begin_flush();
        disk.write_unlogged(put(family, 4)).expect("memory");
        assert!(disk.flushed() < disk.written());
        disk.synced(&disk.pending());
        assert_eq!(keys(&disk.after_power_cut(&mut |_| 0), family), [0, 1, 2, 3]);
    }
}
