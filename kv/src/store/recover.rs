//! Opening of a store, and the fingerprint checkpoint that makes it quick.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::index::Index;
use super::recent::Recent;
use super::{Options, Store};
use crate::cell::DotRow;
use crate::codec::Input;
use crate::delta::read_spans;
use crate::dot::LocalDot;
use crate::engine::{Family, RowOp, View, prefix_end};
use crate::fingerprint::Buckets;
use crate::hlc::Clock;
use crate::{ActorId, Engine, Error, Reader, Stats};

/// The format of the rows that this version writes.
pub(crate) const FORMAT: u32 = 1;

pub(crate) const FORMAT_KEY: &[u8] = b"format";
const NETWORK_KEY: &[u8] = b"network";
pub(crate) const EQUIVOCATIONS_KEY: &[u8] = b"equivocations";
/// Present while the rows under `BUCKETS_PREFIX` match the data. The first write removes it.
pub(crate) const CHECKPOINT_KEY: &[u8] = b"checkpoint";
pub(crate) const ACTOR_PREFIX: &[u8] = b"actor/";
pub(crate) const CONTEXT_PREFIX: &[u8] = b"context/";
pub(crate) const BUCKETS_PREFIX: &[u8] = b"buckets/";

/// Rows counted by one step of a rebuild: about 10 ms at the 3.4 million rows per second that a full
/// scan was measured at, with the sums on top.
const REBUILD_ROWS: usize = 20_000;

/// Least time between two checkpoints of an idle store, milliseconds. A guess: the checkpoint of a million
/// entries has 300 kB.
const CHECKPOINT_INTERVAL_MS: u64 = 60_000;
/// Rows that one step of a checkpoint writes, at most: some 3 ms of work, as measured by the benchmark `growth`.
const CHECKPOINT_ROWS: usize = 10_000;

pub(crate) fn numbered_key(prefix: &[u8], number: u32) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

pub(super) fn actor_key(number: u32) -> Vec<u8> {
    numbered_key(ACTOR_PREFIX, number)
}

pub(super) fn context_key(number: u32) -> Vec<u8> {
    numbered_key(CONTEXT_PREFIX, number)
}

/// Visits the rows under a prefix of [`Family::Meta`] that end in an actor's number.
pub(crate) fn numbered_rows(
    view: &impl View,
    prefix: &[u8],
    visit: &mut dyn FnMut(u32, &[u8]) -> Option<()>,
) -> Result<(), Error> {
    view.scan(Family::Meta, prefix, prefix_end(prefix).as_deref(), &mut |key, row| {
        let number = key[prefix.len()..].try_into().ok().map(u32::from_be_bytes);
        number
            .and_then(|number| visit(number, row))
            .map(ControlFlow::Continue)
            .ok_or_else(|| Error::corrupt(format!("row {} cannot be read", key.escape_ascii())))
    })
}

impl<E: Engine> Store<E> {
    /// Opens the store in `engine`, or creates an empty one. Fingerprints come from the
    /// checkpoint, or are rebuilt by [`Store::maintain`]; reads and writes need not wait for that.
    /// `seed` seeds the ids of actors: it must never repeat on any machine of the network.
    ///
    /// # Errors
    /// Fails on a newer format, another network, rows that cannot be read, or an error of the engine.
    pub fn open(engine: E, options: Options, seed: [u8; 32]) -> Result<Self, Error> {
        let view = engine.view();
        let ops = prepare(&view, &options)?;
        let (mut index, equivocations, checkpointed) = load(&view)?;
        drop(view);
        if !ops.is_empty() {
            engine.write(ops)?;
        }
        if !checkpointed {
            index.begin_rebuild();
        }
        Ok(Self {
            engine,
            options,
            index,
            clock: Clock::default(),
            rng: ChaCha12Rng::from_seed(seed),
            own: None,
            stats: Stats { equivocations, ..Stats::default() },
            checkpointed,
            checkpointed_ms: 0,
            writes_seen: 0,
            expired_from: None,
            next_expiry_ms: None,
            recent: Recent::default(),
            totals: Arc::default(),
            summaries: AtomicU64::new(0),
        })
    }

    /// Background work: a portion of a counter that readers wait for, one step of a fingerprint rebuild, or, when nothing
    /// was written since the last call, a step of a checkpoint. Returns whether there is more to do at once; otherwise a call once a
    /// second is enough.
    pub fn maintain(&mut self, wall_ms: u64) -> Result<bool, Error> {
        if self.count_wanted(wall_ms)? {
            return Ok(true);
        }
        if let Some(from) = self.index.rebuilt_to() {
            self.rebuild_step(from)?;
            return Ok(true);
        }
        let writes = self.stats.commits + self.stats.joins + self.stats.expired;
        let is_idle = writes == std::mem::replace(&mut self.writes_seen, writes);
        let is_due = wall_ms.abs_diff(self.checkpointed_ms) >= CHECKPOINT_INTERVAL_MS;
        if !is_idle || self.checkpointed || !is_due {
            return Ok(false);
        }
        self.checkpoint_step()?;
        if self.checkpointed {
            self.checkpointed_ms = wall_ms;
        }
        Ok(!self.checkpointed)
    }

    /// Writes the fingerprint checkpoint, so that the next open need not rebuild. Does nothing while
    /// they are being rebuilt, or when the last one is still valid. Called before a clean end.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        while !self.checkpointed && !self.index.is_rebuilding() {
            self.checkpoint_step()?;
        }
        Ok(())
    }

    /// Writes the rows of some of the actors that have changed since theirs were written. The last step makes the
    /// checkpoint valid.
    fn checkpoint_step(&mut self) -> Result<(), Error> {
        let numbers = self.index.unsaved(CHECKPOINT_ROWS);
        let row = |&number: &u32| {
            let (key, buckets) = (numbered_key(BUCKETS_PREFIX, number), &self.index.actor(number).buckets);
            match buckets {
                Buckets::Empty => RowOp::Delete(Family::Meta, key),
                buckets => RowOp::Put(Family::Meta, key, buckets.encode()),
            }
        };
        let mut ops: Vec<RowOp> = numbers.iter().map(row).collect();
        let is_last = numbers.len() < CHECKPOINT_ROWS;
        if is_last {
            ops.push(RowOp::Put(Family::Meta, CHECKPOINT_KEY.to_vec(), Vec::new()));
        }
        self.engine.write(ops)?;
        self.index.set_saved(&numbers);
        self.checkpointed = is_last;
        Ok(())
    }

    /// Counts some rows from `from` on. Writes between two steps are exact: those below the step's
    /// end are counted as they happen, the others when it reaches them.
    fn rebuild_step(&mut self, from: LocalDot) -> Result<(), Error> {
        let mut rows = 0;
        let mut next = None;
        let index = &mut self.index;
        self.engine.view().scan(Family::Dots, &from.row_key(), None, &mut |key, row| {
            let dot = LocalDot::from_row_key(key)
                .filter(|dot| dot.actor < index.len())
                .ok_or_else(|| Error::corrupt("the row of a dot has a wrong key"))?;
            if rows == REBUILD_ROWS {
                next = Some(dot);
                return Ok(ControlFlow::Break(()));
            }
            rows += 1;
            index.count(dot, DotRow::decode(row)?.hash);
            Ok(ControlFlow::Continue(()))
        })?;
        self.index.advance_rebuild(next);
        Ok(())
    }
}

/// Checks format and network; returns the rows that a new store has to write.
fn prepare(view: &impl View, options: &Options) -> Result<Vec<RowOp>, Error> {
    let mut ops = Vec::new();
    match view.get(Family::Meta, FORMAT_KEY)?.map(|row| row.try_into().map(u32::from_be_bytes)) {
        None => ops.push(RowOp::Put(Family::Meta, FORMAT_KEY.to_vec(), FORMAT.to_be_bytes().to_vec())),
        Some(Ok(FORMAT)) => {}
        Some(Ok(found)) => return Err(Error::Format { found, supported: FORMAT }),
        Some(Err(_)) => return Err(Error::corrupt("the row of the format cannot be read")),
    }
    if let Some(wanted) = options.network {
        match view.get(Family::Meta, NETWORK_KEY)? {
            None => ops.push(RowOp::Put(Family::Meta, NETWORK_KEY.to_vec(), wanted.to_vec())),
            Some(found) if found == wanted => {}
            Some(_) => return Err(Error::OtherNetwork),
        }
    }
    Ok(ops)
}

impl<E: Engine> Reader<E> {
    /// A reader of a store that nothing writes, for checks.
    ///
    /// # Errors
    /// Fails with an error of the engine, or if the rows of actors are damaged.
    pub fn open(engine: E) -> Result<Self, Error> {
        let (index, ..) = load(&engine.view())?;
        Ok(Self::new(engine, Arc::clone(index.table()), Arc::default()))
    }
}

/// Reads actors, contexts and, if it is valid, the checkpoint (then the last result is `true`).
fn load(view: &impl View) -> Result<(Index, u64, bool), Error> {
    let mut ids = Vec::new();
    numbered_rows(view, ACTOR_PREFIX, &mut |number, row| {
        ids.push(ActorId(row.try_into().ok().filter(|_| number as usize == ids.len())?));
        Some(())
    })?;
    ids.shrink_to_fit();
    let mut index = Index::new(ids).ok_or_else(|| Error::corrupt("an actor has two numbers"))?;
    numbered_rows(view, CONTEXT_PREFIX, &mut |number, row| {
        #[cfg(planted)]
        if number == 0 && starling_planted::on(starling_planted::Bug::ContextLostOnRestart) {
            return Some(());
        }
        let mut input = Input::new(row);
        let seen = read_spans(&mut input).filter(|_| input.is_empty() && number < index.len())?;
        index.set_seen(number, seen);
        Some(())
    })?;
    let checkpointed = view.get(Family::Meta, CHECKPOINT_KEY)?.is_some();
    numbered_rows(view, BUCKETS_PREFIX, &mut |number, row| {
        if number >= index.len() {
            return None;
        }
        if checkpointed {
            index.set_buckets(number, Buckets::decode(row)?);
        } else {
            index.set_unsaved(number);
        }
        Some(())
    })?;
    let equivocations = view.get(Family::Meta, EQUIVOCATIONS_KEY)?;
    let equivocations = equivocations.and_then(|row| row.try_into().ok()).map_or(0, u64::from_be_bytes);
    Ok((index, equivocations, checkpointed))
}
