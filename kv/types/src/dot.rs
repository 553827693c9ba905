//! Dots: the ids of operations.

use bincode::{Decode, Encode};

use crate::ActorId;

/// The id of one operation, never reused: the `seq`-th of its actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dot {
    /// The actor that created it.
    pub actor: ActorId,
    /// Counts the actor's operations, from 1.
    pub seq: u64,
}

/// Consecutive dots of one actor, both ends inclusive. Sequence numbers begin at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct DotRange {
    /// The actor.
    pub actor: ActorId,
    /// The first sequence number.
    pub first: u64,
    /// The last, inclusive.
    pub last: u64,
}

impl DotRange {
    /// The range of one dot.
    pub fn one(dot: Dot) -> Self {
        Self { actor: dot.actor, first: dot.seq, last: dot.seq }
    }
}
