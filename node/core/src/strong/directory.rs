//! What this node has learned about others: where the groups of keyspaces are, and the addresses of nodes.
//!
//! Both are caches. Locations come from what leaders publish in [`super::LOCATIONS`], so an entry may be stale: a
//! request that follows it is redirected. Only a group's log determines who its members are.

use std::collections::{BTreeMap, BTreeSet};

use starling_proto::{NodeId, NodeRecord};
use starling_strong::group::GroupId;
use starling_strong::log::Recoveries;
use starling_strong::members::NodeKey;

use super::message::GroupLocation;
use super::precedence;

/// Keyspaces whose location is cached, at most; the first in order is evicted. A guess.
const LOCATIONS_MAX: usize = 4096;
/// Nodes whose record is kept, at most; one that shares no group with this node is evicted. A guess.
const RECORDS_MAX: usize = 1024;

/// The known locations of groups and records of nodes.
pub struct Directory {
    me: NodeRecord,
    locations: BTreeMap<String, GroupLocation>,
    /// Names under which several groups are published, while this node does not know which of them has the name.
    contests: BTreeMap<String, Contest>,
    /// Names under which several groups are published, and this node knows which of them has the name.
    decided: BTreeSet<String>,
    records: BTreeMap<NodeKey, NodeRecord>,
}

/// A name under which several groups are published, with the one that is to have it.
struct Contest {
    /// The group with precedence; `None`: there is none.
    preferred: Option<GroupLocation>,
    /// Its members that have confirmed that the name is theirs: what is published may be wrong, or outdated.
    confirmed_by: BTreeSet<NodeKey>,
}

/// What is published about a keyspace.
pub enum Published {
    /// Nothing.
    Nothing,
    /// The location of the group that has the name. `is_first_rival`: other groups are published under it too, for the
    /// first time.
    At { location: GroupLocation, is_first_rival: bool },
    /// Several groups, and it is not known which one has the name.
    Contested,
}

impl Directory {
    /// An empty one, of this node.
    pub fn new(me: NodeRecord) -> Self {
        let (contests, decided) = (BTreeMap::new(), BTreeSet::new());
        Self { me, locations: BTreeMap::new(), contests, decided, records: BTreeMap::new() }
    }

    /// The location of a keyspace's group.
    pub fn location(&self, keyspace: &str) -> Option<&GroupLocation> {
        self.locations.get(keyspace)
    }

    /// Whether the location of a group is cached.
    pub fn knows(&self, group: &GroupId) -> bool {
        self.locations.values().any(|location| location.group == *group)
    }

    /// The unsafe recoveries of a group, as its location has them.
    pub fn recoveries(&self, group: &GroupId) -> Option<&Recoveries> {
        let location = self.locations.values().find(|location| location.group == *group)?;
        Some(&location.recoveries)
    }

    /// Whether several groups are published under this name, and this node does not know which of them has it.
    pub fn is_ambiguous(&self, keyspace: &str) -> bool {
        self.contests.contains_key(keyspace)
    }

    /// Notes which groups are published under a name. Without any the keyspace was dropped; if this node has a replica,
    /// the other members notify it. `own` is the group of a replica on this node with this name. `decides`: whether all
    /// nodes of the network decide by precedence which of several groups has the name.
    ///
    /// A node keeps to the group that it uses if that one has precedence. Before it changes to another one, a majority
    /// of that group's voters has to confirm that the name is theirs; see [`Directory::confirm`].
    pub fn published(
        &mut self,
        keyspace: &str,
        locations: Vec<GroupLocation>,
        own: Option<GroupId>,
        decides: bool,
    ) -> Published {
        let published: BTreeSet<GroupId> = locations.iter().map(|location| location.group).collect();
        let all: BTreeSet<GroupId> = published.iter().copied().chain(own).collect();
        let in_use = own.or_else(|| self.location(keyspace).map(|location| location.group));
        // A replica whose group is not published may be of a keyspace that was dropped, and created anew.
        let first = if decides { precedence::first(&all) } else { None };
        #[cfg(planted)]
        let first = if starling_planted::on(starling_planted::Bug::RivalByArrival) {
            in_use.or(first)
        } else {
            first
        };
        let preferred = first.filter(|group| published.contains(group));
        let is_only = published.len() == 1 && (all.len() == 1 || preferred.is_none());
        let has_name = |location: &GroupLocation| is_only || Some(location.group) == preferred;
        let newest = locations.into_iter().filter(has_name).max_by_key(|location| location.term);
        if !published.is_empty() && !is_only && (preferred.is_none() || preferred != in_use) {
            self.contest(keyspace, newest);
            return Published::Contested;
        }
        self.contests.remove(keyspace);
        let is_first_rival = published.len() > 1 && self.decided.insert(keyspace.into());
        if published.len() <= 1 {
            self.decided.remove(keyspace);
        }
        if newest.is_none() {
            self.forget(keyspace);
        }
        newest.map_or(Published::Nothing, |location| Published::At { location, is_first_rival })
    }

    fn contest(&mut self, keyspace: &str, preferred: Option<GroupLocation>) {
        let known = self.contests.remove(keyspace).filter(|contest| {
            contest.preferred.as_ref().map(|it| it.group) == preferred.as_ref().map(|it| it.group)
        });
        let confirmed_by = known.map(|contest| contest.confirmed_by).unwrap_or_default();
        if self.contests.len() >= LOCATIONS_MAX {
            self.contests.pop_first();
        }
        self.contests.insert(keyspace.into(), Contest { preferred, confirmed_by });
    }

    /// All such names.
    pub fn ambiguous(&self) -> impl Iterator<Item = &str> {
        self.contests.keys().map(String::as_str)
    }

    /// The group that has to confirm that this name is its own.
    pub fn unconfirmed(&self, keyspace: &str) -> Option<&GroupLocation> {
        self.contests.get(keyspace)?.preferred.as_ref()
    }

    /// Notes that a node has confirmed that a name is its group's. Returns the group's location once most of its
    /// voters have.
    pub fn confirm(&mut self, keyspace: &str, group: GroupId, from: NodeKey) -> Option<GroupLocation> {
        let Contest { preferred, confirmed_by } = self.contests.get_mut(keyspace)?;
        let location = preferred.as_ref().filter(|location| location.group == group)?;
        if location.members.iter().any(|record| record.id.0 == from) {
            confirmed_by.insert(from);
        }
        (confirmed_by.len() > usize::from(location.voters) / 2).then(|| location.clone())
    }

    /// Ends a contest: the group at this location has the name.
    pub fn decide(&mut self, keyspace: &str) {
        self.contests.remove(keyspace);
        self.decided.insert(keyspace.into());
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
        mut location: GroupLocation,
        needed: impl Fn() -> BTreeSet<NodeKey>,
    ) {
        let known = self.location(keyspace);
        if known.is_some_and(|known| known.group == location.group && known.term > location.term) {
            return;
        }
        // A leader may not have received the location that was published before its own.
        if let Some(known) = known.filter(|known| known.group == location.group) {
            location.recoveries = location.recoveries.later(&known.recoveries).clone();
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
        let (members, recoveries) = (vec![record(1)], Recoveries::default());
        GroupLocation { group: [group; 16], term, members, voters: 1, recoveries }
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

    /// A location on nodes 1 to 3 of a group that three members created at this time.
    fn dated(wall_ms: u64, term: u64) -> GroupLocation {
        let group = precedence::mark([wall_ms as u8; 16], 3, wall_ms);
        let (members, recoveries) = ([1, 2, 3].map(record).to_vec(), Recoveries::default());
        GroupLocation { group, term, members, voters: 3, recoveries }
    }

    /// The group that has the name, after these locations were published.
    fn publish(
        directory: &mut Directory,
        locations: &[GroupLocation],
        own: Option<GroupId>,
        decides: bool,
    ) -> Option<GroupId> {
        match directory.published("k", locations.to_vec(), own, decides) {
            Published::At { location, .. } => {
                directory.remember("k", location.clone(), BTreeSet::new);
                Some(location.group)
            }
            Published::Nothing | Published::Contested => None,
        }
    }

    #[test]
    fn a_name_is_ambiguous_while_two_groups_without_precedence_are_published() {
        let mut directory = Directory::new(record(0));
        let both = [location(1, 5), location(2, 7)];
        assert_eq!(publish(&mut directory, &both, None, true), None);
        assert!(directory.is_ambiguous("k") && directory.unconfirmed("k").is_none());
        assert_eq!(publish(&mut directory, &both[..1], None, true), Some(both[0].group));
        assert!(!directory.is_ambiguous("k"));
        assert_eq!(publish(&mut directory, &both, None, true), None, "although one of them is in use");
        assert_eq!(publish(&mut directory, &[], None, true), None);
        assert!(!directory.is_ambiguous("k") && directory.location("k").is_none());
    }

    #[test]
    fn the_group_with_precedence_is_used_once_most_of_its_voters_have_confirmed_the_name() {
        let (older, younger) = (dated(1, 5), dated(2, 9));
        for first in [&older, &younger] {
            let mut directory = Directory::new(record(0));
            assert_eq!(publish(&mut directory, std::slice::from_ref(first), None, true), Some(first.group));
            let both = [older.clone(), younger.clone()];
            let located = publish(&mut directory, &both, None, true);
            if *first == older {
                assert_eq!(located, Some(older.group), "it was in use before, and stays so");
                continue;
            }
            assert!(located.is_none() && directory.is_ambiguous("k"));
            let mut confirm = |group, node: u16| directory.confirm("k", group, record(node).id.0);
            assert_eq!(confirm(younger.group, 1), None, "it gives way");
            assert_eq!(confirm(older.group, 1), None);
            assert_eq!(confirm(older.group, 1), None, "the same member again");
            assert_eq!(confirm(older.group, 4), None, "not a member");
            assert_eq!(confirm(older.group, 2), Some(older.clone()));
            directory.decide("k");
            directory.remember("k", older.clone(), BTreeSet::new);
            assert_eq!(publish(&mut directory, &both, None, true), Some(older.group));
        }
    }

    #[test]
    fn a_replica_of_a_group_that_is_not_published_gives_way_to_an_older_one_only() {
        let (older, younger) = (dated(1, 5), dated(2, 9));
        let mut directory = Directory::new(record(0));
        let published = std::slice::from_ref(&older);
        assert_eq!(publish(&mut directory, published, Some(younger.group), true), None);
        assert_eq!(directory.unconfirmed("k").map(|it| it.group), Some(older.group));
        // The keyspace was dropped, and created anew, while this node was away.
        let published = std::slice::from_ref(&younger);
        assert_eq!(publish(&mut directory, published, Some(older.group), true), Some(younger.group));
    }

    #[test]
    fn nothing_is_decided_while_there_may_be_nodes_that_decide_otherwise() {
        let mut directory = Directory::new(record(0));
        assert_eq!(publish(&mut directory, &[dated(1, 5), dated(2, 9)], None, false), None);
        assert!(directory.unconfirmed("k").is_none());
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
