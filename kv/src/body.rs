//! The body of an entry: canonical bytes as the origin wrote them, stored, hashed and forwarded by
//! every replica, including those too old to read them.
//!
//! `[version: u8 = 1][flags: u8][HLC: u64 BE][expiry in ms: u64 BE, if flag 1][value]`

use bytes::Bytes;

use crate::{ActorId, Hlc};

const VERSION: u8 = 1;
const FLAG_EXPIRES: u8 = 1;

/// Longest part of a body before the value, bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 18;

/// The head of a body of a known version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// When it was written.
    pub written: Hlc,
    /// When it expires, wall-clock milliseconds.
    pub expires_ms: Option<u64>,
    /// Where the value begins.
    pub bytes: usize,
}

impl Head {
    /// Reads the head of `body`; its first [`HEAD_BYTES_MAX`] bytes suffice. `None`: written by a
    /// newer version, or not a body at all.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (&[version, flags], rest) = body.split_first_chunk::<2>()?;
        if version != VERSION || flags & !FLAG_EXPIRES != 0 {
            return None;
        }
        let (written, rest) = rest.split_first_chunk::<8>()?;
        let written = Hlc(u64::from_be_bytes(*written));
        if flags & FLAG_EXPIRES == 0 {
            return Some(Self { written, expires_ms: None, bytes: 10 });
        }
        let expiry = rest.first_chunk::<8>()?;
        Some(Self { written, expires_ms: Some(u64::from_be_bytes(*expiry)), bytes: HEAD_BYTES_MAX })
    }

    /// Whether reads at `wall_ms` return this body's value.
    pub fn is_visible(&self, wall_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires| wall_ms < expires)
    }
}

/// Whether bytes are acceptable as a body: well-formed, or of a newer version.
pub(crate) fn is_acceptable(body: &[u8]) -> bool {
    match body {
        [VERSION, flags, ..] if flags & !FLAG_EXPIRES == 0 => Head::parse(body).is_some(),
        [] => false,
        _ => true,
    }
}

/// Writes a body.
pub(crate) fn encode(written: Hlc, expires_ms: Option<u64>, value: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX + value.len());
    bytes.push(VERSION);
    bytes.push(if expires_ms.is_some() { FLAG_EXPIRES } else { 0 });
    bytes.extend_from_slice(&written.0.to_be_bytes());
    if let Some(expires) = expires_ms {
        bytes.extend_from_slice(&expires.to_be_bytes());
    }
    bytes.extend_from_slice(value);
    bytes.into()
}

/// The hash of the content of a dot: the first 16 bytes of blake3 over dot, place and body.
pub(crate) fn content_hash(actor: ActorId, seq: u64, place: &[u8], body: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&actor.0);
    hasher.update(&seq.to_le_bytes());
    hasher.update(&(place.len() as u32).to_le_bytes());
    hasher.update(place);
    hasher.update(body);
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip() {
        for expires_ms in [None, Some(77)] {
            let body = encode(Hlc(5), expires_ms, b"value");
            let head = Head::parse(&body).expect("well-formed");
            assert_eq!((head.written, head.expires_ms), (Hlc(5), expires_ms));
            assert_eq!(&body[head.bytes..], b"value");
            assert!(is_acceptable(&body));
        }
    }

    #[test]
    fn newer_bodies_are_acceptable_and_broken_ones_are_not() {
        assert!(is_acceptable(&[2]));
        assert!(is_acceptable(&[1, 0x80]));
        assert!(Head::parse(&[1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(!is_acceptable(&[]));
        assert!(!is_acceptable(&[1, 1, 0, 0, 0, 0, 0, 0, 0, 9]));
    }
}
