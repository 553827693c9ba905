//! Between etcd's messages and the vocabulary of strong keyspaces. What has no meaning in one of them
//! is refused here, so that inside there is nothing left to check.

mod answer;
mod ask;

pub use answer::{events, found, key_value, prev, txn_answer, unexpected};
pub use ask::{delete, is_read, is_serializable, put, range, txn, watch_keys};

/// A number of ours as etcd's signed ones; none of ours comes near the bound.
pub fn wire(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of etcd's as one of ours; etcd takes a negative one for none.
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
