//! Messages as bytes. A frame is
//!
//! ```text
//! length   LEB128, of everything after it; at most `frame_max(class)`
//! checksum first 4 bytes of blake3 over everything after it
//! kind     one byte, the number in `kinds.rs`
//! version  one byte, of this kind's body
//! body     bincode 2 (standard configuration) of the kind's fields
//! ```
//!
//! A receiver skips a frame of a kind, or of a version of a kind, that it does not know: the length
//! determines where the next one begins. A sender encodes for the receiver's version of the protocol
//! ([`Negotiated`]).
//!
//! Messages that [`decode`] returns are within every bound of [`bounds`], so that other code has nothing left to
//! check. The driver verifies the signatures of records.

pub mod bounds;
pub mod handshake;
mod kinds;
mod reader;
mod version;

use bincode::config;
use bytes::Bytes;
use thiserror::Error;

use crate::message::{Payload, RumorMessage, SyncMessage};
use crate::{Class, Message};
use kinds::{Body, Decoded, Head, STRONG, body_version, number};

pub use reader::FrameReader;
pub use version::{Features, Negotiated, Protocol};

/// Longest control frame, bytes after the length: a crawl's description with
/// [`bounds::RECORDS_MAX`] records of the largest kind fits.
pub const CONTROL_FRAME_BYTES_MAX: usize = 128 << 10;
/// Longest frame of a rumor or of a session, bytes after the length: twice the largest batch.
pub const BULK_FRAME_BYTES_MAX: usize = 4 << 20;

/// Longest frame of strong keyspaces, bytes after the length: the largest answer to a read.
pub const STRONG_FRAME_BYTES_MAX: usize = 8 << 20;

/// Bytes of the longest LEB128 length that [`BULK_FRAME_BYTES_MAX`] needs.
const LENGTH_BYTES_MAX: usize = 4;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 4;
/// Checksum, kind and version.
const HEADER_BYTES: usize = CHECKSUM_BYTES + 2;
/// Bytes of memory that decoding one control frame may allocate, at most: a few times its length, since a record in
/// memory is larger than on the wire.
const CONTROL_MEMORY_MAX: usize = 4 * CONTROL_FRAME_BYTES_MAX;
/// Bytes of memory that decoding one bulk frame may allocate, at most.
const BULK_MEMORY_MAX: usize = 2 * BULK_FRAME_BYTES_MAX;

/// Why bytes are not a message that this node knows. The peer broke the protocol, except with
/// [`WireError::Unknown`]. After [`WireError::TooLong`] the stream cannot be cut into frames any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The frame is longer than its class allows.
    #[error("frame of {bytes} bytes, at most {max} are allowed in its class")]
    TooLong {
        /// The length of the frame, bytes.
        bytes: u64,
        /// The longest length allowed, bytes.
        max: usize,
    },
    /// The bytes were changed after they were sent.
    #[error("checksum of the frame does not match its bytes")]
    Checksum,
    /// A kind of message, or a version of a kind, that a later protocol has. The receiver skips the
    /// frame and counts it; the peer did nothing wrong.
    #[error("message of kind {kind:#04x}, version {version}, is unknown")]
    Unknown {
        /// The number of the kind.
        kind: u8,
        /// The version of its body.
        version: u8,
    },
    /// The frame is truncated, has trailing bytes, or is not a message.
    #[error("frame is malformed")]
    Malformed,
    /// The message belongs on another substream.
    #[error("message of class {got:?} on the substream of class {wanted:?}")]
    WrongClass {
        /// The substream's class.
        wanted: Class,
        /// The message's class.
        got: Class,
    },
    /// A list, a text or a number is outside its bound.
    #[error("message is out of bounds: {what}")]
    OutOfBounds {
        /// The bound.
        what: &'static str,
    },
}

/// Longest frame of a class, bytes after the length.
pub const fn frame_max(class: Class) -> usize {
    match class {
        Class::Control => CONTROL_FRAME_BYTES_MAX,
        Class::Rumor | Class::Sync => BULK_FRAME_BYTES_MAX,
        Class::Strong => STRONG_FRAME_BYTES_MAX,
    }
}

/// The whole frame, length included, for a peer that speaks version `protocol`; `None` if that version
/// does not have the message's kind. Encode once and send the same `Bytes` over all links of one version.
/// The frame is longer than [`frame_max`] only if a payload is; every machine of this crate keeps
/// payloads below.
pub fn encode(message: &Message, protocol: u8) -> Option<Bytes> {
    let kind = number(message);
    let version = body_version(kind, protocol)?;
    let mut frame = Vec::with_capacity(LENGTH_BYTES_MAX + HEADER_BYTES + size_hint(message));
    frame.resize(LENGTH_BYTES_MAX + CHECKSUM_BYTES, 0);
    frame.extend_from_slice(&[kind, version]);
    bincode::encode_into_std_write(Body { message, version }, &mut frame, config::standard())
        .expect("writing to a Vec does not fail");
    let checksum = checksum(&frame[LENGTH_BYTES_MAX + CHECKSUM_BYTES..]);
    frame[LENGTH_BYTES_MAX..LENGTH_BYTES_MAX + CHECKSUM_BYTES].copy_from_slice(&checksum);
    let (length, length_bytes) = leb128(frame.len() - LENGTH_BYTES_MAX);
    let start = LENGTH_BYTES_MAX - length_bytes;
    frame[start..LENGTH_BYTES_MAX].copy_from_slice(&length[..length_bytes]);
    Some(Bytes::from(frame).slice(start..))
}

/// The length of [`encode`]'s result, in bytes, without encoding.
pub fn encoded_len(message: &Message, protocol: u8) -> Option<usize> {
    let version = body_version(number(message), protocol)?;
    let mut encoder =
        bincode::enc::EncoderImpl::new(bincode::enc::write::SizeWriter::default(), config::standard());
    bincode::Encode::encode(&Body { message, version }, &mut encoder).expect("counting does not fail");
    let length = HEADER_BYTES + encoder.into_writer().bytes_written;
    Some(length + leb128(length).1)
}

/// One message out of one whole frame, as [`encode`] made it or [`FrameReader`] cut it out of a
/// stream of `class`. Reads every version of every kind that this program knows, whatever version the
/// link negotiated. Never panics, and allocates memory in proportion to the class's bound only.
pub fn decode(class: Class, frame: &[u8]) -> Result<Message, WireError> {
    let (length, start) = read_length(class, frame)?.ok_or(WireError::Malformed)?;
    let rest = &frame[start..];
    if rest.len() != length {
        return Err(WireError::Malformed);
    }
    let (sum, checked) = rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or(WireError::Malformed)?;
    let [kind, version, body @ ..] = checked else { return Err(WireError::Malformed) };
    if *sum != checksum(checked) {
        return Err(WireError::Checksum);
    }
    let head = Head { kind: *kind, version: *version };
    if !head.is_known() {
        return Err(WireError::Unknown { kind: head.kind, version: head.version });
    }
    let message = match class {
        _ if head.kind == STRONG => Message::Strong(Payload(Bytes::copy_from_slice(body))),
        Class::Control => decode_body::<CONTROL_MEMORY_MAX>(head, body)?,
        Class::Rumor | Class::Sync | Class::Strong => decode_body::<BULK_MEMORY_MAX>(head, body)?,
    };
    if message.class() != class {
        return Err(WireError::WrongClass { wanted: class, got: message.class() });
    }
    bounds::check(&message)?;
    Ok(message)
}

fn decode_body<const MEMORY_MAX: usize>(head: Head, body: &[u8]) -> Result<Message, WireError> {
    let limited = config::standard().with_limit::<MEMORY_MAX>();
    match bincode::decode_from_slice_with_context(body, limited, head) {
        Ok((Decoded(message), consumed)) if consumed == body.len() => Ok(message),
        _ => Err(WireError::Malformed),
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(bytes);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

/// The length that a frame begins with and where its rest begins; `None` if more bytes are needed.
fn read_length(class: Class, bytes: &[u8]) -> Result<Option<(usize, usize)>, WireError> {
    let max = frame_max(class);
    let mut length = 0_u64;
    for (i, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * i);
        if length > max as u64 {
            return Err(WireError::TooLong { bytes: length, max });
        }
        if byte & 0x80 == 0 {
            return Ok(Some((length as usize, i + 1)));
        }
    }
    if bytes.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(WireError::Malformed) }
}

/// A number below 2^28 as LEB128, and how many bytes of it count. A larger one is encoded as
/// a length that every receiver rejects.
fn leb128(value: usize) -> ([u8; LENGTH_BYTES_MAX], usize) {
    let mut bytes = [0; LENGTH_BYTES_MAX];
    let mut left = value.min((1 << 28) - 1);
    let mut used = 0;
    loop {
        bytes[used] = (left & 0x7f) as u8;
        left >>= 7;
        used += 1;
        if left == 0 {
            return (bytes, used);
        }
        bytes[used - 1] |= 0x80;
    }
}

/// Room for the message, so that a payload is copied once: exact for payloads, a guess elsewhere.
fn size_hint(message: &Message) -> usize {
    const SMALL: usize = 64;
    match message {
        Message::Rumor(RumorMessage::Full { payload, .. }) | Message::Strong(payload) => {
            SMALL + payload.0.len()
        }
        Message::Sync(SyncMessage::Push { delta, .. } | SyncMessage::Delta { delta, .. }) => {
            SMALL + delta.0.len()
        }
        _ => SMALL,
    }
}
