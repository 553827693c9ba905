//! Statistics of a store.

/// Figures of one store. Counters start at zero with every open, except where said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live entries; while fingerprints are rebuilt, those counted so far.
    pub entries: u64,
    /// Actors ever seen.
    pub actors: u64,
    /// Intervals of the causal context over all actors; more than `actors` means gaps.
    pub intervals: u64,
    /// Whether fingerprints are being rebuilt.
    pub rebuilding: bool,
    /// Batches accepted.
    pub batches: u64,
    /// Batches rejected by validation.
    pub refused: u64,
    /// Engine writes for commits (each covers every batch given at once).
    pub commits: u64,
    /// Deltas joined.
    pub joins: u64,
    /// Deltas that changed nothing.
    pub joins_old_news: u64,
    /// Entries added by joins.
    pub entries_joined: u64,
    /// Joined entries with another live version at their place, both of which stay.
    pub siblings: u64,
    /// Joined timestamps too far in the future; the local clock ignored them.
    pub future_timestamps: u64,
    /// Dots found with two contents (a machine was rolled back with its memory). Kept over restarts.
    pub equivocations: u64,
    /// Times that this store drew a new actor because a peer had dots of its own actor that it never created.
    pub actor_rotations: u64,
    /// Summaries of single actors that sessions with peers have taken.
    pub summaries: u64,
    /// Entries removed because they had expired.
    pub expired: u64,
}
