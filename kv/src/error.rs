//! The errors of the store, with hints for the user.

use std::path::PathBuf;

/// Why an operation of the store failed. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process has the database open.
    #[error("{path} is in use by another process", path = path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// The directory cannot be written.
    #[error("cannot write {path}: {reason}", path = path.display())]
    Unwritable {
        /// The database.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// Stored bytes are not what was written.
    #[error("the store is damaged: {reason}")]
    Corrupt {
        /// Where, and what was found.
        reason: String,
    },
    /// No space is left. Reads continue; writes work again some seconds after there is space for the engine's
    /// largest write buffers.
    #[error("the disk is full")]
    Full,
    /// The directory was written by a version of Starling that this one does not know.
    #[error("the store has format {found}, this program reads up to {supported}")]
    Format {
        /// The directory's format version.
        found: u32,
        /// The newest version that this program reads.
        supported: u32,
    },
    /// The directory belongs to another network.
    #[error("the store belongs to another network")]
    OtherNetwork,
    /// The directory was last written by an older version, and is open for reading only.
    #[error("the store was last written by an older starling")]
    Older,
    /// The engine was opened read-only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// Anything else the engine reports.
    #[error("storage failed: {reason}")]
    Storage {
        /// The engine's error.
        reason: String,
    },
    /// A peer sent bytes that are not a delta. The peer is at fault, not the store.
    #[error(transparent)]
    Malformed(#[from] MalformedDelta),
}

impl Error {
    /// What to do next, one line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "stop it, or choose another data directory",
            Self::Unwritable { .. } => "check its owner and mode, or choose another data directory",
            Self::Corrupt { .. } => {
                "stop the node, move `store` out of its data directory and start again: peers refill eventual \
                 keyspaces, and its voters of strong ones are replaced by `starling keyspace voters remove` and `add`; \
                 `starling doctor` says more where the store still opens"
            }
            Self::Full => "free at least 64 MB, then write again a few seconds later",
            Self::Format { .. } => "use a newer starling",
            Self::OtherNetwork => {
                "join with a ticket of the store's network, or choose another data directory"
            }
            Self::Older => "start the node once with this one, then look again",
            Self::Storage { .. } => "check the disk and the system's log, then restart the node",
            Self::ReadOnly | Self::Malformed(_) => {
                "`starling doctor` checks the store, `starling status` shows the node"
            }
        }
    }

    /// An error for damaged rows.
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
