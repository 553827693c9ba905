//! The interface between a session and a store.

use bytes::Bytes;
use thiserror::Error;

use crate::message::{ActorSummary, Leaf, Root, Span};
use crate::{ActorGroup, DotRange, DotRanges};

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
    /// Dots that are dead in the delta and stay as they were here.
    pub withheld: Vec<DotRange>,
}

/// The live entries of a part of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The entries, as a delta that claims no other dots; empty if there are none.
    pub delta: Bytes,
    /// The dead dots.
    pub dead: Vec<DotRange>,
    /// The ranges that did not fit.
    pub rest: Vec<DotRange>,
}

/// One replica of the map from dots to {unseen < live < dead}, which sessions make equal. All
/// hashes take the session's salt; both sides compute them alike (see [`crate::message::Span`]).
pub trait Replica {
    /// Hash of everything; `None` while fingerprints are being rebuilt, which puts sessions off.
    fn root(&self) -> Option<Root>;
    /// How many actors of a group it has seen.
    fn actor_count(&self, group: ActorGroup) -> u64;
    /// The actors of a group that it has seen; ascending.
    fn actors(&self, group: ActorGroup, salt: u64) -> Vec<ActorSummary>;
    /// Hashes over what it has of each part of a group; ascending, parts without actors left out.
    fn digests(&self, group: ActorGroup, salt: u64) -> Vec<(ActorGroup, u64)>;
    /// Per first byte of an actor's id: a hash over the summaries of those actors; ascending,
    /// groups without actors left out. As peers compare them that speak version 3 of the protocol.
    fn groups(&self, salt: u64) -> Vec<(u8, u64)>;
    /// Hashes of an inner span's 16 children, trailing ones beyond its limit left out; 0 where
    /// nothing is seen.
    fn child_hashes(&self, span: &Span, salt: u64) -> Vec<u32>;
    /// A span of level 0 in full, clipped to its limit.
    fn leaf(&self, span: &Span, salt: u64) -> Leaf;
    /// The first `count_max` sub-ranges of `range` that it has not seen, ascending.
    fn missing(&self, range: &DotRange, count_max: usize) -> Vec<DotRange>;
    /// The first `count_max` ranges that it has not seen below a dot of the same actor that it has seen.
    fn gaps(&self, count_max: usize) -> Vec<DotRange>;
    /// The restriction of its state to the dots of `ranges` that it has seen, as a delta of about
    /// `bytes_max` (at least one entry), and the ranges that did not fit. Empty bytes if it has
    /// seen none of the dots.
    fn delta(&self, ranges: &[DotRange], bytes_max: usize) -> Result<(Bytes, Vec<DotRange>), ReplicaError>;
    /// The live entries of the dots of `ranges`, about `bytes_max` (at least one entry).
    fn live(&self, ranges: &[DotRange], bytes_max: usize) -> Result<Part, ReplicaError>;
    /// A delta claiming exactly those dots of `ranges` that are seen and dead here; empty bytes if
    /// there are none.
    fn dead_among(&self, ranges: &DotRanges) -> Result<Bytes, ReplicaError>;
    /// A delta claiming that all dots of `ranges` are dead.
    fn deaths(&self, ranges: &[DotRange]) -> Bytes;
    /// Joins a delta, whole or not at all.
    fn join(&mut self, delta: &[u8]) -> Result<JoinReport, ReplicaError>;
    /// Joins the entries of a delta, and only those of its dead dots whose places keep a later version here. It
    /// withholds the others, in at most `withheld_max` ranges; dots beyond that which it has seen stay as they are, the
    /// others are dead from now on.
    fn join_part(&mut self, delta: &[u8], withheld_max: usize) -> Result<JoinReport, ReplicaError>;
    /// Marks this instant for [`Replica::seen_since`].
    fn mark(&self) -> u64;
    /// The dots that were seen since a mark; `None` if they are no longer remembered.
    fn seen_since(&self, mark: u64) -> Option<Vec<DotRange>>;
}
