//! Bounds that several modules share.

/// The highest index, term or member number. Numbers from peers and rows are checked against it, so that
/// arithmetic on them cannot overflow. A group that commits a million entries a second would need a
/// hundred thousand years to reach it.
pub(crate) const INDEX_MAX: u64 = 1 << 62;

/// The highest term. Twice [`INDEX_MAX`]: releases up to 0.1.0 let any node raise the term of a group to that, and such a
/// group has to be able to elect a leader.
pub(crate) const TERM_MAX: u64 = 1 << 63;

/// How far the term of a member may be ahead of another one's. An estimate: a million unsafe recoveries, or an election a
/// second for 30,000 years; and four million such jumps lead from [`INDEX_MAX`] to [`TERM_MAX`].
pub(crate) const TERMS_AHEAD_MAX: u64 = 1 << 40;
