//! The parts of the handshake as bytes: all that a node reads of a peer that has proved nothing yet.
//! What the parts are for, and how a proof is made, is the driver's business.

use bincode::{Decode, Encode, config};
use thiserror::Error;

use super::VERSION;
use crate::NodeRecord;

/// Longest part of the handshake, bytes: a record of the largest kind takes less than half.
pub const PART_BYTES_MAX: usize = 4 << 10;
/// Most MACs in a proof: one for each secret that is valid while one replaces another.
pub const MACS_MAX: usize = 2;
/// First bytes of a connection, in every version.
const MAGIC: &[u8; 8] = b"starling";
/// Memory that decoding one part may claim.
const MEMORY_MAX: usize = 4 * PART_BYTES_MAX;

/// Why bytes are not a part of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PartError {
    /// The peer speaks another version.
    #[error("the peer speaks version {theirs}, this node version {VERSION}")]
    Version {
        /// The peer's.
        theirs: u8,
    },
    /// It is no hello of any version.
    #[error("it did not say hello")]
    Hello,
    /// It is too long, broken, or has too many MACs.
    #[error("its proof cannot be read")]
    Proof,
    /// The record is out of bounds.
    #[error("its record is out of bounds")]
    Record,
}

/// "I speak this version and belong to this network."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The network's id.
    pub network: [u8; 16],
    /// Fresh for every connection.
    pub nonce: [u8; 32],
}

impl Hello {
    /// Magic and version come first in every version, so that two versions can tell each other apart.
    pub fn encode(&self) -> Vec<u8> {
        [MAGIC, &[VERSION][..], &self.network, &self.nonce].concat()
    }

    /// The peer's hello.
    pub fn decode(part: &[u8]) -> Result<Self, PartError> {
        let rest = part.strip_prefix(MAGIC).ok_or(PartError::Hello)?;
        let (version, rest) = rest.split_first().ok_or(PartError::Hello)?;
        if *version != VERSION {
            return Err(PartError::Version { theirs: *version });
        }
        let (network, nonce) = rest.split_first_chunk().ok_or(PartError::Hello)?;
        let nonce = nonce.try_into().map_err(|_| PartError::Hello)?;
        Ok(Self { network: *network, nonce })
    }
}

/// "I hold these secrets, and this is my record."
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

/// What the listener says to a proof.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// Its own.
    Proof(Proof),
    /// None of the MACs is keyed by a secret of the listener's.
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
