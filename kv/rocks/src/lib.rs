//! The storage engine of a real node: RocksDB, one database, a column family per family of rows, and a journal in files of
//! its own.
//!
//! Rows of strong keyspaces whose log is in the journal are not written to RocksDB's write-ahead log: it would be a second
//! log of the same. RocksDB flushes all families at once, so after a crash these rows are as of one write, and what follows
//! is applied again from the journal. Large values are written to files of their own, which are not merged.
//!
//! A crate of its own, so that what runs without it (simulations, `testnet`) is built with the same features in
//! every command and does not wait for RocksDB to compile.

mod blobs;
mod files;
mod synced;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, LogLevel,
    ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions,
};

use blobs::BlobGarbage;
use files::DirFiles;
use starling_kv::Error;
use starling_kv::engine::{Engine, Family, RowOp, View, Visitor, journal_ops, no_journal};
use starling_kv::journal::Journal;
pub use starling_kv::journal::LostRecords;
pub use synced::LostWrites;
use synced::Synced;

/// The file with the number of the last write that a sync of the write-ahead log has covered.
const SYNCED: &str = "SYNCED";
/// Values from this size on are written to files of their own. Smaller ones would make these files' index as large as
/// they are themselves (RocksDB's documentation of `BlobDB` advises against values of less than a kibibyte or so).
const LARGE_BYTES: u64 = 16 << 10;
/// Memory of one column family's rows before they are written to a file, at most; it grows with
/// use. A burst of 10,000 small keys stays in memory. With four times as much increments were 13 % faster and all
/// else the same, and a store of a million keys took 58 instead of 34 MB (`cargo bench --workspace
/// --all-features --bench store`).
const WRITE_BUFFER_BYTES: usize = 4 << 20;
/// How long a write waits for flushes and compactions, at most, and the time between two attempts. Guesses.
const STALL_MAX: Duration = Duration::from_secs(5);
const STALL_STEP: Duration = Duration::from_millis(1);
/// The same over all families.
const WRITE_BUFFERS_BYTES: usize = 48 << 20;
/// Memory is taken in pieces of this, so that an empty store is small.
const ARENA_BLOCK_BYTES: usize = 64 << 10;
/// The write-ahead log is cut when it has this many bytes: bounds how long a recovery takes.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// Logs that are written over instead of removed, where logs are: to sync a file that does not grow costs the file system half as
/// much. Two: what is written while the one before is flushed has one too.
const RECYCLED_WALS: usize = 2;
/// Files kept open. A guess; a million small keys are a handful of files.
const OPEN_FILES_MAX: i32 = 256;
/// Bits of bloom filter per row: 1 % false positives (RocksDB's documentation).
const BLOOM_BITS: f64 = 10.0;
/// Share of a write buffer that filters lookups in it. A guess.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;

/// The row that a sync writes after a failed write, in the family "default", which nothing reads.
const PROBE_KEY: &[u8] = b"probe";

/// The options of a RocksDB database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Blocks of files kept in memory, bytes, over all families.
    pub cache_bytes: usize,
    /// Whether write-ahead logs are written over instead of removed: for stores where each write is synced. RocksDB then
    /// logs every write, unlogged ones too.
    pub recycle_logs: bool,
}

impl Default for RocksOptions {
    /// 8 MiB, which an idle node can afford; logs are removed.
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, recycle_logs: false }
    }
}

/// A RocksDB database. Clones are handles of the same one; it closes with the last.
#[derive(Clone)]
pub struct RocksEngine {
    db: Arc<DB>,
    is_read_only: bool,
    /// Why the last write failed, if it did.
    failure: Arc<Mutex<Option<Error>>>,
    /// Why a sync failed that had space. What it covered may be lost even if a later sync succeeds, because the system
    /// may drop pages that it could not write (Rebello et al., USENIX ATC 2020): no later sync is believed.
    sync_failure: Arc<OnceLock<Error>>,
    /// Where syncs are recorded; `None` if the database is opened for reading.
    synced: Option<Arc<Synced>>,
    lost: Option<LostWrites>,
    /// Its files are opened for reading if the database is.
    journal: Option<Journal<DirFiles>>,
    /// See [`RocksOptions::recycle_logs`].
    logs_all: bool,
    numbers: Arc<Numbers>,
    blob_garbage: Arc<BlobGarbage>,
}

/// The numbers of writes.
#[derive(Debug, Default)]
struct Numbers {
    /// RocksDB's number of the last write that has to be in its log.
    logged: AtomicU64,
    /// The last one that a sync of this process has covered.
    synced: AtomicU64,
    /// How many unlogged writes there were.
    written: AtomicU64,
    /// How many of them a flush has covered.
    flushed: AtomicU64,
    is_flushing: AtomicBool,
}

impl RocksEngine {
    /// Opens the database in `path`, or creates it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open, [`Error::Unwritable`], [`Error::Corrupt`],
    /// [`Error::Full`], or [`Error::Storage`] for the rest.
    pub fn open(path: &Path, options: &RocksOptions) -> Result<Self, Error> {
        std::fs::create_dir_all(path)
            .map_err(|error| Error::Unwritable { path: path.to_owned(), reason: error.to_string() })?;
        require_catalogue(path)?;
        let db = DB::open_cf_descriptors(&database_options(*options), path, families(*options));
        let db = db.map_err(|error| open_error(&error, path))?;
        let (synced, recorded) = Synced::open(&path.join(SYNCED))
            .map_err(|error| Error::Unwritable { path: path.to_owned(), reason: error.to_string() })?;
        let found = db.latest_sequence_number();
        let lost = LostWrites::of(recorded, found);
        let journal = Some(Journal::open(DirFiles::new(path))?);
        let logs_all = options.recycle_logs;
        let engine = Self { synced: Some(Arc::new(synced)), lost, journal, logs_all, ..Self::new(db, false) };
        engine.numbers.logged.store(found, Ordering::Relaxed);
        Ok(engine)
    }

    /// The writes that an earlier run had synced, and that this one did not find: a log is damaged. RocksDB drops what
    /// follows the damage in its own. Returned until a sync after a later start.
    pub fn lost_writes(&self) -> Option<LostWrites> {
        self.lost
    }

    /// What was durable in the journal, and is damaged or missing. Returned until a sync after a later start.
    pub fn lost_records(&self) -> Option<LostRecords> {
        self.journal.as_ref().and_then(Journal::lost)
    }

    /// Opens an existing database for reading. Every write fails. The caller makes sure that no other process has
    /// it open: RocksDB does not check that, and concurrent writes may look like damage.
    ///
    /// # Errors
    /// Fails with [`Error::Older`] if it lacks families that this version has, or as [`RocksEngine::open`] does.
    pub fn open_read_only(path: &Path, options: &RocksOptions) -> Result<Self, Error> {
        require_catalogue(path)?;
        let plain = rocksdb::Options::default();
        let there = DB::list_cf(&plain, path).map_err(|error| open_error(&error, path))?;
        if !Family::ALL.iter().all(|family| there.iter().any(|name| name == family.name())) {
            return Err(Error::Older);
        }
        let db = DB::open_cf_descriptors_read_only(&plain, path, families(*options), false);
        let db = db.map_err(|error| open_error(&error, path))?;
        let lost = LostWrites::of(Synced::read(&path.join(SYNCED)), db.latest_sequence_number());
        let journal = Some(Journal::open(DirFiles::read_only(path))?);
        Ok(Self { lost, journal, ..Self::new(db, true) })
    }

    fn new(db: DB, is_read_only: bool) -> Self {
        let (failure, sync_failure) = (Arc::default(), Arc::default());
        let (journal, numbers, blob_garbage) = (None, Arc::default(), Arc::default());
        let (synced, lost, logs_all) = (None, None, false);
        let db = Arc::new(db);
        Self {
            db,
            is_read_only,
            failure,
            sync_failure,
            synced,
            lost,
            journal,
            logs_all,
            numbers,
            blob_garbage,
        }
    }

    /// Makes everything written so far survive a crash of the machine. Called on a thread
    /// that may wait for the disk.
    ///
    /// # Errors
    /// Fails as a write does. After a failed write it returns that write's error until a write succeeds again, and
    /// tries one: RocksDB recovers from a full disk automatically once there is space (it checks every five seconds),
    /// but not from a sync of the broken log. After a sync that failed for another reason every later one fails: the
    /// process has to be restarted.
    pub fn sync(&self) -> Result<(), Error> {
        if let Some(failure) = self.sync_failure.get() {
            return Err(failure.clone());
        }
        // The lock is free again: writers do not wait for the disk.
        let has_failed = self.failure().is_some();
        if has_failed {
            let mut probe = WriteBatch::default();
            probe.put(PROBE_KEY, b"");
            self.write_with(probe, WriteOptions::default())?;
        }
        // What is registered in the database is durable before the journal has rows of it.
        let result = self.sync_wal().and_then(|()| self.journal.as_ref().map_or(Ok(()), Journal::sync));
        if let Err(error) = &result
            && *error != Error::Full
        {
            drop(self.sync_failure.set(error.clone()));
        }
        self.blob_garbage.synced(&self.db, |family| self.family(family));
        result
    }

    fn sync_wal(&self) -> Result<(), Error> {
        let Numbers { logged, synced, .. } = &*self.numbers;
        let logged = logged.load(Ordering::Acquire);
        if self.synced.is_some() && synced.load(Ordering::Relaxed) == logged && logged != 0 {
            return Ok(());
        }
        self.db.flush_wal(true).map_err(|error| run_error(&error))?;
        synced.store(logged, Ordering::Relaxed);
        // Without the record, damage to what this sync covered would not be noticed; nothing else depends on it.
        if let Some(synced) = &self.synced {
            let _ = synced.record(logged);
        }
        Ok(())
    }

    fn write_batch(&self, batch: WriteBatch) -> Result<(), Error> {
        self.write_with(batch, WriteOptions::default())?;
        // One thread writes. The probe of a sync may come between, and is logged too.
        self.numbers.logged.fetch_max(self.db.latest_sequence_number(), Ordering::AcqRel);
        Ok(())
    }

    /// Writes a batch. RocksDB lets a write wait while its buffers are flushed; on a full disk that has no end, so that it
    /// is told not to, and this waits instead.
    #[expect(clippy::disallowed_methods, reason = "it waits for the disk, which no simulation has")]
    fn write_with(&self, batch: WriteBatch, mut options: WriteOptions) -> Result<(), Error> {
        options.set_no_slowdown(true);
        let data = batch.data().to_vec();
        let began = Instant::now();
        let mut result = self.db.write_opt(batch, &options);
        while let Err(error) = &result
            && error.kind() == rocksdb::ErrorKind::Incomplete
        {
            if self.has_no_space() {
                return self.noted(Err(Error::Full));
            }
            if began.elapsed() > STALL_MAX {
                let reason = "the disk does not keep up with the writes".into();
                return self.noted(Err(Error::Storage { reason }));
            }
            std::thread::sleep(STALL_STEP);
            result = self.db.write_opt(WriteBatch::from_data(&data), &options);
        }
        self.noted(result.map_err(|error| run_error(&error)))
    }

    /// Whether the disk has no space for one flush.
    fn has_no_space(&self) -> bool {
        let space = rustix::fs::statvfs(self.db.path());
        space.is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) < WRITE_BUFFER_BYTES as u64)
    }

    /// Notes whether the last write has failed.
    fn noted(&self, result: Result<(), Error>) -> Result<(), Error> {
        *self.failure() = result.as_ref().err().cloned();
        result
    }

    fn batch(&self, ops: Vec<RowOp>) -> WriteBatch {
        let mut batch = WriteBatch::default();
        for op in ops {
            match op {
                RowOp::Put(family, key, value) => batch.put_cf(self.family(family), key, value),
                RowOp::Delete(family, key) => batch.delete_cf(self.family(family), key),
                RowOp::DeleteOnce(family, key) => batch.single_delete_cf(self.family(family), key),
            }
        }
        batch
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self, family: Family) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(family.name()).expect("every family is opened with the database")
    }
}

/// Fails if the directory holds data but not the file CURRENT, which names the catalogue of that data: RocksDB would
/// create an empty database over it. A crash during creation leaves neither.
fn require_catalogue(path: &Path) -> Result<(), Error> {
    let is_data = |name: &Path| name.extension().is_some_and(|kind| kind == "sst" || kind == "log");
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    let has_data = files.into_iter().any(|file| is_data(Path::new(&file.file_name())));
    if has_data && !path.join("CURRENT").exists() {
        let reason = format!(
            "the file CURRENT is missing from {}, where data is; restore it from a backup (it holds the name of the \
             newest file MANIFEST-* and a line feed)",
            path.display()
        );
        return Err(Error::Corrupt { reason });
    }
    Ok(())
}

fn database_options(store: RocksOptions) -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_recycle_log_file_num(if store.recycle_logs { RECYCLED_WALS } else { 0 });
    // Unlogged rows of several families survive a crash together, or not at all.
    options.set_atomic_flush(true);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options
}

fn families(options: RocksOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.cache_bytes);
    let describe =
        |family: &Family| ColumnFamilyDescriptor::new(family.name(), family_options(*family, &cache));
    // RocksDB requires a family "default", which holds at most the row of `PROBE_KEY`. With its default options it would reserve four times
    // the space for the log.
    let mut unused = rocksdb::Options::default();
    unused.set_write_buffer_size(ARENA_BLOCK_BYTES);
    let unused = ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, unused);
    Family::ALL.iter().map(describe).chain([unused]).collect()
}

fn family_options(family: Family, cache: &Cache) -> rocksdb::Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    let mut options = rocksdb::Options::default();
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    if matches!(family, Family::Cells | Family::Dots | Family::StrongNow) {
        // Half of all lookups find nothing: new keys, superseded dots.
        blocks.set_bloom_filter(BLOOM_BITS, false);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    }
    if blobs::FAMILIES.contains(&family) {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(LARGE_BYTES);
        options.set_enable_blob_gc(true);
        options.set_blob_gc_age_cutoff(0.0);
    }
    options.set_block_based_table_factory(&blocks);
    options
}

impl Engine for RocksEngine {
    type View<'a> = RocksView<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if family == Family::Journal {
            return self.journal.as_ref().map_or(Ok(None), |journal| journal.get(key));
        }
        self.db.get_cf(self.family(family), key).map_err(|error| run_error(&error))
    }

    fn view(&self) -> RocksView<'_> {
        RocksView { engine: self, snapshot: self.db.snapshot() }
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        if let Some(ops) = journal_ops(&ops)? {
            return self
                .noted(self.journal.as_ref().map_or(Err(no_journal()), |journal| journal.write(&ops)));
        }
        self.write_batch(self.batch(ops))
    }

    fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    fn sync_journal(&self) -> Result<(), Error> {
        self.journal.as_ref().map_or(Ok(()), Journal::sync)
    }

    fn write_unlogged(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        let mut options = WriteOptions::default();
        options.disable_wal(!self.logs_all);
        self.write_with(self.batch(ops), options)?;
        self.numbers.written.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.numbers.written.load(Ordering::Acquire)
    }

    fn flushed(&self) -> u64 {
        self.numbers.flushed.load(Ordering::Acquire)
    }

    /// On a thread of its own: it takes as long as writing a few write buffers.
    fn begin_flush(&self) {
        if self.numbers.is_flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let engine = self.clone();
        let flush = move || {
            // The caller sees from `flushed` that it failed, and begins another one.
            let _ = engine.flush();
            engine.numbers.is_flushing.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("flush".into()).spawn(flush).is_err() {
            self.numbers.is_flushing.store(false, Ordering::Release);
        }
    }

    fn flush(&self) -> Result<(), Error> {
        let written = self.written();
        if self.flushed() < written {
            // All of them: if some were left out, damage to the log of their rows would lie before rows that are in files,
            // and RocksDB would refuse to open the store instead of losing the rest of the log.
            let unused = self.db.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME);
            let families = Family::ALL.iter().map(|family| self.family(*family)).chain(unused);
            let flushed = self.db.flush_cfs_opt(&families.collect::<Vec<_>>(), &FlushOptions::default());
            flushed.map_err(|error| run_error(&error))?;
            self.numbers.flushed.fetch_max(written, Ordering::AcqRel);
        }
        Ok(())
    }
}

/// A snapshot of a RocksDB database.
pub struct RocksView<'a> {
    engine: &'a RocksEngine,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl View for RocksView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if family == Family::Journal {
            return self.engine.get(family, key);
        }
        self.snapshot.get_cf(self.engine.family(family), key).map_err(|error| run_error(&error))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        if family == Family::Journal {
            return self.engine.journal.as_ref().map_or(Ok(()), |journal| journal.scan(from, to, visit));
        }
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut rows = self.snapshot.raw_iterator_cf_opt(self.engine.family(family), options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| run_error(&error))
    }
}

/// RocksDB's errors are texts; these parts of them are the system's own and stable.
fn open_error(error: &rocksdb::Error, path: &Path) -> Error {
    let text = error.as_ref();
    let path: PathBuf = path.to_owned();
    if ["Permission denied", "Read-only file system", "Not a directory"]
        .iter()
        .any(|part| text.contains(part))
    {
        return Error::Unwritable { path, reason: text.to_owned() };
    }
    if text.contains("lock file") || text.contains("lock hold by") || text.contains("No locks available") {
        return Error::Locked { path };
    }
    if text.contains("beyond the point of corruption") {
        let reason = format!(
            "a write-ahead log in {} is damaged, and data files have writes that came after the damaged ones",
            path.display()
        );
        return Error::Corrupt { reason };
    }
    run_error(error)
}

fn run_error(error: &rocksdb::Error) -> Error {
    let reason = error.as_ref().to_owned();
    if reason.contains("No space left on device") || reason.contains("Disk quota exceeded") {
        return Error::Full;
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corrupt { reason },
        _ => Error::Storage { reason },
    }
}
