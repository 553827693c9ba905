//! Certificates of nodes, and invitations to ask for one.

use bincode::{Decode, Encode};

use super::{Signed, signing_bytes};
use crate::{NodeId, Role};

/// A statement of an issuer that a node belongs to the network. The handshake proves that its bearer holds the node's key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    /// The node.
    pub node: NodeId,
    /// What the node may be: a certificate for a seed does not admit a replica.
    pub role: Role,
    /// When it was signed, milliseconds since the Unix epoch.
    pub issued_ms: u64,
    /// Time after which it is not valid, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// The node whose key signed it.
    pub issuer: NodeId,
    /// Ed25519 over the other fields.
    pub signature: Vec<u8>,
}

impl Signed for Certificate {
    fn signer(&self) -> &NodeId {
        &self.issuer
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let Self { node, role, issued_ms, not_after_ms, issuer, signature: _ } = self;
        signing_bytes("starling certificate v1\0", (node, role, issued_ms, not_after_ms, issuer))
    }
}

impl Certificate {
    /// When its node should ask for the next one: after two thirds of its life.
    pub fn renewal_ms(&self) -> u64 {
        self.not_after_ms - self.not_after_ms.saturating_sub(self.issued_ms) / 3
    }
}

/// An issuer's permission to ask for a certificate, for every bearer: it is part of a join ticket, and as secret.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Invitation {
    /// Drawn at random for each invitation: issuers count uses by it.
    pub id: [u8; 16],
    /// The role of the certificates.
    pub role: Role,
    /// Certificates that each issuer gives for it, at most; 0 for any number.
    pub uses: u32,
    /// Time after which it is not valid, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// The node whose key signed it.
    pub issuer: NodeId,
    /// Ed25519 over the other fields.
    pub signature: Vec<u8>,
}

impl std::fmt::Debug for Invitation {
    /// Does not print what its bearer needs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Signed for Invitation {
    fn signer(&self) -> &NodeId {
        &self.issuer
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let Self { id, role, uses, not_after_ms, issuer, signature: _ } = self;
        signing_bytes("starling invitation v1\0", (id, role, uses, not_after_ms, issuer))
    }
}

/// A request for a certificate, sent by the dialer of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// For a node that has a certificate (it may have expired), or whose network does not require one yet.
    Renewal,
    /// For the bearer of an invitation.
    Invited(Invitation),
}

impl Request {
    /// Whether the sizes are within bounds.
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Renewal => true,
            Self::Invited(invitation) => invitation.is_bounded(),
        }
    }
}
