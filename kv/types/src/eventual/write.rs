//! Writes: an operation on a key, and groups of them.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "json")]
use serde::{Deserialize, Serialize};
#[cfg(feature = "json")]
use utoipa::ToSchema;

use super::{InvalidVersion, Op, Version};
#[cfg(feature = "json")]
use crate::{Blob, json};

/// One operation on one key (or, for [`Op::DeletePrefix`], on the keys under a prefix).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), schema(as = WriteRequest))]
pub struct Write {
    /// The keyspace, 1 to 64 characters of `a-z 0-9 _ . -`; "default" if absent.
    #[cfg_attr(feature = "json", serde(default = "default_keyspace"))]
    pub keyspace: String,
    /// Any bytes, not empty; for [`Op::DeletePrefix`] the prefix, which may be empty.
    #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
    pub key: Vec<u8>,
    /// What to do with it.
    #[cfg_attr(feature = "json", serde(flatten))]
    pub op: Op,
    /// How long what is written lives, milliseconds; for ever if absent. Operations that only remove ignore it.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub ttl_ms: Option<u64>,
    /// Write only if the key holds exactly this version; "none": only if it holds nothing. Otherwise the whole
    /// batch is refused. Only for [`Op::Put`] and [`Op::Delete`]. "concurrent": write beside whatever the key holds,
    /// of any type, as if this node had not seen it. Only for operations that add.
    #[cfg_attr(
        feature = "json",
        serde(rename = "if_version", default, skip_serializing_if = "Option::is_none")
    )]
    #[cfg_attr(feature = "json", schema(value_type = Option<String>))]
    pub check: Option<Check>,
}

#[cfg(feature = "json")]
fn default_keyspace() -> String {
    crate::DEFAULT_KEYSPACE.into()
}

impl Write {
    /// An unconditional write that does not expire.
    pub fn new(keyspace: impl Into<String>, key: impl Into<Vec<u8>>, op: Op) -> Self {
        Self { keyspace: keyspace.into(), key: key.into(), op, ttl_ms: None, check: None }
    }

    /// The bytes of the key, and of the values and field names.
    pub fn payload_bytes(&self) -> usize {
        self.key.len() + self.op.payload_bytes()
    }
}

/// What must hold on this replica for a batch to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "json", serde(into = "String", try_from = "String"))]
pub enum Check {
    /// The key holds no register.
    Absent,
    /// The key's register is exactly this set of siblings.
    Version(Version),
    /// Always accepted, whatever the type of what the key holds; a value is written beside those there, and supersedes
    /// none. So an import restores concurrent values.
    Concurrent,
}

/// The text of [`Check::Absent`].
const ABSENT: &str = "none";
/// The text of [`Check::Concurrent`].
const CONCURRENT: &str = "concurrent";

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str(ABSENT),
            Self::Version(version) => version.fmt(f),
            Self::Concurrent => f.write_str(CONCURRENT),
        }
    }
}

impl FromStr for Check {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        match text {
            ABSENT => Ok(Self::Absent),
            CONCURRENT => Ok(Self::Concurrent),
            version => version.parse().map(Self::Version),
        }
    }
}

impl From<Check> for String {
    fn from(check: Check) -> Self {
        check.to_string()
    }
}

impl TryFrom<String> for Check {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

/// Writes that take effect together or not at all, in order: a later one sees the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), schema(as = BatchRequest))]
pub struct Batch {
    /// The writes, in order.
    #[cfg_attr(feature = "json", serde(rename = "ops"))]
    pub writes: Vec<Write>,
}

impl Batch {
    /// The bytes of the keys, and of the values and field names.
    pub fn payload_bytes(&self) -> usize {
        self.writes.iter().map(Write::payload_bytes).sum()
    }
}

/// A key whose visible state may have changed. It carries no value: a subscriber reads the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The keyspace.
    pub keyspace: String,
    /// The key.
    pub key: Vec<u8>,
}
