//! What can go wrong, as the user should read it.

use std::path::PathBuf;

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
