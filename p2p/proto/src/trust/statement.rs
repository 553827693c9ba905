//! Statements of the network's authority.

use bincode::{Decode, Encode};

use super::{Signed, signing_bytes};
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
}

/// What a statement is about: of two about one subject the later one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Required,
    Issuer(NodeId),
    Revoked(NodeId),
}

/// A claim, signed by the authority.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The key that signed it.
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

    fn is_bounded(&self) -> bool {
        let addresses = match &self.claim {
            Claim::Issuer { addresses, .. } => &addresses[..],
            Claim::Required | Claim::Revoked { .. } => &[],
        };
        self.has_bounded_signature()
            && addresses.len() <= ADDRESSES_MAX
            && addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
    }
}

impl Statement {
    /// The node that it revokes.
    pub fn revoked(&self) -> Option<NodeId> {
        match &self.claim {
            Claim::Revoked { node } => Some(*node),
            Claim::Required | Claim::Issuer { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Subject {
        match &self.claim {
            Claim::Required => Subject::Required,
            Claim::Issuer { node, .. } => Subject::Issuer(*node),
            Claim::Revoked { node } => Subject::Revoked(*node),
        }
    }

    /// Whether it counts in place of another one about the same subject.
    pub(super) fn supersedes(&self, other: &Self) -> bool {
        (self.serial, &self.claim) > (other.serial, &other.claim)
    }
}
