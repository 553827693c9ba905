//! A watch of a strong keyspace is told what happened to its keys: in order, everything, nothing twice, over
//! all the nodes that it was resumed on.

use starling_history::{Checked, Log};

use crate::strong::Watcher;

/// Every watcher; up to revision `all` they were waited for.
pub fn check(watchers: &[Watcher], log: &Log, all: u64) -> Checked {
    watchers.iter().enumerate().try_for_each(|(number, watcher)| {
        watcher.told.check(&format!("watcher {number}"), log, all, |change| watcher.is_watched(change))
    })
}
