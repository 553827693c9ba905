//! A lock of a strong keyspace has one holder at a time: no two hold it at once, no lease ends before its time,
//! and every write under the lock carries the token of who held it at that revision.

use starling_history::{Checked, Locker, Log, check_locks};

/// All clients of the lock, and everything that happened.
pub fn check<'l>(lockers: impl IntoIterator<Item = &'l Locker>, log: &Log) -> Checked {
    check_locks(log, lockers)
}
