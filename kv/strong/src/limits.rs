//! Bounds that several modules share.

/// The highest index, term or member number. Numbers from peers and rows are checked against it, so that
/// arithmetic on them cannot overflow. A group that commits a million entries a second would need a
/// hundred thousand years to reach it.
pub(crate) const INDEX_MAX: u64 = 1 << 62;
