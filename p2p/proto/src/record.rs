//! Signed address records, by which nodes pass on where other nodes listen.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::{Labels, NodeId};

/// Longest node name in a record, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest multiaddress in a record, bytes of its text form.
pub const ADDRESS_BYTES_MAX: usize = 160;
/// Most addresses in one record.
pub const ADDRESSES_MAX: usize = 8;
/// Most bytes of fields that a later version adds.
pub const MORE_BYTES_MAX: usize = 256;

/// What a node does in the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Role {
    /// Keeps the store, gossips, sits in active views.
    Replica,
    /// A bootstrap seed: has no store, is never in an active view, and answers with live nodes.
    Seed,
}

/// A node's addresses, signed by the node with the key that is its identity, so that no other node can change them.
/// The driver verifies signatures when it receives a record; inside the protocol crates all records are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The signer.
    pub id: NodeId,
    /// Wall-clock milliseconds at the start of this run of the node: a later run supersedes.
    pub incarnation: u64,
    /// Counts changes of the record within one incarnation.
    pub revision: u32,
    /// Replica or seed.
    pub role: Role,
    /// Name for display, chosen by the operator and never trusted. At most [`NAME_BYTES_MAX`].
    pub name: String,
    /// Multiaddresses without `/p2p`, best first. At most [`ADDRESSES_MAX`].
    pub addresses: Vec<String>,
    /// Labels chosen by the operator.
    pub labels: Labels,
    /// Fields of later versions: kept and passed on unread, so that a node relays the record of a newer
    /// node with its signature intact. At most [`MORE_BYTES_MAX`].
    pub more: Vec<u8>,
    /// Ed25519 over [`NodeRecord::signing_bytes`].
    pub signature: Vec<u8>,
}

/// Flags for the optional fields that follow, in the byte of the role: most records have none, and then
/// these fields cost nothing.
mod flags {
    pub const SEED: u8 = 1;
    pub const LABELS: u8 = 2;
    pub const MORE: u8 = 4;
    pub const ALL: u8 = SEED | LABELS | MORE;
}

impl NodeRecord {
    /// A record without name, addresses and labels, not signed.
    pub fn new(id: NodeId, incarnation: u64, role: Role) -> Self {
        Self {
            id,
            incarnation,
            revision: 0,
            role,
            name: String::new(),
            addresses: Vec::new(),
            labels: Labels::default(),
            more: Vec::new(),
            signature: Vec::new(),
        }
    }

    /// The signed bytes: a domain separator and every field but the signature.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = b"starling record v1\0".to_vec();
        bincode::encode_into_std_write(Unsigned(self), &mut bytes, bincode::config::standard())
            .expect("writing to a Vec does not fail");
        bytes
    }

    /// Whether this record replaces `other` of the same node.
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.incarnation, self.revision) > (other.incarnation, other.revision)
    }

    /// Whether the sizes are within bounds.
    pub fn is_bounded(&self) -> bool {
        self.name.len() <= NAME_BYTES_MAX
            && self.addresses.len() <= ADDRESSES_MAX
            && self.addresses.iter().all(|a| a.len() <= ADDRESS_BYTES_MAX)
            && self.labels.is_bounded()
            && self.more.len() <= MORE_BYTES_MAX
            && self.signature.len() <= 64
    }
}

/// Every field but the signature.
struct Unsigned<'a>(&'a NodeRecord);

impl Encode for Unsigned<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let NodeRecord { id, incarnation, revision, role, name, addresses, labels, more, signature: _ } =
            self.0;
        let flag = |holds: bool, flag| if holds { flag } else { 0 };
        let flags = flag(*role == Role::Seed, flags::SEED)
            | flag(!labels.is_empty(), flags::LABELS)
            | flag(!more.is_empty(), flags::MORE);
        (id, incarnation, revision, flags, name, addresses).encode(encoder)?;
        if !labels.is_empty() {
            labels.encode(encoder)?;
        }
        if !more.is_empty() {
            more.encode(encoder)?;
        }
        Ok(())
    }
}

impl Encode for NodeRecord {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        Unsigned(self).encode(encoder)?;
        self.signature.encode(encoder)
    }
}

impl<C> Decode<C> for NodeRecord {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (id, incarnation, revision, flags): (_, _, _, u8) = Decode::decode(decoder)?;
        if flags & !flags::ALL != 0 {
            return Err(DecodeError::Other("unknown flags of a record"));
        }
        let role = if flags & flags::SEED == 0 { Role::Replica } else { Role::Seed };
        let mut record = Self::new(id, incarnation, role);
        (record.revision, record.name, record.addresses) =
            (revision, Decode::decode(decoder)?, Decode::decode(decoder)?);
        if flags & flags::LABELS != 0 {
            record.labels = Decode::decode(decoder)?;
        }
        if flags & flags::MORE != 0 {
            record.more = Decode::decode(decoder)?;
        }
        record.signature = Decode::decode(decoder)?;
        Ok(record)
    }
}

bincode::impl_borrow_decode!(NodeRecord);
