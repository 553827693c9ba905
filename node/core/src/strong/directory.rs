//! What this node has learned about others: where the groups of keyspaces are, and the addresses of nodes.
//!
//! Both are caches. Locations come from what leaders publish in [`super::LOCATIONS`], so an entry may be stale: a
//! request that follows it is redirected. Only a group's log determines who its members are.

use std::collections::{BTreeMap, BTreeSet};

use starling_proto::{NodeId, NodeRecord};
use starling_strong::group::GroupId;
use starling_strong::members::NodeKey;

use super::message::GroupLocation;

/// Keyspaces whose location is cached, at most; the first in order is evicted. A guess.
const LOCATIONS_MAX: usize = 4096;
/// Nodes whose record is kept, at most; one that shares no group with this node is evicted. A guess.
const RECORDS_MAX: usize = 1024;

/// The known locations of groups and records of nodes.
pub struct Directory {
    me: NodeRecord,
    locations: BTreeMap<String, GroupLocation>,
    /// Names under which several groups were created, on two sides of a partition.
    ambiguous: BTreeSet<String>,
    records: BTreeMap<NodeKey, NodeRecord>,
}

impl Directory {
    /// An empty one, of this node.
    pub fn new(me: NodeRecord) -> Self {
        Self { me, locations: BTreeMap::new(), ambiguous: BTreeSet::new(), records: BTreeMap::new() }
    }

    /// The location of a keyspace's group.
    pub fn location(&self, keyspace: &str) -> Option<&GroupLocation> {
        self.locations.get(keyspace)
    }

    /// Whether several groups were created under this name.
    pub fn is_ambiguous(&self, keyspace: &str) -> bool {
        self.ambiguous.contains(keyspace)
    }

    /// Notes which groups are published under a name, and returns the newest location. Without any the
    /// keyspace was dropped; if this node has a replica, the other members notify it.
    pub fn published(&mut self, keyspace: &str, locations: Vec<GroupLocation>) -> Option<GroupLocation> {
        let groups: BTreeSet<GroupId> = locations.iter().map(|location| location.group).collect();
        if groups.len() > 1 {
            self.ambiguous.insert(keyspace.into());
        } else {
            self.ambiguous.remove(keyspace);
        }
        let newest = locations.into_iter().max_by_key(|location| location.term);
        if newest.is_none() {
            self.forget(keyspace);
        }
        newest
    }

    /// Whether a location is of another group, or of a later term, than the one that is cached.
    pub fn is_news(&self, keyspace: &str, location: &GroupLocation) -> bool {
        self.location(keyspace)
            .is_none_or(|known| known.group != location.group || known.term < location.term)
    }

    /// Caches a location and its members' records, unless a later one of the group is known.
    pub fn remember(
        &mut self,
        keyspace: &str,
        location: GroupLocation,
        needed: impl Fn() -> BTreeSet<NodeKey>,
    ) {
        let known = self.location(keyspace);
        if known.is_some_and(|known| known.group == location.group && known.term > location.term) {
            return;
        }
        if self.locations.len() >= LOCATIONS_MAX && known.is_none() {
            self.locations.pop_first();
        }
        self.learn_all(&location.members, needed);
        self.locations.insert(keyspace.into(), location);
    }

    /// Removes the location of a keyspace.
    pub fn forget(&mut self, keyspace: &str) {
        self.locations.remove(keyspace);
    }

    /// Removes the locations of a group.
    pub fn forget_group(&mut self, group: &GroupId) {
        self.locations.retain(|_, location| location.group != *group);
    }

    /// Keeps a node's record if it is newer. `needed` are the nodes that share a group with this one: their
    /// records are never evicted.
    pub fn learn(&mut self, record: NodeRecord, needed: impl Fn() -> BTreeSet<NodeKey>) {
        let key = record.id.0;
        let is_newer = self.records.get(&key).is_none_or(|known| record.supersedes(known));
        if !is_newer || key == self.me.id.0 {
            return;
        }
        if self.records.len() >= RECORDS_MAX && !self.records.contains_key(&key) {
            let needed = needed();
            let spare = self.records.keys().find(|key| !needed.contains(*key)).copied();
            match spare {
                Some(spare) => self.records.remove(&spare),
                None => return,
            };
        }
        self.records.insert(key, record);
    }

    /// [`Directory::learn`] for several.
    pub fn learn_all(&mut self, records: &[NodeRecord], needed: impl Fn() -> BTreeSet<NodeKey>) {
        for record in records {
            self.learn(record.clone(), &needed);
        }
    }

    /// A node's record, this node's own included.
    pub fn record(&self, node: &NodeKey) -> Option<&NodeRecord> {
        if *node == self.me.id.0 {
            return Some(&self.me);
        }
        let located = || self.locations.values().flat_map(|location| &location.members);
        self.records.get(node).or_else(|| located().find(|record| record.id.0 == *node))
    }

    /// A node's name, or the first digits of its id.
    pub fn name(&self, node: &NodeKey) -> String {
        self.record(node).map_or_else(|| NodeId(*node).short(), |record| record.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use starling_proto::Role;

    use super::*;

    fn record(n: u16) -> NodeRecord {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        NodeRecord { name: format!("n{n}"), ..NodeRecord::new(NodeId(id), 1, Role::Replica) }
    }

    fn location(group: u8, term: u64) -> GroupLocation {
        GroupLocation { group: [group; 16], term, members: vec![record(1)], voters: 1 }
    }

    #[test]
    fn the_latest_term_of_a_group_is_kept() {
        let mut directory = Directory::new(record(0));
        directory.remember("k", location(1, 5), BTreeSet::new);
        directory.remember("k", location(1, 4), BTreeSet::new);
        assert_eq!(directory.location("k").map(|location| location.term), Some(5));
        assert!(!directory.is_news("k", &location(1, 5)) && directory.is_news("k", &location(1, 6)));
        // Another group was created under the name; its terms count from the beginning.
        assert!(directory.is_news("k", &location(2, 1)));
        directory.remember("k", location(2, 1), BTreeSet::new);
        assert_eq!(directory.location("k").map(|location| location.group), Some([2; 16]));
        directory.forget_group(&[2; 16]);
        assert_eq!(directory.location("k"), None);
    }

    #[test]
    fn a_name_is_ambiguous_while_two_groups_are_published() {
        let mut directory = Directory::new(record(0));
        let newest = directory.published("k", vec![location(1, 5), location(2, 7)]);
        assert_eq!(newest.map(|location| location.group), Some([2; 16]));
        assert!(directory.is_ambiguous("k"));
        assert!(directory.published("k", vec![location(1, 5)]).is_some());
        assert!(!directory.is_ambiguous("k"));
    }

    #[test]
    fn records_of_nodes_that_share_a_group_do_not_give_way() {
        let mut directory = Directory::new(record(0));
        let needed = || BTreeSet::from([record(1).id.0]);
        for n in 1..=RECORDS_MAX as u16 + 1 {
            directory.learn(record(n), needed);
        }
        assert_eq!(directory.records.len(), RECORDS_MAX);
        assert_eq!(directory.name(&record(1).id.0), "n1");
        assert_ne!(directory.name(&record(2).id.0), "n2");
    }
}
