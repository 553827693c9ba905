//! One sync of the engine at a time, for everything that replicas wrote before it began.

use std::collections::BTreeMap;

use starling_strong::group::GroupId;

/// See the module. A replica's writes have numbers that grow; a sync confirms all writes up to one.
#[derive(Default)]
pub struct Syncs {
    /// Replicas that wait for the next sync, and for which of their writes.
    waiting: BTreeMap<GroupId, u64>,
    /// Replicas that wait for the sync under way.
    under_way: Option<BTreeMap<GroupId, u64>>,
    /// The number of the latest sync.
    number: u64,
}

impl Syncs {
    /// A replica waits until this write is durable.
    pub fn request(&mut self, group: GroupId, write: u64) {
        self.waiting.insert(group, write);
    }

    /// Ignores a replica's writes up to now, because it was closed or opened again.
    pub fn forget(&mut self, group: &GroupId) {
        self.waiting.remove(group);
        self.under_way.as_mut().map(|waiting| waiting.remove(group));
    }

    /// Begins the next sync, if there is need and none is under way; its number.
    pub fn begin(&mut self) -> Option<u64> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.under_way = Some(std::mem::take(&mut self.waiting));
        self.number += 1;
        Some(self.number)
    }

    /// A sync has ended; the replicas that it confirms, with their writes. Nothing for the sync of an earlier
    /// run.
    pub fn end(&mut self, number: u64) -> BTreeMap<GroupId, u64> {
        if number == self.number { self.under_way.take().unwrap_or_default() } else { BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_during_a_sync_waits_for_the_next_one() {
        let mut syncs = Syncs::default();
        assert_eq!(syncs.begin(), None);
        syncs.request([1; 16], 1);
        syncs.request([2; 16], 5);
        assert_eq!(syncs.begin(), Some(1));
        syncs.request([1; 16], 2);
        assert_eq!(syncs.begin(), None, "one at a time");
        assert_eq!(syncs.end(7), BTreeMap::new());
        syncs.forget(&[2; 16]);
        assert_eq!(syncs.end(1), BTreeMap::from([([1; 16], 1)]));
        assert_eq!(syncs.begin(), Some(2));
        assert_eq!(syncs.end(2), BTreeMap::from([([1; 16], 2)]));
        assert_eq!(syncs.begin(), None);
    }
}
