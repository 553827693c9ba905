//! The storage engine: a small ordered key-value interface, and its implementation in memory. `starling-rocks` has
//! the one on RocksDB.

mod memory;
mod meter;

use std::ops::ControlFlow;

pub use memory::{Draw, MemoryEngine, Pending};
pub use meter::{Cost, Meter};

use crate::Error;
use crate::journal::Op;

/// A family of rows; each has its own order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Place -> the versions there.
    Cells,
    /// Local dot -> the rest of a large body after its head.
    Bodies,
    /// Local dot -> content hash and place, of live entries.
    Dots,
    /// Expiry, local dot -> place, of live entries that expire.
    Ttl,
    /// Format, actors, context, fingerprint checkpoint, identity of the network.
    Meta,
    /// Raft groups: the registry of groups, and logs of groups that are not in [`Family::Journal`]: group -> term and
    /// vote, base, entries.
    Raft,
    /// Strong keyspaces: group, key -> its latest record.
    StrongNow,
    /// Strong keyspaces: group, key, revision (newest first) -> a record that was superseded, or a
    /// deletion.
    StrongPast,
    /// Strong keyspaces: group, revision -> the keys changed there.
    StrongChanges,
    /// Strong keyspaces: group -> its state (the applied index and more), leases, and remembered answers.
    StrongState,
    /// Logs of Raft groups, in a [`crate::journal::Journal`] beside the other families. One write has rows of this family
    /// alone, or none of it. A view shows its latest state.
    Journal,
}

impl Family {
    /// Every family but the journal, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Cells,
        Self::Bodies,
        Self::Dots,
        Self::Ttl,
        Self::Meta,
        Self::Raft,
        Self::StrongNow,
        Self::StrongPast,
        Self::StrongChanges,
        Self::StrongState,
    ];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cells => "cells",
            Self::Bodies => "bodies",
            Self::Dots => "dots",
            Self::Ttl => "ttl",
            Self::Meta => "meta",
            Self::Raft => "raft",
            Self::StrongNow => "strong_now",
            Self::StrongPast => "strong_past",
            Self::StrongChanges => "strong_changes",
            Self::StrongState => "strong_state",
            Self::Journal => "journal",
        }
    }
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOp {
    /// Writes the row.
    Put(Family, Vec<u8>, Vec<u8>),
    /// Removes the row, if it exists.
    Delete(Family, Vec<u8>),
    /// Removes a row that was written exactly once since it last was absent: cheaper to compact.
    DeleteOnce(Family, Vec<u8>),
}

/// The function that a scan calls with each row; it may end the scan.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error> + 'v;

/// A consistent state of all rows at one instant.
pub trait View {
    /// The row under `key`.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Visits rows in order from `from` (inclusive) up to `to` (exclusive; `None`: to the end).
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error>;
}

/// An ordered, transactional key-value store. Clones are handles of the same store.
pub trait Engine: Clone + Send + Sync + 'static {
    /// See [`Engine::view`].
    type View<'a>: View
    where
        Self: 'a;

    /// The latest state of one row.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// The state at this instant. Writing while the same thread holds a view may deadlock.
    fn view(&self) -> Self::View<'_>;

    /// Applies all of `ops` in order and atomically. They survive a crash of the process; for a crash of the machine
    /// the engine has its own means. On an error nothing is applied.
    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error>;

    /// Whether there is a [`Family::Journal`].
    fn has_journal(&self) -> bool {
        false
    }

    /// Makes the rows of the journal survive a crash of the machine. Waits for the disk.
    fn sync_journal(&self) -> Result<(), Error> {
        Ok(())
    }

    /// As [`Engine::write`], but a crash of the process may undo it until it is flushed: for rows that the caller can
    /// make again, from what it has in the journal. What survives are all unlogged writes up to one.
    fn write_unlogged(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.write(ops)
    }

    /// The number of the last unlogged write.
    fn written(&self) -> u64 {
        0
    }

    /// The number of the last unlogged write that survives a crash of the machine, as far as is known.
    fn flushed(&self) -> u64 {
        u64::MAX
    }

    /// Begins to flush all unlogged writes, if no flush is under way. [`Engine::flushed`] shows when it has ended.
    fn begin_flush(&self) {}

    /// Flushes all unlogged writes, and waits for the disk.
    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The error for a write to [`Family::Journal`] of an engine that has none.
pub fn no_journal() -> Error {
    Error::Storage { reason: "this engine has no journal".into() }
}

/// The operations on rows of [`Family::Journal`]; `None` if the write has none.
///
/// # Errors
/// Fails if the write has rows of other families too.
pub fn journal_ops(ops: &[RowOp]) -> Result<Option<Vec<Op<'_>>>, Error> {
    let own: Vec<Op<'_>> = ops
        .iter()
        .filter_map(|op| match op {
            RowOp::Put(Family::Journal, key, row) => Some(Op::Put(key, row)),
            RowOp::Delete(Family::Journal, key) | RowOp::DeleteOnce(Family::Journal, key) => {
                Some(Op::Delete(key))
            }
            _ => None,
        })
        .collect();
    match own.len() {
        0 => Ok(None),
        count if count == ops.len() => Ok(Some(own)),
        _ => Err(Error::Storage { reason: "one write has rows of the journal and others".into() }),
    }
}

/// The least key above every key that begins with `prefix`; `None` if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}
