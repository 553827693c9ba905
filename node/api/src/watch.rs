//! Events of watches of eventual keyspaces.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Blob, Entry};

/// An event of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WatchEvent {
    /// The watch has begun: every change from here on is reported.
    Ready,
    /// The key changed and holds this now. Changes in quick succession may be reported as one.
    Put(Entry),
    /// The key is gone.
    Delete {
        /// The keyspace.
        keyspace: String,
        /// The key.
        key: Blob,
    },
    /// The reader fell behind, and changes were left out. This is the last event: list again, then watch again.
    Lagged {
        /// What to do next.
        hint: String,
    },
}

impl WatchEvent {
    /// The name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Put(_) => "put",
            Self::Delete { .. } => "delete",
            Self::Lagged { .. } => "lagged",
        }
    }
}
