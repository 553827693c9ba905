//! Who belongs to a network whose nodes need more than its secret: certificates of nodes, and the statements of the
//! network's authority.
//!
//! ```text
//! authority key (kept offline)   signs   Statement: certificates are required | a node is an issuer | a node is revoked |
//!                                                   another key signs, too | a key before it counts no longer
//! issuer (a node, by its key)    signs   Certificate: this node key belongs to the network until then
//!                                signs   Invitation: its bearer may ask for a certificate
//! ```
//!
//! Statements are a state-based CRDT (Shapiro et al. 2011): for each subject the statement with the highest serial
//! number wins, and a revocation has no opposite; keys of the authority follow one another (`keys`). Nodes exchange
//! statements in the handshake, before any other message, and flood new ones over their links. Every node judges a peer's
//! certificate by the statements that it has, without asking another node.
//!
//! Nothing here verifies a signature: the driver drops what is not signed by the key that it names, before it passes it on.

mod certificate;
mod keys;
mod state;
mod statement;

pub use certificate::{Certificate, Invitation, Request};
pub use keys::KEYS_MAX;
pub use state::{Rejection, STATEMENTS_MAX, Trust};
pub use statement::{Claim, Statement, endorsement_bytes};

use bincode::{Decode, Encode, config};

use crate::NodeId;

/// Longest signature, bytes: Ed25519's.
const SIGNATURE_BYTES_MAX: usize = 64;
/// Bytes of memory that decoding one value may allocate, at most: a few times the largest statement.
const MEMORY_MAX: usize = 16 << 10;

/// A value that a key has signed.
pub trait Signed: Encode + Decode<()> {
    /// The key.
    fn signer(&self) -> &NodeId;
    /// Ed25519 over [`Signed::signing_bytes`].
    fn signature(&self) -> &[u8];
    /// Every other field, behind a separator of the domain.
    fn signing_bytes(&self) -> Vec<u8>;

    /// The key that has to agree, what it signs, and its signature; for most values there is none.
    fn endorsement(&self) -> Option<(NodeId, Vec<u8>, &[u8])> {
        None
    }

    /// Whether the sizes are within bounds.
    fn is_bounded(&self) -> bool {
        self.has_bounded_signature()
    }

    /// Whether the signature has no more bytes than any.
    fn has_bounded_signature(&self) -> bool {
        self.signature().len() <= SIGNATURE_BYTES_MAX
    }

    /// As bytes, for files, tickets and the API.
    fn encoded(&self) -> Vec<u8> {
        bincode::encode_to_vec(self, config::standard()).expect("writing to a Vec does not fail")
    }

    /// The value of [`Signed::encoded`], within its bounds. Its signature is not verified.
    fn decoded(bytes: &[u8]) -> Option<Self> {
        let limited = config::standard().with_limit::<MEMORY_MAX>();
        let (value, read) = bincode::decode_from_slice::<Self, _>(bytes, limited).ok()?;
        (read == bytes.len() && value.is_bounded()).then_some(value)
    }
}

/// The bytes that a signature covers: a separator of its domain, and the fields.
pub fn signing_bytes(domain: &str, fields: impl Encode) -> Vec<u8> {
    let mut bytes = domain.as_bytes().to_vec();
    bincode::encode_into_std_write(fields, &mut bytes, config::standard())
        .expect("writing to a Vec does not fail");
    bytes
}
