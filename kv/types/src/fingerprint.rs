//! Fingerprints: the hash of a replica, and the shape of the tree over the dots of one actor.

use bincode::{Decode, Encode};

/// Sequence numbers under one leaf of the tree, one bit each in a 64-bit word, and in one bucket of the store.
pub const SPAN_LEAF: u64 = 64;
/// Children of an inner node of the tree.
pub const SPAN_FANOUT: u64 = 16;

/// Hash of a whole replica: equal if and only if context and live entries are (up to collisions of
/// 128-bit sums).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Root {
    /// Hash of the causal context.
    pub context: [u8; 16],
    /// Hash of the live entries.
    pub live: [u8; 16],
}
