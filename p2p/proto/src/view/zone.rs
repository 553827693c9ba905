//! Zones: nodes in one probably fail together, or are cut off together. So the views keep peers of other zones.

use std::collections::BTreeMap;

use super::Views;
use crate::NodeRecord;
use crate::labels::Zone;

/// How many of `records` are in each zone. Records without a zone are not counted.
pub(super) fn count<'a>(records: impl Iterator<Item = &'a NodeRecord>) -> BTreeMap<Zone<'a>, usize> {
    let mut counts = BTreeMap::new();
    for zone in records.filter_map(|record| record.labels.zone()) {
        *counts.entry(zone).or_default() += 1;
    }
    counts
}

impl Views {
    /// Whether a peer is in another zone than this node. A node without a zone is in none, and in no other one.
    pub(super) fn is_elsewhere(&self, record: &NodeRecord) -> bool {
        let (own, other) = (self.me.labels.zone(), record.labels.zone());
        own.is_some() && other.is_some() && own != other
    }

    /// How many neighbours are in other zones.
    pub(super) fn elsewhere(&self) -> usize {
        self.active.values().filter(|peer| self.is_elsewhere(peer)).count()
    }
}
