//! The encodings of the handshake's parts, which are all that a node reads of a peer before its proof. The driver
//! implements the handshake and the proofs.

use bincode::{Decode, Encode, config};
use thiserror::Error;

use super::{Features, Protocol};
use crate::NodeRecord;

/// Longest part of the handshake, bytes: a record of the largest kind takes two thirds.
pub const PART_BYTES_MAX: usize = 4 << 10;
/// Most MACs in a proof: one for each secret that is valid while one replaces another.
pub const MACS_MAX: usize = 2;
/// First bytes of a connection, in every version.
const MAGIC: &[u8; 8] = b"starling";
/// Bytes of memory that decoding one part may allocate, at most.
const MEMORY_MAX: usize = 4 * PART_BYTES_MAX;

/// Why bytes are not a valid part of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PartError {
    /// The bytes are not a hello of any version.
    #[error("its hello cannot be read")]
    Hello,
    /// The proof is too long, broken, or has too many MACs.
    #[error("its proof cannot be read")]
    Proof,
    /// The record is out of bounds.
    #[error("its record is out of bounds")]
    Record,
}

/// The sender's versions and network. The first part that each side sends:
///
/// ```text
/// magic     8 bytes, "starling"
/// min, max  one byte each: the versions of the protocol that the sender speaks
/// features  8 bytes, least significant first
/// network   16 bytes
/// nonce     32 bytes
/// ...       what later versions add; a receiver that does not know it ignores it
/// ```
///
/// Magic and range stay where they are in every version, so that two nodes without a common version
/// learn which ones the other speaks. The MACs of the proofs cover both hellos, byte for byte, so
/// that no attacker in between can lower the version or remove a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions and features that the sender speaks.
    pub protocol: Protocol,
    /// The network's id.
    pub network: [u8; 16],
    /// Fresh for every connection.
    pub nonce: [u8; 32],
}

/// A decoded hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A hello whose layout this program knows.
    Hello(Hello),
    /// The sender speaks only versions that this program does not, so that nothing after them is read.
    Elsewhere(Protocol),
}

impl Hello {
    /// As one part.
    pub fn encode(&self) -> Vec<u8> {
        let Protocol { min, max, features } = self.protocol;
        [MAGIC, &[min, max][..], &features.0.to_le_bytes(), &self.network, &self.nonce].concat()
    }

    /// The peer's hello, for a node that speaks `ours`.
    pub fn decode(part: &[u8], ours: Protocol) -> Result<Greeting, PartError> {
        let rest = part.strip_prefix(MAGIC).ok_or(PartError::Hello)?;
        let [min, max, rest @ ..] = rest else { return Err(PartError::Hello) };
        // Version 1 had one version in place of a range.
        let max = if *min == 1 { min } else { max };
        let mut protocol = Protocol { min: *min, max: *max, features: Features::default() };
        if min > max {
            return Err(PartError::Hello);
        }
        if ours.negotiate(protocol).is_none() {
            return Ok(Greeting::Elsewhere(protocol));
        }
        let (features, rest) = rest.split_first_chunk().ok_or(PartError::Hello)?;
        protocol.features = Features(u64::from_le_bytes(*features));
        let (network, rest) = rest.split_first_chunk().ok_or(PartError::Hello)?;
        let (nonce, _) = rest.split_first_chunk().ok_or(PartError::Hello)?;
        Ok(Greeting::Hello(Self { protocol, network: *network, nonce: *nonce }))
    }
}

/// The proof that the sender has the network's secret, and its record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Proof {
    /// At most [`MACS_MAX`].
    pub macs: Vec<[u8; 32]>,
    /// Within the bounds of records; its signature is the driver's to verify.
    pub record: NodeRecord,
}

impl Proof {
    /// As one part.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The peer's proof, within its bounds.
    pub fn decode(part: &[u8]) -> Result<Self, PartError> {
        decode(part).and_then(Self::bounded)
    }

    fn bounded(self) -> Result<Self, PartError> {
        if self.macs.len() > MACS_MAX {
            return Err(PartError::Proof);
        }
        if self.record.is_bounded() { Ok(self) } else { Err(PartError::Record) }
    }
}

/// The listener's answer to a proof.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// The listener's own proof.
    Proof(Proof),
    /// None of the MACs is keyed by a secret that the listener has.
    SecretDiffers,
    /// The record is not the dialer's, or not signed.
    BadRecord,
}

impl Answer {
    /// As one part.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The peer's answer, within its bounds.
    pub fn decode(part: &[u8]) -> Result<Self, PartError> {
        match decode(part)? {
            Self::Proof(proof) => proof.bounded().map(Self::Proof),
            refusal => Ok(refusal),
        }
    }
}

fn encode(part: &impl Encode) -> Vec<u8> {
    bincode::encode_to_vec(part, config::standard()).expect("writing to a Vec does not fail")
}

fn decode<T: Decode<()>>(part: &[u8]) -> Result<T, PartError> {
    if part.len() > PART_BYTES_MAX {
        return Err(PartError::Proof);
    }
    let limited = config::standard().with_limit::<MEMORY_MAX>();
    bincode::decode_from_slice(part, limited).map(|(part, _)| part).map_err(|_| PartError::Proof)
}
