//! The encodings of the handshake's parts, which are all that a node reads of a peer before its proof. The driver
//! implements the handshake and the proofs.

use bincode::{Decode, Encode, config};
use thiserror::Error;

use super::{Features, Protocol};
use crate::trust::{Certificate, Rejection, Request, STATEMENTS_MAX, Signed, Statement};
use crate::{NodeId, NodeRecord};

/// Longest part of the handshake, bytes: a record of the largest kind takes two thirds.
pub const PART_BYTES_MAX: usize = 4 << 10;
/// Most MACs in a proof: one for each secret that is valid while one replaces another.
pub const MACS_MAX: usize = 2;
/// Parts with statements that a node sends after its papers, at most: each holds one or more.
pub const STATEMENT_PARTS_MAX: usize = STATEMENTS_MAX;
/// Bytes of statements in one part, at most: the largest one takes a third of it.
const STATEMENTS_BYTES: usize = PART_BYTES_MAX - 64;
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
    /// The papers or the statements are too long, broken, or out of bounds.
    #[error("its papers cannot be read")]
    Papers,
}

/// The sender's versions and network. The first part that each side sends:
///
/// ```text
/// magic     8 bytes, "starling"
/// min, max  one byte each: the versions of the protocol that the sender speaks
/// features  8 bytes, least significant first
/// network   16 bytes
/// nonce     32 bytes
/// trust     16 bytes, since version 5: the digest of the sender's statements
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
    /// The digest of the sender's statements ([`Trust::digest`](crate::trust::Trust::digest)); zeros from a node of an older
    /// version.
    pub trust: [u8; 16],
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
        [MAGIC, &[min, max][..], &features.0.to_le_bytes(), &self.network, &self.nonce, &self.trust].concat()
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
        let Some(negotiated) = ours.negotiate(protocol) else { return Ok(Greeting::Elsewhere(protocol)) };
        let (features, rest) = rest.split_first_chunk().ok_or(PartError::Hello)?;
        protocol.features = Features(u64::from_le_bytes(*features));
        let (network, rest) = rest.split_first_chunk().ok_or(PartError::Hello)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(PartError::Hello)?;
        let trust = match rest.first_chunk() {
            Some(trust) => *trust,
            None if negotiated.version < Protocol::SHOWS_PAPERS => [0; 16],
            None => return Err(PartError::Hello),
        };
        Ok(Greeting::Hello(Self { protocol, network: *network, nonce: *nonce, trust }))
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
    /// The dialer is not admitted.
    Rejected(Rejection),
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

/// The credentials that each side sends since version 5: the dialer before its proof, the listener after it. The
/// sender's MACs cover them. Statements follow in parts of their own if the two digests differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Papers {
    /// The authority that the sender follows.
    pub authority: Option<NodeId>,
    /// The sender's certificate.
    pub certificate: Option<Certificate>,
    /// From a dialer that needs a certificate; a listener that is no issuer ignores it.
    pub request: Option<Request>,
    /// From a listener: the certificate that was asked for.
    pub issued: Option<Certificate>,
    /// Parts with statements that follow, at most [`STATEMENT_PARTS_MAX`].
    pub parts: u16,
}

impl Papers {
    /// As one part.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The peer's papers, within their bounds.
    pub fn decode(part: &[u8]) -> Result<Self, PartError> {
        let papers: Self = decode(part).map_err(|_| PartError::Papers)?;
        let is_bounded =
            [&papers.certificate, &papers.issued].into_iter().flatten().all(Certificate::is_bounded)
                && papers.request.iter().all(Request::is_bounded)
                && usize::from(papers.parts) <= STATEMENT_PARTS_MAX;
        is_bounded.then_some(papers).ok_or(PartError::Papers)
    }
}

/// Statements as parts.
pub fn encode_statements<'a>(statements: impl Iterator<Item = &'a Statement>) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for statement in statements {
        let bytes = encode(statement);
        match parts.last_mut() {
            Some(part) if part.len() + bytes.len() <= STATEMENTS_BYTES => part.extend(bytes),
            _ => parts.push(bytes),
        }
    }
    parts
}

/// The statements of one part.
pub fn decode_statements(mut part: &[u8]) -> Result<Vec<Statement>, PartError> {
    let mut statements = Vec::new();
    while !part.is_empty() {
        let limited = config::standard().with_limit::<MEMORY_MAX>();
        let (statement, read) =
            bincode::decode_from_slice::<Statement, _>(part, limited).map_err(|_| PartError::Papers)?;
        if !statement.is_bounded() {
            return Err(PartError::Papers);
        }
        statements.push(statement);
        part = &part[read..];
    }
    Ok(statements)
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
