//! Writes, and what comes of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Blob, Count, DEFAULT_KEYSPACE, Field};

/// Several writes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchRequest {
    /// The writes, in order.
    pub ops: Vec<WriteRequest>,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteRequest {
    /// The keyspace; "default" if absent.
    #[serde(default = "default_keyspace")]
    pub keyspace: String,
    /// The key.
    pub key: Blob,
    /// What to do with it.
    #[serde(flatten)]
    pub operation: Operation,
    /// How long what is written lives, milliseconds; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Write only if the key holds exactly this version; "none": only if it holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<String>,
}

fn default_keyspace() -> String {
    DEFAULT_KEYSPACE.into()
}

impl WriteRequest {
    /// An unconditional write that does not expire.
    pub fn new(keyspace: impl Into<String>, key: impl Into<Blob>, operation: Operation) -> Self {
        Self { keyspace: keyspace.into(), key: key.into(), operation, ttl_ms: None, if_version: None }
    }
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// Set a register.
    Put {
        /// The value.
        value: Blob,
    },
    /// Delete the whole key, whatever it holds.
    Delete,
    /// Delete every key that begins with `key`.
    DeletePrefix,
    /// Add to a counter.
    Incr {
        /// How much; may be negative.
        by: i64,
    },
    /// Add members to a set.
    SetAdd {
        /// The members.
        members: Vec<Blob>,
    },
    /// Remove members from a set.
    SetRemove {
        /// The members.
        members: Vec<Blob>,
    },
    /// Set fields of a map.
    MapPut {
        /// The fields.
        fields: Vec<Field>,
    },
    /// Delete fields of a map.
    MapDelete {
        /// Their names.
        names: Vec<Blob>,
    },
    /// Turn a flag on or off. Of concurrent changes, "on" wins.
    Flag {
        /// On or off.
        enabled: bool,
    },
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchResponse {
    /// One for each write, in order.
    pub results: Vec<WriteResult>,
}

/// What came of one write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum WriteResult {
    /// A register was set.
    Put {
        /// Its version now.
        version: String,
    },
    /// Something was deleted.
    Deleted {
        /// How many values, members and fields; 0 if there was nothing.
        places: u64,
        /// More are left than one write may delete: send it again.
        #[serde(default)]
        more: bool,
    },
    /// A counter was changed.
    Counter {
        /// Its sum now, on this node.
        value: Count,
    },
    /// A set or a map was changed.
    Changed {
        /// How many members or fields are new or gone.
        fields: u64,
    },
    /// A flag was set.
    Flag,
}

/// Body of an increment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Increment {
    /// How much; may be negative.
    pub by: i64,
}

/// Members to add to a set or to remove from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// To add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Blob>,
    /// To remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Blob>,
}

/// Fields of a map to set or to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MapUpdate {
    /// To set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put: Vec<Field>,
    /// To delete, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<Blob>,
}
