//! Eventual keyspaces: data types, operations on them, outcomes and limits.

pub mod data;
mod error;
mod limits;
mod version;
mod write;

pub use data::*;
pub use error::WriteError;
pub use limits::{KEYSPACE_BYTES_MAX, Limits, check_keyspace};
pub use version::{InvalidVersion, Version};
pub use write::{Batch, Change, Check, Write};
