//! A watch of a strong keyspace is told what happened to its keys: in order, everything, nothing twice, over
//! all the nodes that it was resumed on.

use starling_history::{Checked, Log};

use crate::strong::Watcher;

/// Every watcher, once it has been told all.
pub fn check(watchers: &[Watcher], log: &Log) -> Checked {
    watchers.iter().enumerate().try_for_each(|(number, watcher)| {
        watcher.told.check(&format!("watcher {number}"), log, |change| watcher.is_watched(change))
    })
}
