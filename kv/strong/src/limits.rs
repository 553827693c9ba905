//! Bounds that several parts share.

/// No index, term or member number is higher: what a peer says is checked against it, so that
/// arithmetic on it cannot overflow. A group that commits a million entries a second would take a
/// hundred thousand years.
pub(crate) const INDEX_MAX: u64 = 1 << 62;
