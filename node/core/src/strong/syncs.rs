//! One sync of the engine at a time, for everything that replicas wrote before it began.

use std::collections::BTreeMap;

use starling_strong::group::GroupId;

/// The writes that wait for a sync. A replica's writes have numbers that grow; a sync confirms all writes up to one.
#[derive(Default)]
pub struct Syncs {
    /// Replicas that wait for the next sync, each with its last write.
    waiting: BTreeMap<GroupId, u64>,
    /// Replicas that wait for the sync under way.
    under_way: Option<BTreeMap<GroupId, u64>>,
    /// The number of the latest sync.
    number: u64,
}

impl Syncs {
    /// Lets a replica wait until this write is durable.
    pub fn request(&mut self, group: GroupId, write: u64) {
        self.waiting.insert(group, write);
    }

    /// Ignores a replica's writes up to now, because it was closed or opened again.
    pub fn forget(&mut self, group: &GroupId) {
        self.waiting.remove(group);
        self.under_way.as_mut().map(|waiting| waiting.remove(group));
    }

    /// Begins the next sync, if one is needed and none is under way. Returns its number.
    pub fn begin(&mut self) -> Option<u64> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.under_way = Some(std::mem::take(&mut self.waiting));
        self.number += 1;
        Some(self.number)
    }

    /// Ends a sync. Returns the replicas that it confirms, with their writes; none for a sync of an earlier run.
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
