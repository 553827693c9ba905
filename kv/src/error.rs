//! What can go wrong, as the user should read it.

use std::path::PathBuf;

use crate::{Kind, Version};

/// The store could not do its work. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process has the database open.
    #[error("{path} is in use by another process: stop it, or choose another data directory", path = path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// The directory cannot be written.
    #[error("cannot write {path}: {reason}: check its owner and mode, or choose another data directory", path = path.display())]
    Unwritable {
        /// The database.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Stored bytes are not what was written.
    #[error(
        "the store is damaged: {reason}: stop the node, move `store` out of its data directory and start again (peers refill it); `starling doctor` says more where the store still opens"
    )]
    Corrupt {
        /// Where, and what was found.
        reason: String,
    },
    /// No space left. Reads go on; writes work again some seconds after there is space for the engine's
    /// largest write buffers.
    #[error("the disk is full: free at least 64 MB, then write again a few seconds later")]
    Full,
    /// The directory was written by a version of Starling that this one does not know.
    #[error("the store has format {found}, this program reads up to {supported}: use a newer starling")]
    Format {
        /// Of the directory.
        found: u32,
        /// The newest known here.
        supported: u32,
    },
    /// The directory belongs to another network.
    #[error(
        "the store belongs to another network: choose another data directory, or delete this one to start anew"
    )]
    OtherNetwork,
    /// The directory was last written by an older version, and is open for reading only.
    #[error(
        "the store was last written by an older starling: start the node once with this one, then look again"
    )]
    Older,
    /// The engine was opened read-only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// Anything else the engine reports.
    #[error("storage failed: {reason}: check the disk and the system's log, then restart the node")]
    Storage {
        /// What it said.
        reason: String,
    },
    /// A peer sent bytes that are not a delta. The peer is at fault, not the store.
    #[error(transparent)]
    Malformed(#[from] MalformedDelta),
}

impl Error {
    /// Damage found at `place`.
    pub(crate) fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into() }
    }
}

/// Bytes from a peer are not a delta; none of it was joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed delta: {reason}")]
pub struct MalformedDelta {
    /// The rule that was broken.
    pub reason: &'static str,
}

/// A batch was refused at the door; none of it took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A key has no bytes.
    #[error("the key is empty: give it at least one byte")]
    KeyEmpty,
    /// A key is too long.
    #[error("the key has {size} bytes, at most {max} are allowed: use a shorter one, or a hash of it")]
    KeyTooLong {
        /// Its bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// A value is too large.
    #[error("the value has {size} bytes, at most {max} are allowed: split it over several keys")]
    ValueTooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// An element or a field's name is too long.
    #[error("an element or field name has {size} bytes, at most {max} are allowed")]
    FieldTooLong {
        /// Its bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The batch is too large.
    #[error("the batch has {size} bytes, at most {max} are allowed: split it")]
    BatchTooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The name of the keyspace is not allowed.
    #[error("{name:?} is no keyspace name: use 1 to 64 characters of a-z 0-9 _ . -")]
    InvalidKeyspace {
        /// It, cut to 64 characters.
        name: String,
    },
    /// The register is not what the writer expected.
    #[error("the key changed: expected {}, found {}: read it again, then decide", shown(*.expected), shown(*.found))]
    VersionMismatch {
        /// Which write of the batch.
        index: usize,
        /// `None`: absent.
        expected: Option<Version>,
        /// What this replica holds.
        found: Option<Version>,
    },
    /// The operation belongs to another data type.
    #[error("{key} holds a {holds}, not a {wanted}: delete it first, or use another key", key = key.escape_ascii())]
    TypeMismatch {
        /// The key.
        key: Vec<u8>,
        /// What it holds.
        holds: Kind,
        /// What the operation needs.
        wanted: Kind,
    },
    /// The sum does not fit.
    #[error("the counter would overflow: delete it to start again")]
    CounterOverflow,
    /// A check stands on an operation that takes none.
    #[error("only put and delete take a version check: leave it out")]
    CheckUnsupported,
}

fn shown(version: Option<Version>) -> String {
    version.map_or_else(|| "no value".into(), |version| version.to_string())
}
