//! Places: (keyspace, key, type, field) as bytes in the same order.
//!
//! `[length of keyspace: u8][keyspace][key, each 00 as 00 FF][00 01][type: u8][field]`. Keys of one
//! keyspace are neighbours and in their own order, and so are the places of one key.

use crate::Kind;
use crate::engine::prefix_end;
use starling_types::eventual::KEYSPACE_BYTES_MAX;

const ZERO: u8 = 0x00;
const ZERO_ESCAPED: u8 = 0xff;
const KEY_END: u8 = 0x01;

/// The prefix of all places of `keyspace`.
pub(crate) fn keyspace_prefix(keyspace: &str) -> Vec<u8> {
    keys_prefix(keyspace, &[])
}

/// The prefix of all places of keys that begin with `prefix`.
pub(crate) fn keys_prefix(keyspace: &str, prefix: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(keyspace.len() + prefix.len() + 4);
    // No place has a longer keyspace name than the limit, so a search for one finds nothing.
    bytes.push(u8::try_from(keyspace.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(keyspace.as_bytes());
    for &byte in prefix {
        bytes.push(byte);
        if byte == ZERO {
            bytes.push(ZERO_ESCAPED);
        }
    }
    bytes
}

/// The prefix of all places of `key`, and of no others.
pub(crate) fn key_prefix(keyspace: &str, key: &[u8]) -> Vec<u8> {
    let mut bytes = keys_prefix(keyspace, key);
    bytes.extend_from_slice(&[ZERO, KEY_END]);
    bytes
}

/// The place of a field (empty for registers and flags).
pub(crate) fn place(keyspace: &str, key: &[u8], kind: Kind, field: &[u8]) -> Vec<u8> {
    let mut bytes = key_prefix(keyspace, key);
    bytes.push(kind as u8);
    bytes.extend_from_slice(field);
    bytes
}

/// The prefix of all places of `key` of one type.
pub(crate) fn kind_prefix(keyspace: &str, key: &[u8], kind: Kind) -> Vec<u8> {
    place(keyspace, key, kind, &[])
}

/// The bounds `[from, to)` of everything that begins with `prefix`.
pub(crate) fn bounds(prefix: Vec<u8>) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = prefix_end(&prefix);
    (prefix, end)
}

/// A parsed place, which borrows its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceRef<'a> {
    /// The keyspace.
    pub keyspace: &'a str,
    /// The key, still escaped, without its end.
    escaped: &'a [u8],
    /// `None`: a type that this version does not know.
    pub kind: Option<Kind>,
    /// The field.
    pub field: &'a [u8],
}

impl<'a> PlaceRef<'a> {
    /// Parses a place; `None` if `bytes` are not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&length, rest) = bytes.split_first()?;
        let (keyspace, rest) = rest.split_at_checked(usize::from(length))?;
        let keyspace = std::str::from_utf8(keyspace).ok()?;
        if keyspace.is_empty() || keyspace.len() > KEYSPACE_BYTES_MAX {
            return None;
        }
        let mut at = 0;
        loop {
            at += rest.get(at..)?.iter().position(|&byte| byte == ZERO)?;
            match *rest.get(at + 1)? {
                ZERO_ESCAPED => at += 2,
                KEY_END => break,
                _ => return None,
            }
        }
        let (&tag, field) = rest.get(at + 2..)?.split_first()?;
        Some(Self { keyspace, escaped: &rest[..at], kind: Kind::from_tag(tag), field })
    }

    /// The key as the client wrote it.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.escaped.len());
        let mut bytes = self.escaped.iter();
        while let Some(&byte) = bytes.next() {
            key.push(byte);
            if byte == ZERO {
                bytes.next();
            }
        }
        key
    }

    /// The length of the prefix that all places of the same key share.
    pub fn key_prefix_bytes(&self) -> usize {
        1 + self.keyspace.len() + self.escaped.len() + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn round_trips(key in key(), field in key(), tag in 1..=Kind::ALL.len() as u8) {
            let kind = Kind::from_tag(tag).expect("known");
            let bytes = place("a.b", &key, kind, &field);
            let parsed = PlaceRef::parse(&bytes).expect("a place");
            prop_assert_eq!(parsed.keyspace, "a.b");
            prop_assert_eq!(parsed.key(), key.clone());
            prop_assert_eq!(parsed.kind, Some(kind));
            prop_assert_eq!(parsed.field, &field[..]);
            let prefix = key_prefix("a.b", &key);
            prop_assert_eq!(&bytes[..parsed.key_prefix_bytes()], &prefix[..]);
        }

        #[test]
        fn order_is_the_keys(a in key(), b in key(), field in key()) {
            let places = (place("k", &a, Kind::Set, &field), place("k", &b, Kind::Register, &[]));
            if a != b {
                prop_assert_eq!(places.0.cmp(&places.1), a.cmp(&b));
            }
        }

        #[test]
        fn prefixes_bound_their_keys(prefix in key(), key in key(), field in key()) {
            let (from, to) = bounds(keys_prefix("k", &prefix));
            let place = place("k", &key, Kind::Map, &field);
            let inside = place >= from && to.is_none_or(|to| place < to);
            prop_assert_eq!(inside, key.starts_with(&prefix));
        }

        #[test]
        fn parsing_is_total(bytes in key()) {
            let _ = PlaceRef::parse(&bytes);
        }
    }
}
