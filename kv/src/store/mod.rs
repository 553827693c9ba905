//! The store: one writer over an engine.

mod commit;
mod expire;
mod groups;
mod index;
mod join;
mod recent;
mod recover;
mod restrict;
mod totals;
mod transaction;
mod tree;
mod validate;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha12Rng;

pub use commit::RUMOR_BYTES;
pub(crate) use commit::{Session, Stop};
pub use expire::{EXPIRY_GRACE_MS, EXPIRY_STEP_MS, Expired};
pub use join::Joined;
pub(crate) use recover::{
    ACTOR_PREFIX, BUCKETS_PREFIX, CHECKPOINT_KEY, CONTEXT_PREFIX, EQUIVOCATIONS_KEY, FORMAT, FORMAT_KEY,
    numbered_rows,
};
pub use restrict::{Part, deaths};
pub use validate::check as check_batch;

use crate::hlc::Clock;
use crate::{
    ActorId, Batch, Change, Dot, DotRange, Engine, Error, Limits, Outcome, Reader, Stats, WriteError,
};
use index::Index;
use recent::Recent;
pub(crate) use totals::{FIELDS_READ_MAX, Totals};

/// The options of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bounds on what clients write here.
    pub limits: Limits,
    /// Timestamps of other replicas further ahead of the wall clock than this do not move the local
    /// clock. The default is a guess at how wrong a clock may be before an operator should correct it.
    pub clock_ahead_ms_max: u64,
    /// The network of the data, which is recorded at the first open and compared at every later one; neither if `None`.
    pub network: Option<[u8; 16]>,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), clock_ahead_ms_max: 60_000, network: None }
    }
}

/// The result of a group commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One per batch that was begun, in order: an outcome per write, or why the whole batch was refused.
    pub results: Vec<Result<Vec<Outcome>, WriteError>>,
    /// The batches that were not begun, in order: those before them changed enough places for one commit, or the first
    /// increments a counter with so many fields that they are counted in several.
    pub rest: Vec<Batch>,
    /// Deltas for the other replicas, each with the dots it minted.
    pub rumors: Vec<(DotRange, Bytes)>,
    /// Keys whose visible state may have changed, in order, each once.
    pub changes: Vec<Change>,
}

/// This process as an origin of writes.
#[derive(Clone, Copy, Debug)]
struct Own {
    id: ActorId,
    number: u32,
    /// Sequence number of the next dot.
    next: u64,
}

/// The one writer of a replica. Reads go through [`Store::reader`].
pub struct Store<E> {
    engine: E,
    options: Options,
    index: Index,
    clock: Clock,
    rng: ChaCha12Rng,
    /// This run's actor; `None` until the first write after open.
    own: Option<Own>,
    /// Counters only; [`Store::stats`] adds the rest.
    stats: Stats,
    /// Whether the engine has a fingerprint checkpoint that matches the data.
    checkpointed: bool,
    /// Wall time of the last checkpoint that [`Store::maintain`] wrote.
    checkpointed_ms: u64,
    /// `stats.commits + stats.joins` at the last call of [`Store::maintain`].
    writes_seen: u64,
    /// The key in [`crate::engine::Family::Ttl`] that [`Store::expired`] continues from; `None` before its first call.
    expired_from: Option<Vec<u8>>,
    /// No entry that [`Store::expired`] has still to report expires before this, wall-clock milliseconds.
    next_expiry_ms: Option<u64>,
    recent: Recent,
    /// Shared with readers.
    totals: Arc<Mutex<Totals>>,
    /// See [`Stats::summaries`].
    summaries: AtomicU64,
}

impl<E: Engine> Store<E> {
    /// A reader; cloning it is cheap.
    pub fn reader(&self) -> Reader<E> {
        Reader::new(self.engine.clone(), Arc::clone(self.index.table()), Arc::clone(&self.totals))
    }

    /// The actor under which this store writes; `None` before its first write.
    pub fn own_actor(&self) -> Option<ActorId> {
        self.own.map(|own| own.id)
    }

    /// The last dot that this run created; `None` before its first write.
    pub fn minted(&self) -> Option<Dot> {
        self.own.map(|own| Dot { actor: own.id, seq: own.next - 1 })
    }

    /// All statistics.
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.index.entries(),
            actors: u64::from(self.index.len()),
            intervals: self.index.intervals(),
            rebuilding: self.index.is_rebuilding(),
            summaries: self.summaries.load(Ordering::Relaxed),
            ..self.stats
        }
    }

    /// Checks the whole store; see [`crate::check`]. Reads every row: on a large store
    /// [`Reader::doctor`] does it without blocking the writer.
    pub fn doctor(&self) -> Result<crate::Report, Error> {
        crate::check::doctor(&self.engine, self.root())
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, id: ActorId) -> Option<u32> {
        self.index.number(id)
    }

    /// Draws the actor of a new run, which is fresh, so that no dot is ever created twice. Two copies of one
    /// machine's memory draw the same random numbers, so the instant is a part of it.
    fn draw_actor(&mut self, wall_ms: u64) -> ActorId {
        let mut id = [0; 16];
        loop {
            self.rng.fill_bytes(&mut id);
            for (byte, clock) in id.iter_mut().zip(wall_ms.to_le_bytes()) {
                *byte ^= clock;
            }
            if self.number(ActorId(id)).is_none() {
                break;
            }
        }
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::ActorReused) {
            use crate::engine::{Family, RowOp};
            match self.engine.get(Family::Meta, b"planted") {
                Ok(Some(former)) => id.copy_from_slice(&former),
                _ => {
                    drop(self.engine.write(vec![RowOp::Put(Family::Meta, b"planted".to_vec(), id.to_vec())]))
                }
            }
        }
        ActorId(id)
    }
}

#[cfg(test)]
mod tests;
