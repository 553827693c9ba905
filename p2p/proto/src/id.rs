//! Ids of nodes.

use std::cmp::Ordering;
use std::fmt;

use bincode::{Decode, Encode};

/// A node: its Ed25519 public key. Never a name or an address (design: identity).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NodeId(pub [u8; 32]);

impl Ord for NodeId {
    /// The order of the bytes. The first eight, as one number, settle nearly every comparison: tables of
    /// peers are searched with every message.
    fn cmp(&self, other: &Self) -> Ordering {
        let head = |id: &Self| id.0.first_chunk().copied().map(u64::from_be_bytes);
        head(self).cmp(&head(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl NodeId {
    /// The first four bytes in hexadecimal, as in logs and tables.
    pub fn short(&self) -> String {
        format!("{self:?}")
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
