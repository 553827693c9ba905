//! Conversion between etcd's messages and the types of strong keyspaces. What has no equivalent is rejected here, so
//! that the services have nothing left to check.

mod answer;
mod ask;

pub use answer::{events, found, key_value, prev, txn_answer, unexpected};
pub use ask::{delete, is_serializable, put, range, txn, watch_keys};

/// A number of Starling as one of etcd's, which are signed; numbers of Starling are far below the bound.
pub fn wire(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of etcd as one of Starling; a negative one means none, as in etcd.
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
