//! The binary encoding of requests and answers, in the log and between nodes. Equal values have equal encodings;
//! decoding is bounded in memory (by the length of what is decoded) and in nesting.

use bincode::config::{Configuration, standard};
use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode, impl_borrow_decode_with_context};

use super::{Body, Compare, Txn, TxnOp};

/// Transactions within transactions, the outermost counted, at most. etcd has no such bound and recurses; its clients are
/// known to nest 20 deep.
pub const TXN_DEPTH_MAX: u8 = 20;
/// The bound of nodes of 0.1.0. They cannot decode deeper ones, in a request or in the log.
pub const TXN_DEPTH_MAX_BEFORE_DATED: u8 = 8;

/// Bytes that one decoding may claim: above every bound on a request or an answer.
const DECODE_BYTES_MAX: usize = 64 << 20;

const CONFIG: Configuration = standard();

/// How deep the decoder is in nested transactions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nesting(u8);

/// Bytes that encode no value of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// The name of the expected type.
    pub what: &'static str,
}

/// The encoding of `value`.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of `value` to `bytes`.
pub fn encode_into<T: Encode>(value: &T, bytes: &mut Vec<u8>) {
    bincode::encode_into_std_write(value, bytes, CONFIG).expect("memory takes what plain data encodes to");
}

/// Bytes of the encoding of `value`.
pub fn encoded_len<T: Encode>(value: &T) -> usize {
    let mut encoder = bincode::enc::EncoderImpl::new(bincode::enc::write::SizeWriter::default(), CONFIG);
    value.encode(&mut encoder).expect("counting does not fail");
    encoder.into_writer().bytes_written
}

/// Decodes a value from all of `bytes`; `what` names its type in the error.
pub fn decode<T: Decode<Nesting>>(bytes: &[u8], what: &'static str) -> Result<T, Malformed> {
    let config = CONFIG.with_limit::<DECODE_BYTES_MAX>();
    match bincode::decode_from_slice_with_context(bytes, config, Nesting::default()) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        _ => Err(Malformed { what }),
    }
}

/// Decodes with `inside` one level deeper.
fn nested<D: Decoder<Context = Nesting>, T>(
    decoder: &mut D,
    inside: impl FnOnce(&mut D) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    if decoder.context().0 == TXN_DEPTH_MAX {
        return Err(DecodeError::Other("transactions are nested too deep"));
    }
    decoder.context().0 += 1;
    let value = inside(decoder)?;
    decoder.context().0 -= 1;
    Ok(value)
}

impl Decode<Nesting> for Txn {
    fn decode<D: Decoder<Context = Nesting>>(decoder: &mut D) -> Result<Self, DecodeError> {
        nested(decoder, |decoder| {
            Ok(Self {
                compare: Vec::<Compare>::decode(decoder)?,
                then: Vec::<TxnOp>::decode(decoder)?,
                otherwise: Vec::<TxnOp>::decode(decoder)?,
            })
        })
    }
}

impl_borrow_decode_with_context!(Txn, Nesting);

/// The derived decoding, but for the bound on nesting.
impl Decode<Nesting> for Body {
    fn decode<D: Decoder<Context = Nesting>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            0 => Self::Range(Decode::decode(decoder)?),
            1 => Self::Put { prev: Decode::decode(decoder)? },
            2 => Self::Sequential { key: Decode::decode(decoder)? },
            3 => Self::Delete { deleted: Decode::decode(decoder)?, prev: Decode::decode(decoder)? },
            4 => Self::Popped { first: Decode::decode(decoder)? },
            5 => nested(decoder, |decoder| {
                Ok(Self::Txn { succeeded: Decode::decode(decoder)?, bodies: Decode::decode(decoder)? })
            })?,
            6 => Self::Compacted,
            7 => Self::LeaseGranted { id: Decode::decode(decoder)?, ttl_ms: Decode::decode(decoder)? },
            8 => Self::LeaseRevoked,
            9 => Self::KeptAlive { id: Decode::decode(decoder)?, ttl_ms: Decode::decode(decoder)? },
            10 => Self::TimeToLive {
                id: Decode::decode(decoder)?,
                granted_ms: Decode::decode(decoder)?,
                left_ms: Decode::decode(decoder)?,
                keys: Decode::decode(decoder)?,
            },
            11 => Self::Leases { leases: Decode::decode(decoder)? },
            12 => Self::Hash { hash: Decode::decode(decoder)?, compacted: Decode::decode(decoder)? },
            _ => return Err(DecodeError::Other("an unknown body")),
        })
    }
}

impl_borrow_decode_with_context!(Body, Nesting);
