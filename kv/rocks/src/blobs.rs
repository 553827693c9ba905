//! When the space of large values that were replaced is given back.
//!
//! RocksDB writes large values to blob files, of which compactions only move the references. A blob file is removed once
//! nothing refers to it; to get rid of one that still has a few live values, compactions copy these to a new file. RocksDB
//! does that in every compaction for the oldest quarter of the files, however little of them is garbage: since the
//! references of a family are a few megabytes, each compaction touches all, and a store of any size is written again and
//! again. So copying is off until half of the files is garbage, and goes on until it is little. Copying then writes no more
//! than has become garbage, and the files take twice the space of their live values, about.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rocksdb::{ColumnFamily, DB};
use starling_kv::engine::Family;

/// The families with large values in blob files.
pub const FAMILIES: [Family; 2] = [Family::StrongNow, Family::StrongPast];
/// Bytes of blob files from which on garbage counts: a few write buffers. A guess.
const BYTES_MIN: u64 = 64 << 20;
/// Copying begins when garbage is more than this share of the files, and ends when it is less than the other, per cent.
const BEGIN_PERCENT: u64 = 50;
const END_PERCENT: u64 = 30;
/// Syncs between two looks at the figures: together they cover at most a few write buffers of large values. A guess.
const SYNCS: u64 = 256;
/// The options that switch copying: the share of the files, the oldest ones, that compactions copy from, and the share of
/// garbage in these from which on RocksDB compacts for that alone.
const AGE: &str = "blob_garbage_collection_age_cutoff";
const FORCE: &str = "blob_garbage_collection_force_threshold";

/// Whether compactions copy, for each of [`FAMILIES`].
#[derive(Debug, Default)]
pub struct BlobGarbage {
    syncs: AtomicU64,
    is_copying: [AtomicBool; FAMILIES.len()],
}

impl BlobGarbage {
    /// Counts a sync, and begins or ends copying. A failure is tried again later.
    pub fn synced<'d>(&self, db: &'d DB, family: impl Fn(Family) -> &'d ColumnFamily) {
        if !self.syncs.fetch_add(1, Ordering::Relaxed).is_multiple_of(SYNCS) {
            return;
        }
        for (of, is_copying) in FAMILIES.into_iter().zip(&self.is_copying) {
            let family = family(of);
            let figure = |name: &str| db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
            let (bytes, garbage) =
                (figure("rocksdb.live-blob-file-size"), figure("rocksdb.live-blob-file-garbage-size"));
            let was_copying = is_copying.load(Ordering::Relaxed);
            let percent = if was_copying { END_PERCENT } else { BEGIN_PERCENT };
            let copies = bytes >= BYTES_MIN && garbage.saturating_mul(100) >= bytes.saturating_mul(percent);
            let options =
                if copies { [(AGE, "0.25"), (FORCE, "0.3")] } else { [(AGE, "0.0"), (FORCE, "1.0")] };
            if copies != was_copying && db.set_options_cf(family, &options).is_ok() {
                is_copying.store(copies, Ordering::Relaxed);
            }
        }
    }
}
