//! A disk that loses unsynced writes, tears the write under way, and sometimes fails.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use starling_kv::engine::{Draw, Family, Meter, Pending, RowOp, View, Visitor};
use starling_kv::journal::Files;
use starling_kv::{Engine, Error, MemoryEngine};

/// Rows in memory, and the writes since the last sync. Clones share both.
#[derive(Clone)]
pub struct Disk {
    rows: MemoryEngine,
    /// Reads and writes that still succeed before all further ones fail.
    works_for: Arc<Mutex<Option<u64>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    pub fn new() -> Self {
        Self::of(MemoryEngine::with_disk())
    }

    fn of(rows: MemoryEngine) -> Self {
        Self { rows, works_for: Arc::default() }
    }

    /// Counts the rows that are read and written.
    pub fn meter(&self) -> &Meter {
        self.rows.meter()
    }

    /// What a sync that begins now covers.
    pub fn pending(&self) -> Pending {
        self.rows.pending()
    }

    /// A sync ends.
    pub fn synced(&self, pending: &Pending) {
        self.rows.synced(pending);
    }

    /// The disk after a crash of the process.
    pub fn after_kill(&self, draw: &mut Draw<'_>) -> Self {
        Self::of(self.rows.after_kill(draw))
    }

    /// The disk after a power cut: of what was not synced, a part is left.
    pub fn after_power_cut(&self, draw: &mut Draw<'_>) -> Self {
        Self::of(self.rows.after_power_cut(draw))
    }

    /// Flips a bit of a row of the log. Returns whether there is one.
    pub fn damage(&self, number: u64) -> bool {
        let files = self.rows.files().expect("there is a journal");
        let numbers = files.list().expect("memory");
        let Some(last) = numbers.last() else { return false };
        let size = files.size(*last).expect("memory");
        files.flip(*last, number % size.max(1));
        size > 0
    }

    /// Whether records of the log were durable and are not there.
    pub fn has_lost_records(&self) -> bool {
        self.rows.lost_records().is_some()
    }

    /// Fails all reads and writes after this many more, until [`Disk::repair`].
    pub fn break_after(&self, operations: u64) {
        *lock(&self.works_for) = Some(operations);
    }

    pub fn repair(&self) {
        *lock(&self.works_for) = None;
    }

    /// Bytes of the rows that a machine accounts for, whatever is broken.
    pub fn strong_bytes(&self) -> u64 {
        let mut bytes = 0;
        for family in [Family::StrongNow, Family::StrongPast, Family::StrongChanges] {
            let mut count = |key: &[u8], row: &[u8]| {
                bytes += (key.len() + row.len()) as u64;
                Ok(ControlFlow::Continue(()))
            };
            self.rows.view().scan(family, &[], None, &mut count).expect("memory");
        }
        bytes
    }

    /// Counts the writes of a key, whose row ends in it, wrong from now on.
    pub fn corrupt(&self, key: &[u8]) {
        let mut rows = Vec::new();
        let mut find = |row_key: &[u8], row: &[u8]| {
            if row_key.ends_with(key) {
                rows.push((row_key.to_vec(), row.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        };
        self.rows.view().scan(Family::StrongNow, &[], None, &mut find).expect("memory");
        let (row_key, mut row) = rows.pop().expect("the key is there");
        // The value's last byte.
        if let Some(last) = row.last_mut() {
            *last ^= 1;
        }
        self.rows.write(vec![RowOp::Put(Family::StrongNow, row_key, row)]).expect("memory");
    }

    fn operate(&self) -> Result<(), Error> {
        match &mut *lock(&self.works_for) {
            None => Ok(()),
            Some(0) => Err(Error::Storage { reason: "the disk is broken".into() }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// Rows at one instant, on a disk that may fail.
pub struct DiskView<'a> {
    rows: <MemoryEngine as Engine>::View<'a>,
    disk: &'a Disk,
}

impl View for DiskView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.disk.operate()?;
        self.rows.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        self.disk.operate()?;
        self.rows.scan(family, from, to, visit)
    }
}

impl Engine for Disk {
    type View<'a> = DiskView<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.operate()?;
        self.rows.get(family, key)
    }

    fn view(&self) -> Self::View<'_> {
        DiskView { rows: self.rows.view(), disk: self }
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.operate()?;
        self.rows.write(ops)
    }

    fn has_journal(&self) -> bool {
        self.rows.has_journal()
    }

    fn sync_journal(&self) -> Result<(), Error> {
        self.operate()?;
        self.rows.sync_journal()
    }

    fn write_unlogged(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.operate()?;
        self.rows.write_unlogged(ops)
    }

    fn written(&self) -> u64 {
        self.rows.written()
    }

    fn flushed(&self) -> u64 {
        self.rows.flushed()
    }

    fn begin_flush(&self) {
        self.rows.begin_flush();
    }

    fn flush(&self) -> Result<(), Error> {
        self.operate()?;
        self.rows.flush()
    }
}
