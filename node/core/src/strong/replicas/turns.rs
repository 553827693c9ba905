//! The order of background work: one bounded portion of one replica at a time, in turn, so that messages, ticks and
//! clients wait for at most one portion.

use std::collections::BTreeSet;

use starling_strong::group::{GroupId, TIDY_PAUSE_MS};

/// The groups with background work.
#[derive(Default)]
pub struct Turns {
    /// Groups that have work.
    busy: BTreeSet<GroupId>,
    /// The group that had the last turn.
    last: GroupId,
}

impl Turns {
    /// Adds a group whose work can wait for `pause_ms`. Returns whether the next turn may be due earlier than planned.
    pub fn add(&mut self, group: GroupId, pause_ms: u64) -> bool {
        self.busy.insert(group) || pause_ms < TIDY_PAUSE_MS
    }

    /// The group whose turn it is.
    pub fn next(&mut self) -> Option<GroupId> {
        let after = |group: &&GroupId| **group > self.last;
        let next = self.busy.iter().find(after).or_else(|| self.busy.first()).copied()?;
        self.last = next;
        Some(next)
    }

    /// Removes and returns all groups, to check which still have work.
    pub fn take(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_its_turn() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(), None);
        for n in [3, 1, 2] {
            assert!(turns.add([n; 16], TIDY_PAUSE_MS));
        }
        assert!(!turns.add([1; 16], TIDY_PAUSE_MS) && turns.add([1; 16], 0));
        let order: Vec<u8> = (0..4).filter_map(|_| turns.next()).map(|group| group[0]).collect();
        assert_eq!(order, [1, 2, 3, 1]);
    }
}
