//! Actors: the origins of writes.

use std::cmp::Ordering;
use std::fmt;

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
