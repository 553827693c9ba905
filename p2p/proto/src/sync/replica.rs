//! The interface between a session and a store.

use bytes::Bytes;
use thiserror::Error;

use crate::message::{ActorSummary, Leaf, Root, Span};
use crate::{DotRange, DotRanges};

/// Why a replica could not read or join. The details are for the replica's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplicaError {
    /// The delta is malformed, by the peer's fault. Nothing of it was joined.
    #[error("delta is malformed")]
    Malformed,
    /// Storage failed. Nothing was joined.
    #[error("storage failed")]
    Storage,
}

/// The result of joining a delta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinReport {
    /// Whether the live entries or the causal context changed.
    pub changed: bool,
    /// Entries that became live.
    pub entries: u64,
    /// Older live dots at the same places as the new entries: the sender may know them dead.
    pub suspects: Vec<DotRange>,
}

/// One replica of the map from dots to {unseen < live < dead}, which sessions make equal. All
/// hashes take the session's salt; both sides compute them alike (see [`crate::message::Span`]).
pub trait Replica {
    /// Hash of everything; `None` while fingerprints are being rebuilt, which puts sessions off.
    fn root(&self) -> Option<Root>;
    /// How many actors it has seen.
    fn actor_count(&self) -> usize;
    /// Every actor seen, or those whose id begins with a byte of `groups` if that is not empty;
    /// ascending.
    fn actors(&self, salt: u64, groups: &[u8]) -> Vec<ActorSummary>;
    /// Per first byte of an actor's id: a hash over the summaries of those actors; ascending,
    /// groups without actors left out.
    fn groups(&self, salt: u64) -> Vec<(u8, u64)>;
    /// Hashes of an inner span's 16 children, trailing ones beyond its limit left out; 0 where
    /// nothing is seen.
    fn child_hashes(&self, span: &Span, salt: u64) -> Vec<u32>;
    /// A span of level 0 in full, clipped to its limit.
    fn leaf(&self, span: &Span, salt: u64) -> Leaf;
    /// The first `count_max` sub-ranges of `range` that it has not seen, ascending.
    fn missing(&self, range: &DotRange, count_max: usize) -> Vec<DotRange>;
    /// The restriction of its state to the dots of `ranges` that it has seen, as a delta of about
    /// `bytes_max` (at least one entry), and the ranges that did not fit. Empty bytes if it has
    /// seen none of the dots.
    fn delta(&self, ranges: &[DotRange], bytes_max: usize) -> Result<(Bytes, Vec<DotRange>), ReplicaError>;
    /// A delta claiming exactly those dots of `ranges` that are seen and dead here; empty bytes if
    /// there are none.
    fn dead_among(&self, ranges: &DotRanges) -> Result<Bytes, ReplicaError>;
    /// Joins a delta, whole or not at all.
    fn join(&mut self, delta: &[u8]) -> Result<JoinReport, ReplicaError>;
}
