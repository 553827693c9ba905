//! Groups that were dropped, kept on disk. A member that was away meanwhile, or whose group's creation failed,
//! is notified when it sends a message of the group, and removes its replica too.

use std::collections::BTreeMap;

use starling_kv::{Engine, Error};
use starling_strong::group::GroupId;
use starling_strong::registry;

/// Groups, at most; the one that was dropped first is evicted. A guess: years of them.
const DROPPED_MAX: usize = 1024;

/// The groups that were dropped. Each has a number, in the order in which they were dropped.
pub struct Dropped(BTreeMap<GroupId, u64>);

impl Dropped {
    /// The groups on the disk.
    pub fn load<E: Engine>(engine: &E) -> Result<Self, Error> {
        registry::dropped(engine).map(Self)
    }

    /// Whether this group was dropped.
    pub fn contains(&self, group: &GroupId) -> bool {
        self.0.contains_key(group)
    }

    /// Records that this group was dropped.
    pub fn add<E: Engine>(&mut self, engine: &E, group: GroupId) -> Result<(), Error> {
        if self.contains(&group) {
            return Ok(());
        }
        let first = self.0.iter().min_by_key(|(_, number)| **number).map(|(group, _)| *group);
        let forgotten = first.filter(|_| self.0.len() >= DROPPED_MAX);
        let number = self.0.values().max().map_or(0, |number| number + 1);
        registry::note_dropped(engine, &group, number, forgotten.as_ref())?;
        forgotten.map(|group| self.0.remove(&group));
        self.0.insert(group, number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use starling_kv::MemoryEngine;

    use super::*;

    #[test]
    fn the_last_ones_are_kept_on_disk_too() {
        let engine = MemoryEngine::new();
        let mut dropped = Dropped::load(&engine).expect("memory");
        let group = |n: usize| (n as u128 + 1).to_be_bytes().map(|byte| byte ^ 0x80);
        for n in 0..=DROPPED_MAX {
            dropped.add(&engine, group(n)).expect("memory");
            dropped.add(&engine, group(n)).expect("memory");
        }
        for dropped in [dropped, Dropped::load(&engine).expect("memory")] {
            assert_eq!(dropped.0.len(), DROPPED_MAX);
            assert!(!dropped.contains(&group(0)) && dropped.contains(&group(1)));
        }
    }
}
