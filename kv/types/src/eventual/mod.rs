//! Eventual keyspaces: data types, operations on them, outcomes and limits.

mod error;
mod kind;
mod limits;
mod version;
mod write;

pub use error::WriteError;
pub use kind::Kind;
pub use limits::{KEYSPACE_BYTES_MAX, Limits, check_keyspace};
pub use version::{InvalidVersion, Version};
pub use write::{Batch, Change, Check, Op, Outcome, Write};
