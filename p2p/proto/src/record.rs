//! Signed address records: how one node tells another where a third one listens.

use bincode::{Decode, Encode};

use crate::NodeId;

/// Longest node name in a record, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest multiaddress in a record, bytes of its text form.
pub const ADDRESS_BYTES_MAX: usize = 160;
/// Most addresses in one record.
pub const ADDRESSES_MAX: usize = 8;

/// What a node does in the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Role {
    /// Keeps the store, gossips, sits in active views.
    Replica,
    /// A bootstrap seed: no store, never in an active view, answers who is there.
    Seed,
}

/// A node's own statement of where it listens, signed with the key that is its identity. Whoever
/// passes it on cannot change it. The driver verifies signatures at the edge; inside the protocol
/// crates a record has been verified.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeRecord {
    /// The signer.
    pub id: NodeId,
    /// Wall-clock milliseconds at the start of this run of the node: a later run supersedes.
    pub incarnation: u64,
    /// Counts changes of the record within one incarnation.
    pub revision: u32,
    /// Replica or seed.
    pub role: Role,
    /// Chosen by the operator; shown to people, trusted by nobody. At most [`NAME_BYTES_MAX`].
    pub name: String,
    /// Multiaddresses without `/p2p`, best first. At most [`ADDRESSES_MAX`].
    pub addresses: Vec<String>,
    /// Ed25519 over [`NodeRecord::signing_bytes`].
    pub signature: Vec<u8>,
}

impl NodeRecord {
    /// What is signed: a domain separator and every field but the signature.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let unsigned = (self.id, self.incarnation, self.revision, self.role, &self.name, &self.addresses);
        let mut bytes = b"starling record v1\0".to_vec();
        bincode::encode_into_std_write(unsigned, &mut bytes, bincode::config::standard())
            .expect("writing to a Vec does not fail");
        bytes
    }

    /// Whether this statement replaces `other` of the same node.
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.incarnation, self.revision) > (other.incarnation, other.revision)
    }

    /// Whether the sizes are within bounds.
    pub fn is_bounded(&self) -> bool {
        self.name.len() <= NAME_BYTES_MAX
            && self.addresses.len() <= ADDRESSES_MAX
            && self.addresses.iter().all(|a| a.len() <= ADDRESS_BYTES_MAX)
            && self.signature.len() <= 64
    }
}
