//! Writes: the operations that clients send, and their outcomes.

use bytes::Bytes;

use super::Version;

/// One operation on one key (or, for [`Op::DeletePrefix`], on the keys under a prefix).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// 1 to 64 characters of `a-z 0-9 _ . -`.
    pub keyspace: String,
    /// Any bytes, not empty; for [`Op::DeletePrefix`] the prefix, which may be empty.
    pub key: Vec<u8>,
    /// What to do.
    pub op: Op,
    /// Milliseconds from now after which what this operation writes is hidden, later removed.
    /// Operations that only remove ignore it.
    pub ttl_ms: Option<u64>,
    /// Refuses the whole batch unless it holds here. Only for [`Op::Put`] and [`Op::Delete`].
    pub check: Option<Check>,
}

/// What must hold on this replica for a batch to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key holds no register.
    Absent,
    /// The key's register is exactly this set of siblings.
    Version(Version),
}

/// An operation. Which data type it belongs to is in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Register: this value, superseding every sibling seen here.
    Put(Bytes),
    /// The whole key, whatever it holds.
    Delete,
    /// Every key that begins with the write's key.
    DeletePrefix,
    /// Counter: add (or, negative, subtract).
    Incr(i64),
    /// Set: add these elements. An addition wins over a concurrent removal.
    SetAdd(Vec<Bytes>),
    /// Set: remove these elements.
    SetRemove(Vec<Bytes>),
    /// Map: write these fields, each a register of its own.
    MapPut(Vec<(Bytes, Bytes)>),
    /// Map: remove these fields.
    MapDelete(Vec<Bytes>),
    /// Flag: enable or disable. Enabling wins over a concurrent disabling.
    Flag(bool),
}

/// Writes that take effect together or not at all, in order: a later one sees the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The writes.
    pub writes: Vec<Write>,
}

/// What one write of an accepted batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The register is now this version.
    Put {
        /// To be given as [`Check::Version`].
        version: Version,
    },
    /// A key or a prefix was deleted.
    Deleted {
        /// Places (registers, elements, fields, ...) that were removed.
        places: u64,
        /// Places are left ([`super::Limits::delete_places_max`]): write the same again.
        more: bool,
    },
    /// The counter is now this, as far as this replica knows.
    Counter {
        /// Sum over all actors.
        value: i128,
    },
    /// Elements or fields that came into being, or that ceased to be; those that were there already
    /// (or already absent) are not counted, though writing them again takes effect.
    Changed {
        /// How many.
        fields: u64,
    },
    /// The flag is as asked.
    Flag,
}

/// A key whose visible state may have changed. It carries no value: whoever is interested reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The keyspace.
    pub keyspace: String,
    /// The key.
    pub key: Vec<u8>,
}
