//! Statements of the network's authority.

use bincode::{Decode, Encode};

use super::{SIGNATURE_BYTES_MAX, Signed, signing_bytes};
use crate::NodeId;
use crate::record::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};

/// What the authority states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Claim {
    /// Nodes accept only peers with a valid certificate.
    Required,
    /// Whether a node is an issuer.
    Issuer {
        /// The node.
        node: NodeId,
        /// Where it listens, for nodes that do not know it: multiaddresses without `/p2p`.
        addresses: Vec<String>,
        /// `false` if it is one no longer. Certificates that it signed stay valid until they expire.
        is_granted: bool,
    },
    /// A node is cut off for good, and certificates that it signed are invalid.
    Revoked {
        /// The node.
        node: NodeId,
    },
    /// Another key signs for the authority, too, and its word counts more.
    Successor {
        /// The other key.
        key: NodeId,
        /// Ed25519 by that key over [`endorsement_bytes`]: it belongs to this authority.
        endorsement: Vec<u8>,
    },
    /// A key before the signer's counts no longer: neither what it has signed, nor other keys that came from it or were before
    /// it.
    Retired {
        /// The key.
        key: NodeId,
    },
}

/// What the successor of a key signs.
pub fn endorsement_bytes(key: &NodeId, successor: &NodeId) -> Vec<u8> {
    signing_bytes("starling successor v1\0", (key, successor))
}

/// What a statement is about: of two about one subject the later one counts. In the order in which statements are sent: keys
/// before what they sign, and what takes the place of a key's statements before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Successor(NodeId),
    Required,
    Issuer(NodeId),
    Revoked(NodeId),
    Retired,
}

/// A claim, signed by the authority.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The key of the authority that signed it.
    pub authority: NodeId,
    /// Counts statements: of two about one subject the higher one counts. The time of signing in milliseconds since
    /// the Unix epoch is one.
    pub serial: u64,
    /// The claim.
    pub claim: Claim,
    /// Ed25519 over the other fields.
    pub signature: Vec<u8>,
}

impl Signed for Statement {
    fn signer(&self) -> &NodeId {
        &self.authority
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let Self { authority, serial, claim, signature: _ } = self;
        signing_bytes("starling statement v1\0", (authority, serial, claim))
    }

    fn endorsement(&self) -> Option<(NodeId, Vec<u8>, &[u8])> {
        match &self.claim {
            Claim::Successor { key, endorsement } => {
                Some((*key, endorsement_bytes(&self.authority, key), endorsement))
            }
            _ => None,
        }
    }

    fn is_bounded(&self) -> bool {
        let is_claim_bounded = match &self.claim {
            Claim::Issuer { addresses, .. } => {
                addresses.len() <= ADDRESSES_MAX
                    && addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
            }
            Claim::Successor { endorsement, .. } => endorsement.len() <= SIGNATURE_BYTES_MAX,
            Claim::Required | Claim::Revoked { .. } | Claim::Retired { .. } => true,
        };
        self.has_bounded_signature() && is_claim_bounded
    }
}

impl Statement {
    /// The node that it revokes.
    pub fn revoked(&self) -> Option<NodeId> {
        match &self.claim {
            Claim::Revoked { node } => Some(*node),
            _ => None,
        }
    }

    /// Whether it is about the authority's keys. Other claims are made again by the key that remains.
    pub fn is_about_keys(&self) -> bool {
        matches!(self.claim, Claim::Successor { .. } | Claim::Retired { .. })
    }

    pub(super) fn subject(&self) -> Subject {
        match &self.claim {
            Claim::Required => Subject::Required,
            Claim::Issuer { node, .. } => Subject::Issuer(*node),
            Claim::Revoked { node } => Subject::Revoked(*node),
            Claim::Successor { key, .. } => Subject::Successor(*key),
            Claim::Retired { .. } => Subject::Retired,
        }
    }

    /// Whether it counts in place of another one about the same subject, if neither key came from the other one.
    pub(super) fn supersedes(&self, other: &Self) -> bool {
        (self.serial, &self.claim, self.authority) > (other.serial, &other.claim, other.authority)
    }
}
