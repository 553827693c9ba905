//! Drops of keyspaces whose voters could not be reached. The node that was asked for the drop repeats it until all members
//! that it knows have removed their replicas: the leader that they elect when they are back has to append the entry that
//! ends the group (`starling_strong::group`). Marks of dropped groups outlive the process; this list does not, and begins
//! again when the location of such a group is published.

use std::collections::{BTreeMap, BTreeSet};

use starling_strong::group::GroupId;
use starling_strong::members::NodeKey;

/// Groups, at most; beyond it the first in order is forgotten until it is published again. A guess: operators drop them.
const DROPS_MAX: usize = 64;
/// Time before the first repetition, milliseconds; doubled each time up to the last. Guesses: an election, and what costs
/// nothing.
const REPEAT_MS: u64 = 5_000;
const REPEAT_MS_MAX: u64 = 300_000;

struct Drop {
    /// Members that have not said that they know of it.
    nodes: BTreeSet<NodeKey>,
    due_ms: u64,
    wait_ms: u64,
}

/// The drops that are repeated.
#[derive(Default)]
pub struct Drops(BTreeMap<GroupId, Drop>);

impl Drops {
    /// Adds a group with its members, which are asked at once.
    pub fn add(&mut self, now_ms: u64, group: GroupId, nodes: impl IntoIterator<Item = NodeKey>) {
        if self.0.len() >= DROPS_MAX && !self.0.contains_key(&group) {
            self.0.pop_first();
        }
        let nodes = nodes.into_iter().collect();
        self.0.insert(group, Drop { nodes, due_ms: now_ms, wait_ms: REPEAT_MS });
    }

    /// Records that a node knows that a group was dropped, and has no replica of it.
    pub fn confirm(&mut self, group: &GroupId, node: &NodeKey) {
        if let Some(drop) = self.0.get_mut(group) {
            drop.nodes.remove(node);
            if drop.nodes.is_empty() {
                self.0.remove(group);
            }
        }
    }

    /// The members to be asked now, with their groups.
    pub fn due(&mut self, now_ms: u64) -> Vec<(GroupId, NodeKey)> {
        let mut due = Vec::new();
        for (group, drop) in self.0.iter_mut().filter(|(_, drop)| now_ms >= drop.due_ms) {
            due.extend(drop.nodes.iter().map(|node| (*group, *node)));
            drop.due_ms = now_ms + drop.wait_ms;
            drop.wait_ms = (2 * drop.wait_ms).min(REPEAT_MS_MAX);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_asked_ever_less_often_until_they_know() {
        let mut drops = Drops::default();
        drops.add(0, [1; 16], [[1; 32], [2; 32]]);
        assert_eq!(drops.due(0).len(), 2);
        assert!(drops.due(REPEAT_MS - 1).is_empty());
        drops.confirm(&[1; 16], &[1; 32]);
        assert_eq!(drops.due(REPEAT_MS), [([1; 16], [2; 32])]);
        assert!(drops.due(2 * REPEAT_MS).is_empty());
        assert_eq!(drops.due(3 * REPEAT_MS).len(), 1);
        drops.confirm(&[1; 16], &[2; 32]);
        assert!(drops.0.is_empty());
        for n in 0..=DROPS_MAX as u8 {
            drops.add(0, [n; 16], [[1; 32]]);
        }
        assert_eq!(drops.0.len(), DROPS_MAX);
    }
}
