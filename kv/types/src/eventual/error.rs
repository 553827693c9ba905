//! Why a write is refused, as the user reads it.

use super::{Kind, Version};

/// Why a batch was rejected by validation; none of it took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A key has no bytes.
    #[error("the key is empty")]
    KeyEmpty,
    /// A key is too long.
    #[error("the key has {size} bytes, at most {max} are allowed")]
    KeyTooLong {
        /// Its bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// A value is too large.
    #[error("the value has {size} bytes, at most {max} are allowed")]
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
    #[error("the batch has {size} bytes, at most {max} are allowed")]
    BatchTooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The name of the keyspace is not allowed.
    #[error("{name:?} is no keyspace name")]
    InvalidKeyspace {
        /// It, cut to 64 characters.
        name: String,
    },
    /// The register is not what the writer expected.
    #[error("the key changed: expected {}, found {}", shown(*.expected), shown(*.found))]
    VersionMismatch {
        /// Which write of the batch.
        index: usize,
        /// `None`: absent.
        expected: Option<Version>,
        /// What this replica holds.
        found: Option<Version>,
    },
    /// The operation belongs to another data type.
    #[error("{key} holds a {holds}, not a {wanted}", key = key.escape_ascii())]
    TypeMismatch {
        /// The key.
        key: Vec<u8>,
        /// What it holds.
        holds: Kind,
        /// What the operation needs.
        wanted: Kind,
    },
    /// The sum does not fit.
    #[error("the counter would overflow")]
    CounterOverflow,
    /// A check stands on an operation that takes none.
    #[error("only put and delete take a version check")]
    CheckUnsupported,
}

impl WriteError {
    /// What to do next, one line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::KeyEmpty => "give it at least one byte",
            Self::KeyTooLong { .. } | Self::FieldTooLong { .. } => "use a shorter one, or a hash of it",
            Self::ValueTooLarge { .. } => "split it over several keys",
            Self::BatchTooLarge { .. } => "split it",
            Self::InvalidKeyspace { .. } => "use 1 to 64 characters of a-z 0-9 _ . -",
            Self::VersionMismatch { .. } => "read it again, then decide",
            Self::TypeMismatch { .. } => "delete it first, or use another key",
            Self::CounterOverflow => "delete it to start again",
            Self::CheckUnsupported => "leave it out",
        }
    }
}

fn shown(version: Option<Version>) -> String {
    version.map_or_else(|| "no value".into(), |version| version.to_string())
}
