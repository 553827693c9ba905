//! Sums over groups of actors, kept with every change, so that two replicas find the actors that differ without visiting
//! all of them.

use starling_types::ActorGroup;

use crate::ActorId;

/// Actors up to which there are no sums: they are as quickly visited.
const FIRST_ABOVE: usize = 64;
/// Actors above which there are sums by two bytes: at 40 bytes each they take no more than the actors.
const FIRST_TWO_ABOVE: usize = 65_536;

/// What is summed over a group. Each sum is a part of that in the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(8))]
pub(super) struct GroupSum {
    /// Actors of which something has been seen.
    pub actors: u64,
    /// Wrapping sum of their context hashes; 0 without actors.
    pub context: u128,
    /// Wrapping sum of the hashes of their live entries.
    pub live: u128,
}

impl GroupSum {
    /// Adds another group.
    pub fn merge(&mut self, other: Self) {
        self.actors = self.actors.wrapping_add(other.actors);
        self.context = self.context.wrapping_add(other.context);
        self.live = self.live.wrapping_add(other.live);
    }

    /// Removes another group, or makes the change from it to this one.
    pub fn subtract(&mut self, other: Self) {
        self.actors = self.actors.wrapping_sub(other.actors);
        self.context = self.context.wrapping_sub(other.context);
        self.live = self.live.wrapping_sub(other.live);
    }

    /// A short hash of the sums, salted, so that a collision does not persist.
    pub fn digest(&self, salt: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&salt.to_le_bytes());
        hasher.update(&{ self.context }.to_le_bytes());
        hasher.update(&{ self.live }.to_le_bytes());
        let mut short = [0; 8];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(short)
    }
}

/// Sums by group.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: GroupSum,
    /// By the first byte, or empty.
    first: Vec<GroupSum>,
    /// By the first two bytes, or empty.
    first_two: Vec<GroupSum>,
}

impl Groups {
    /// The sum over a group; `None` if it is not kept.
    pub fn sum(&self, group: ActorGroup) -> Option<GroupSum> {
        match group {
            ActorGroup::All => Some(self.all),
            ActorGroup::First(a) => self.first.get(usize::from(a)).copied(),
            ActorGroup::FirstTwo(a, b) => self.first_two.get(index(a, b)).copied(),
        }
    }

    /// Adds a change (of which numbers may be negative, wrapped) to the groups of an actor.
    pub fn add(&mut self, ActorId([a, b, ..]): ActorId, change: GroupSum) {
        self.all.merge(change);
        let first = self.first.get_mut(usize::from(a));
        let first_two = self.first_two.get_mut(index(a, b));
        first.into_iter().chain(first_two).for_each(|sum| sum.merge(change));
    }

    /// Whether the actors have become so many that [`Groups::rebuild`] has to be called.
    pub fn need_rebuild(&self) -> bool {
        let is_above = |max: usize| self.all.actors > max as u64;
        self.first.is_empty() && is_above(FIRST_ABOVE)
            || self.first_two.is_empty() && is_above(FIRST_TWO_ABOVE)
    }

    /// Begins the sums again, for as many actors as there are now; [`Groups::add`] has to be called for each.
    pub fn rebuild(&mut self) {
        let zeros = |count, above: usize| {
            vec![GroupSum::default(); if self.all.actors > above as u64 { count } else { 0 }]
        };
        *self = Self {
            first: zeros(1 << 8, FIRST_ABOVE),
            first_two: zeros(1 << 16, FIRST_TWO_ABOVE),
            all: GroupSum::default(),
        };
    }
}

fn index(a: u8, b: u8) -> usize {
    usize::from(u16::from_be_bytes([a, b]))
}
