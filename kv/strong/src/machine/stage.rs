//! The changes of a batch of entries, before they are written to the engine.

use std::ops::ControlFlow;

use starling_kv::codec::{put_bytes, put_varint};
use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error};

use super::Machine;
use super::room::Room;
use super::rows::{Listed, Record};
use super::source::{Last, Source, Staged, Visited, count};
use super::watch::KeyChange;
use crate::api::{EventKind, Keys, LeaseId, Refusal, Revision};

/// Bytes of changes in one row of `StrongChanges`, about. A guess: those of a small transaction are one row.
const LISTED_BYTES: usize = 64 << 10;

/// A key and its row.
type Row = (Vec<u8>, Vec<u8>);

/// Why a write is not applied.
pub(super) enum Stop {
    /// The write is rejected, and its changes are undone.
    Refused(Refusal),
    /// The engine failed, and the whole batch fails.
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A change of one key by the entry in progress.
struct Change {
    key: Vec<u8>,
    /// The row before the change.
    old: Option<Vec<u8>>,
    /// Whether an earlier entry of the batch has staged that row.
    was_staged: bool,
    superseded: Revision,
    lease_before: LeaseId,
    lease: LeaseId,
    kind: EventKind,
}

/// A batch of entries. If it is dropped without [`Stage::write`], the machine's memory is ahead of its rows, and the
/// machine has failed.
pub(super) struct Stage<'m, E: Engine> {
    pub machine: &'m mut Machine<E>,
    pub now_ms: u64,
    staged: Staged,
    /// The last row read by the entry in progress.
    last: Last,
    /// Rows that all entries have read and written.
    visited: Visited,
    ops: Vec<RowOp>,
    /// The changes of the entry in progress.
    changes: Vec<Change>,
    /// The bytes that the hash of the entry in progress covers.
    folded: Vec<u8>,
}

impl<'m, E: Engine> Stage<'m, E> {
    pub fn new(machine: &'m mut Machine<E>, now_ms: u64) -> Self {
        Self {
            machine,
            now_ms,
            staged: Staged::new(),
            last: Last::default(),
            visited: Visited::default(),
            ops: Vec::new(),
            changes: Vec::new(),
            folded: Vec::new(),
        }
    }

    /// The records as the entry in progress reads them.
    pub fn source(&self) -> Source<'_, E> {
        self.machine.source(&self.staged, &self.last, &self.visited)
    }

    /// Rows that the entries so far have read and written, and their bytes.
    pub fn visited(&self) -> Room {
        self.visited.get()
    }

    /// The revision of the changes of the entry in progress.
    pub fn next_revision(&self) -> Revision {
        self.machine.state.revision + 1
    }

    /// Whether the entry in progress has changed a key.
    pub fn has_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Puts a key; `old` is its current row.
    pub fn put(
        &mut self,
        key: Vec<u8>,
        old: Option<Vec<u8>>,
        value: &[u8],
        lease: LeaseId,
    ) -> Result<(), Stop> {
        self.machine.pops.put(&key);
        let revision = self.next_revision();
        let before = old.as_deref().map(Record::decode).transpose()?;
        let row = Record {
            create: before.map_or(revision, |before| before.create),
            modified: revision,
            version: before.map_or(1, |before| before.version + 1),
            lease,
            value,
        };
        let row = row.encode();
        let (superseded, lease_before) = before.map_or((0, 0), |before| (before.modified, before.lease));
        let was_staged = self.staged.insert(self.machine.rows.now(&key), Some(row)).is_some();
        let kind = EventKind::Put;
        self.changes.push(Change { key, old, was_staged, superseded, lease_before, lease, kind });
        Ok(())
    }

    /// Deletes a key; `old` is its current row.
    pub fn delete(&mut self, key: Vec<u8>, old: Vec<u8>) -> Result<(), Stop> {
        let Record { modified: superseded, lease: lease_before, .. } = Record::decode(&old)?;
        let was_staged = self.staged.insert(self.machine.rows.now(&key), None).is_some();
        let kind = EventKind::Delete;
        self.changes.push(Change {
            key,
            old: Some(old),
            was_staged,
            superseded,
            lease_before,
            lease: 0,
            kind,
        });
        Ok(())
    }

    /// Undoes the changes of the entry in progress.
    pub fn undo(&mut self) {
        while let Some(change) = self.changes.pop() {
            let row_key = self.machine.rows.now(&change.key);
            if change.was_staged {
                self.staged.insert(row_key, change.old);
            } else {
                self.staged.remove(&row_key);
            }
        }
    }

    /// Makes the changes of the entry in progress one revision.
    pub fn keep(&mut self) -> Result<(), Error> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let revision = self.next_revision();
        self.machine.state.revision = revision;
        self.list(revision);
        for change in std::mem::take(&mut self.changes) {
            self.notify_watches(revision, &change)?;
            self.note_fences(revision, &change)?;
            self.attach(&change);
            self.supersede(revision, change);
        }
        Ok(())
    }

    fn list(&mut self, revision: Revision) {
        let mut row = Vec::new();
        let mut sub = 0;
        let mut rows = Vec::with_capacity(1);
        for (number, change) in self.changes.iter().enumerate() {
            if row.len() >= LISTED_BYTES {
                rows.push((sub, std::mem::take(&mut row)));
                sub = number as u32;
            }
            let superseded_bytes = change.old.as_ref().map_or(0, |old| old.len() as u64);
            let Change { kind, superseded, ref key, .. } = *change;
            Listed { kind, superseded, superseded_bytes, key }.encode(&mut row);
        }
        rows.push((sub, row));
        for (sub, row) in rows {
            let row_key = self.machine.rows.changes(revision, sub);
            self.machine.state.bytes += (row_key.len() + row.len()) as u64;
            self.ops.push(RowOp::Put(Family::StrongChanges, row_key, row));
        }
    }

    /// Accounts for the new row, and moves the old one to `StrongPast`.
    fn supersede(&mut self, revision: Revision, change: Change) {
        let rows = self.machine.rows;
        let row_key = rows.now(&change.key);
        let new = self.staged.get(&row_key).and_then(Option::as_deref);
        let bytes = &mut self.machine.state.bytes;
        let size = |row: &[u8]| (row_key.len() + row.len()) as u64;
        *bytes = bytes.saturating_sub(change.old.as_deref().map_or(0, size));
        *bytes += new.map_or(0, size);
        count(&self.visited, change.old.as_deref().map_or(0, <[u8]>::len));
        count(&self.visited, new.map_or(0, <[u8]>::len));
        put_bytes(&mut self.folded, &change.key);
        put_bytes(&mut self.folded, new.unwrap_or_default());
        let mut past = |revision, row: Vec<u8>| {
            let row_key = rows.past(&change.key, revision);
            *bytes += (row_key.len() + row.len()) as u64;
            self.ops.push(RowOp::Put(Family::StrongPast, row_key, row));
        };
        if let Some(old) = change.old {
            past(change.superseded, old);
        }
        if change.kind == EventKind::Delete {
            past(revision, Vec::new());
        }
    }

    fn attach(&mut self, change: &Change) {
        let Change { key, lease, lease_before, .. } = change;
        if lease == lease_before {
            return;
        }
        let rows = self.machine.rows;
        if *lease_before != 0 {
            self.machine.leases.detach(*lease_before, key);
            self.ops.push(RowOp::Delete(Family::StrongState, rows.lease_key(*lease_before, key)));
        }
        if *lease != 0 {
            self.machine.leases.attach(*lease, key);
            self.ops.push(RowOp::Put(Family::StrongState, rows.lease_key(*lease, key), Vec::new()));
        }
    }

    fn note_fences(&mut self, revision: Revision, change: &Change) -> Result<(), Error> {
        let fences = &mut self.machine.fences;
        match (&change.old, change.kind) {
            (None, EventKind::Put) => fences.created(&change.key, revision),
            (Some(old), EventKind::Delete) => fences.deleted(&change.key, Record::decode(old)?.create),
            _ => {}
        }
        Ok(())
    }

    fn notify_watches(&mut self, revision: Revision, change: &Change) -> Result<(), Error> {
        if self.machine.watches.is_empty() {
            return Ok(());
        }
        let row_key = self.machine.rows.now(&change.key);
        let new = self.staged.get(&row_key).and_then(Option::as_deref);
        let key_change = KeyChange { revision, key: &change.key, new, old: change.old.as_deref() };
        self.machine.watches.notify(&key_change)
    }

    /// Writes a row of a lease or a remembered answer, and folds it into the hash.
    pub fn put_state(&mut self, row_key: Vec<u8>, row: Vec<u8>) {
        put_bytes(&mut self.folded, &row_key[super::rows::PREFIX_BYTES..]);
        put_bytes(&mut self.folded, &row);
        self.ops.push(RowOp::Put(Family::StrongState, row_key, row));
    }

    /// Removes a row of a lease or a remembered answer, and folds its key into the hash.
    pub fn delete_state(&mut self, row_key: Vec<u8>) {
        put_bytes(&mut self.folded, &row_key[super::rows::PREFIX_BYTES..]);
        self.ops.push(RowOp::Delete(Family::StrongState, row_key));
    }

    /// Folds a number that is in no row of the entry into the hash.
    pub fn fold(&mut self, number: u64) {
        put_varint(&mut self.folded, number);
    }

    /// A row of `StrongState`, with the changes of this batch.
    pub fn state_row(&self, row_key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let staged = self.ops.iter().rev().find_map(|op| match op {
            RowOp::Put(Family::StrongState, key, row) if key == row_key => Some(Some(row.clone())),
            RowOp::Delete(Family::StrongState, key) if key == row_key => Some(None),
            _ => None,
        });
        match staged {
            Some(staged) => Ok(staged),
            None => self.machine.engine.get(Family::StrongState, row_key),
        }
    }

    /// Ends an entry: updates the applied index and the hash.
    pub fn end(&mut self, index: u64) {
        self.last.take();
        let state = &mut self.machine.state;
        state.applied = index;
        if !self.folded.is_empty() {
            self.folded.extend_from_slice(&state.hash);
            state.hash = *blake3::hash(&self.folded).as_bytes();
            self.folded.clear();
        }
        self.machine.hashes.push(index, state.hash);
    }

    /// Writes the changes of all ended entries in one write of the engine.
    pub fn write(&mut self) -> Result<(), Error> {
        self.last.take();
        let mut ops = std::mem::take(&mut self.ops);
        for (row_key, row) in std::mem::take(&mut self.staged) {
            self.machine.hot.put(&row_key, row.as_deref());
            ops.push(match row {
                Some(row) => RowOp::Put(Family::StrongNow, row_key, row),
                None => RowOp::Delete(Family::StrongNow, row_key),
            });
        }
        ops.push(self.machine.state_op());
        ops.append(&mut self.machine.beside);
        self.machine.write_rows(ops)
    }

    /// The latest rows of a range; `None` if there are more than `max`.
    pub fn rows(&self, keys: &Keys, max: usize) -> Result<Option<Vec<Row>>, Error> {
        let mut rows = Vec::new();
        let mut is_over = false;
        self.source().scan(keys, &mut |key, row| {
            is_over = rows.len() == max;
            if is_over {
                return Ok(ControlFlow::Break(()));
            }
            rows.push((key.to_vec(), row.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((!is_over).then_some(rows))
    }
}
