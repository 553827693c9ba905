//! The storage engine: a small ordered key-value interface, and its implementation in memory. `starling-rocks` has
//! the one on RocksDB.

mod memory;

use std::ops::ControlFlow;

pub use memory::MemoryEngine;

use crate::Error;

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
    /// Logs of Raft groups: group -> term and vote, base, entries.
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
}

impl Family {
    /// Every family, in the order of their discriminants.
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
}

/// The least key above every key that begins with `prefix`; `None` if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}
