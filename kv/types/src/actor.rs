//! Actors: the origins of writes.

use std::cmp::Ordering;
use std::fmt;
use std::ops::RangeInclusive;

use bincode::{Decode, Encode};

/// One run of one process as the origin of writes: random, 128 bits, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ActorId(pub [u8; 16]);

impl Ord for ActorId {
    /// The order of the bytes, compared as one number.
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for ActorId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Actors whose ids begin with the same bytes. Two replicas compare many actors group by group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ActorGroup {
    /// Every actor.
    All,
    /// Those whose ids begin with this byte.
    First(u8),
    /// Those whose ids begin with these two bytes.
    FirstTwo(u8, u8),
}

impl ActorGroup {
    /// The ids of the group.
    pub fn ids(self) -> RangeInclusive<ActorId> {
        let ids = |prefix: &[u8]| {
            let (mut first, mut last) = ([0; 16], [u8::MAX; 16]);
            first[..prefix.len()].copy_from_slice(prefix);
            last[..prefix.len()].copy_from_slice(prefix);
            ActorId(first)..=ActorId(last)
        };
        match self {
            Self::All => ids(&[]),
            Self::First(a) => ids(&[a]),
            Self::FirstTwo(a, b) => ids(&[a, b]),
        }
    }

    /// The part of the group whose ids have this byte next; `None` if groups are not divided further.
    pub fn part(self, byte: u8) -> Option<Self> {
        match self {
            Self::All => Some(Self::First(byte)),
            Self::First(a) => Some(Self::FirstTwo(a, byte)),
            Self::FirstTwo(..) => None,
        }
    }

    /// The part of the group that has this id; `None` if groups are not divided further.
    pub fn part_of(self, id: ActorId) -> Option<Self> {
        match self {
            Self::All => self.part(id.0[0]),
            Self::First(_) => self.part(id.0[1]),
            Self::FirstTwo(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_ids_of_its_parts() {
        for group in [ActorGroup::All, ActorGroup::First(7), ActorGroup::First(255)] {
            let parts: Vec<_> = (0..=255).filter_map(|byte| group.part(byte)).collect();
            let ends = (parts[0].ids().start().0, parts[255].ids().end().0);
            assert_eq!(ends, (group.ids().start().0, group.ids().end().0));
            for pair in parts.windows(2) {
                let next = u128::from_be_bytes(pair[0].ids().end().0) + 1;
                assert_eq!(u128::from_be_bytes(pair[1].ids().start().0), next);
            }
            assert!(parts.iter().all(|part| group.part_of(*part.ids().end()) == Some(*part)));
        }
        assert_eq!(ActorGroup::FirstTwo(1, 2).part(3), None);
    }
}
