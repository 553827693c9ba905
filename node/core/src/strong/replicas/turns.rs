//! Whose turn it is to do background work: one bounded portion of one replica at a time, in turn, so that
//! messages, ticks and clients never wait for more than that.

use std::collections::BTreeSet;

use starling_strong::group::{GroupId, TIDY_PAUSE_MS};

/// See the module.
#[derive(Default)]
pub struct Turns {
    /// Groups that have work.
    busy: BTreeSet<GroupId>,
    /// The group that had the last turn.
    last: GroupId,
}

impl Turns {
    /// A group has work that can wait this long; whether its turn may have to come earlier than planned.
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

    /// Takes all groups that had work, to look again which still have.
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
