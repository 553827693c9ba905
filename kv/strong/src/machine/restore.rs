//! Restoration of a snapshot: a new state is built from its chunks, beside the live one.

use std::sync::{Arc, Weak};

use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error};

use super::rows::{Listed, Prefix, Record, changes_parts, past_parts};
use super::snapshot::{CHECKSUM_BYTES, Chunk, Cursor, PARTS};
use super::state::State;
use super::{GroupId, Leftovers, Machine, write_rows};
use crate::codec::Malformed;

/// Why a chunk was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are not the snapshot's next chunk. Nothing was changed, and the right chunk may follow.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The engine failed. The restoration has to begin again.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// What a restoration needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The chunk at this cursor.
    Chunk(Cursor),
    /// Nothing: the state is complete, and [`Machine::install`] makes it the live one.
    Nothing,
}

/// A state under construction, in a generation of rows of its own. If it is dropped, or lost in a crash,
/// [`Machine::maintain`] removes its rows.
pub struct Restore<E> {
    engine: E,
    rows: Prefix,
    generation: u32,
    /// The snapshot's state, from its first chunk.
    state: Option<State>,
    /// The checksum of the last chunk.
    checksum: [u8; CHECKSUM_BYTES],
    /// Part and key of the last row: rows have to be in ascending order.
    last: Option<(u8, Vec<u8>)>,
    /// The key of the last row in `StrongPast`.
    past_key: Option<Vec<u8>>,
    bytes: u64,
    is_complete: bool,
    /// As [`Machine::set_unlogged`].
    is_unlogged: bool,
    alive: Arc<()>,
}

impl<E: Engine> Machine<E> {
    /// Begins to restore a snapshot, while the machine keeps its live state. A restoration that was begun before can
    /// no longer be installed.
    pub fn restore(&mut self) -> Result<Restore<E>, Error> {
        self.check_sound()?;
        let before = self.state.generation_last;
        let Some(generation) = before.checked_add(1) else {
            return Err(Error::Storage { reason: "this replica was restored too often".into() });
        };
        self.state.generation_last = generation;
        let recorded = self.write_rows(vec![self.state_op()]);
        recorded.inspect_err(|_| self.state.generation_last = before)?;
        let alive = Arc::new(());
        self.restoring = Some(Arc::downgrade(&alive));
        self.leftovers = Some(Leftovers::default());
        Ok(Restore {
            is_unlogged: self.is_unlogged,
            ..Restore::new(self.engine.clone(), &self.group, generation, alive)
        })
    }

    /// Makes a complete restored state the live one, in one write together with `with`. Watches continue, and read
    /// the events that they have not returned yet from the new rows. This replica no longer times leases.
    ///
    /// # Errors
    /// Fails with an error of the engine, or with [`Error::Corrupt`] if the snapshot is incomplete, older than the live
    /// state, or not the one that was last begun. Nothing has changed then, unless reading the new state failed: after
    /// that every later call fails.
    pub fn install(&mut self, restore: Restore<E>, with: Vec<RowOp>) -> Result<(), Error> {
        let Restore { alive, .. } = &restore;
        if !self.restoring.as_ref().is_some_and(|own| Weak::ptr_eq(own, &Arc::downgrade(alive))) {
            return Err(Error::Corrupt { reason: "a snapshot was restored for another machine".into() });
        }
        let state = restore.finish()?;
        drop(restore);
        if state.applied < self.state.applied {
            return Err(Error::Corrupt { reason: "a snapshot is older than what it is to replace".into() });
        }
        let mut ops = with;
        ops.push(RowOp::Put(Family::StrongState, self.group.to_vec(), state.encode()));
        self.write_rows(ops)?;
        let before = self.state.revision;
        self.has_failed = true;
        let mut fresh = Self::open(self.engine.clone(), self.group, self.config)?;
        fresh.is_unlogged = self.is_unlogged;
        let before_it = std::mem::replace(self, fresh);
        // Snapshots of the old rows may still be read.
        (self.watches, self.pin) = (before_it.watches, before_it.pin);
        self.watches.resume(before, self.state.revision);
        Ok(())
    }
}

impl<E: Engine> Restore<E> {
    fn new(engine: E, group: &GroupId, generation: u32, alive: Arc<()>) -> Self {
        Self {
            engine,
            rows: Prefix::new(group, generation),
            generation,
            state: None,
            checksum: Cursor::default().after,
            last: None,
            past_key: None,
            bytes: 0,
            is_complete: false,
            is_unlogged: false,
            alive,
        }
    }

    /// Writes the rows of the next chunk.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Next, RestoreError> {
        let (chunk, checksum) = Chunk::decode(bytes)?;
        self.check(&chunk)?;
        let mut writing = Writing { restore: self, ops: Vec::new() };
        let mut part_before = None;
        for (part, suffix, row) in &chunk.rows {
            if part_before.replace(*part) != Some(*part) {
                writing.write()?;
            }
            writing.row(PARTS[usize::from(*part)], suffix, row)?;
        }
        writing.write()?;
        self.checksum = checksum;
        if let Some(state) = chunk.state {
            self.state = Some(state);
        }
        if let Some((part, suffix, _)) = chunk.rows.into_iter().last() {
            self.last = Some((part, suffix));
        }
        self.is_complete = chunk.next.is_none();
        Ok(match chunk.next {
            Some((part, from)) => Next::Chunk(Cursor { part, from, after: checksum }),
            None => Next::Nothing,
        })
    }

    /// Checks that `chunk` is the next one, and that its rows decode.
    fn check(&self, chunk: &Chunk) -> Result<(), Malformed> {
        let malformed = |what| Err(Malformed { what });
        if self.is_complete || chunk.after != self.checksum || chunk.state.is_some() == self.state.is_some() {
            return malformed("snapshot chunk: not the next one");
        }
        let mut last = self.last.as_ref().map(|(part, suffix)| (*part, suffix.as_slice()));
        for (part, suffix, row) in &chunk.rows {
            let at = Some((*part, suffix.as_slice()));
            if at <= last {
                return malformed("snapshot chunk: rows out of order");
            }
            last = at;
            let row_key = [self.rows.bytes(), suffix].concat();
            let is_sound = match PARTS[usize::from(*part)] {
                Family::StrongState => Prefix::is_lease_or_answer(&row_key),
                Family::StrongNow => Record::decode(row).is_ok(),
                Family::StrongPast => {
                    past_parts(&row_key).is_ok() && (row.is_empty() || Record::decode(row).is_ok())
                }
                _ => changes_parts(&row_key).is_ok() && Listed::decode_all(row).is_ok(),
            };
            if !is_sound {
                return malformed("snapshot chunk: a row");
            }
        }
        Ok(())
    }

    /// The restored state, to be written as the live one.
    fn finish(&self) -> Result<State, Error> {
        let state = self.state.as_ref().filter(|_| self.is_complete);
        let state = state.ok_or(Error::Corrupt { reason: "a snapshot is not complete".into() })?;
        Ok(State {
            generation: self.generation,
            generation_last: self.generation,
            bytes: self.bytes,
            diverged: 0,
            ..state.clone()
        })
    }
}

/// The rows of one chunk that are being written.
struct Writing<'r, E> {
    restore: &'r mut Restore<E>,
    ops: Vec<RowOp>,
}

impl<E: Engine> Writing<'_, E> {
    fn write(&mut self) -> Result<(), Error> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let Restore { engine, is_unlogged, .. } = &*self.restore;
        write_rows(engine, *is_unlogged, std::mem::take(&mut self.ops))
    }

    fn row(&mut self, family: Family, suffix: &[u8], row: &[u8]) -> Result<(), Error> {
        let row_key = [self.restore.rows.bytes(), suffix].concat();
        match family {
            Family::StrongState => self.ops.push(RowOp::Put(family, row_key, row.to_vec())),
            Family::StrongNow => self.latest(suffix, row)?,
            Family::StrongPast => self.past(row_key, row)?,
            _ => self.counted(family, row_key, row),
        }
        Ok(())
    }

    fn counted(&mut self, family: Family, row_key: Vec<u8>, row: &[u8]) {
        self.restore.bytes += (row_key.len() + row.len()) as u64;
        self.ops.push(RowOp::Put(family, row_key, row.to_vec()));
    }

    fn latest(&mut self, key: &[u8], row: &[u8]) -> Result<(), Error> {
        let rows = self.restore.rows;
        let lease = Record::decode(row)?.lease;
        if lease != 0 {
            self.ops.push(RowOp::Put(Family::StrongState, rows.lease_key(lease, key), Vec::new()));
        }
        self.counted(Family::StrongNow, rows.now(key), row);
        Ok(())
    }

    /// Adds a superseded record. Of one key's records the newest comes first. If the key has no latest record yet, that
    /// one was the latest at the snapshot's revision, and becomes it again; if it is the latest record, it is a
    /// duplicate.
    fn past(&mut self, row_key: Vec<u8>, row: &[u8]) -> Result<(), Error> {
        let (key, modified) = past_parts(&row_key)?;
        let is_first = self.restore.past_key.as_ref() != Some(&key);
        if is_first {
            let now = self.restore.engine.get(Family::StrongNow, &self.restore.rows.now(&key))?;
            self.restore.past_key = Some(key.clone());
            match now.as_deref().map(Record::decode).transpose()? {
                Some(latest) if latest.modified == modified => return Ok(()),
                None if !row.is_empty() => return self.latest(&key, row),
                _ => {}
            }
        }
        self.counted(Family::StrongPast, row_key, row);
        Ok(())
    }
}
