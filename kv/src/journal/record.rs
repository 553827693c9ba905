//! Records of a segment, and the rows in a record.
//!
//! ```text
//! record   checksum of the head (8), of the body (8), synced (8), length of the body (8), body, zeros up to a multiple of 8
//! head     version (1), number of the segment before (8), where it ends (8)     the first record of a segment
//! rows     for each: 1, length of the key (2), of the row (4), key, row         a row that is written
//!                    0, length of the key (2), key                              a row that is removed
//! ```
//!
//! Numbers are little endian. A checksum is the start of a blake3 hash; that of the head covers number of the segment,
//! offset of the record, checksum of the body, `synced` and length. Files are reused, and no record of an earlier segment
//! counts in a later one.

use std::ops::Range;

use crate::codec::Input;

/// Bytes before the body of a record.
pub const HEAD_BYTES: u64 = 32;
/// Bytes of a record's body, at most: far more than what one write has.
pub const RECORD_BYTES_MAX: u64 = 1 << 30;
/// Version of the segments.
pub const VERSION: u8 = 1;
/// Bytes of a segment's first record.
pub const FIRST_BYTES: u64 = HEAD_BYTES + 24;

const PUT: u8 = 1;
const DELETE: u8 = 0;

/// The place after a record whose body has so many bytes.
pub fn end(offset: u64, body_bytes: u64) -> u64 {
    (offset + HEAD_BYTES + body_bytes).next_multiple_of(8)
}

/// Encodes a record.
pub fn seal(segment: u64, offset: u64, synced: u64, body: &[u8]) -> Vec<u8> {
    let bytes = (end(offset, body.len() as u64) - offset) as usize;
    let head = Head { body_sum: checksum(&[body]), synced, bytes: body.len() as u64 };
    let mut record = Vec::with_capacity(bytes);
    record.extend_from_slice(&head.checksum(segment, offset));
    record.extend_from_slice(&head.body_sum);
    record.extend_from_slice(&synced.to_le_bytes());
    record.extend_from_slice(&head.bytes.to_le_bytes());
    record.extend_from_slice(body);
    record.resize(bytes, 0);
    record
}

/// The head of a record.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    body_sum: [u8; 8],
    /// The position that was durable when the record was written.
    pub synced: u64,
    /// Length of the body.
    pub bytes: u64,
}

impl Head {
    /// Decodes the head of the record at an offset; `None` if it is none.
    pub fn decode(segment: u64, offset: u64, bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        let (sum, body_sum): ([u8; 8], _) = (input.array()?, input.array()?);
        let (synced, bytes) = (u64::from_le_bytes(input.array()?), u64::from_le_bytes(input.array()?));
        let head = Self { body_sum, synced, bytes };
        // Every eighth byte may be asked about: most are no head even without a checksum.
        let is_possible = bytes != 0 && bytes <= RECORD_BYTES_MAX && synced >> 32 <= segment;
        (is_possible && sum == head.checksum(segment, offset)).then_some(head)
    }

    /// Whether the body is that of the record.
    pub fn has(&self, body: &[u8]) -> bool {
        self.bytes == body.len() as u64 && self.body_sum == checksum(&[body])
    }

    fn checksum(&self, segment: u64, offset: u64) -> [u8; 8] {
        let numbers = [segment, offset, self.synced, self.bytes].map(u64::to_le_bytes);
        checksum(&[numbers.as_flattened(), &self.body_sum])
    }
}

fn checksum(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// The body of a segment's first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct First {
    pub version: u8,
    /// The segment before; 0: none.
    pub previous: u64,
    /// The end of the last record there.
    pub previous_end: u64,
}

impl First {
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.version];
        body.extend_from_slice(&self.previous.to_le_bytes());
        body.extend_from_slice(&self.previous_end.to_le_bytes());
        body
    }

    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut input = Input::new(body);
        let (version, previous, end) = (input.byte()?, input.array()?, input.array()?);
        let (previous, previous_end) = (u64::from_le_bytes(previous), u64::from_le_bytes(end));
        Some(Self { version, previous, previous_end })
    }
}

/// Appends a row that is written to a body. Returns where in the body the row begins.
pub fn put_row(body: &mut Vec<u8>, key: &[u8], row: &[u8]) -> usize {
    body.push(PUT);
    body.extend_from_slice(&(key.len() as u16).to_le_bytes());
    body.extend_from_slice(&(row.len() as u32).to_le_bytes());
    body.extend_from_slice(key);
    let at = body.len();
    body.extend_from_slice(row);
    at
}

/// Appends the removal of a row to a body.
pub fn put_removal(body: &mut Vec<u8>, key: &[u8]) {
    body.push(DELETE);
    body.extend_from_slice(&(key.len() as u16).to_le_bytes());
    body.extend_from_slice(key);
}

/// The function that gets each row of a body: its key, and where in the body the row is; `None` for a removal.
pub type RowVisitor<'v> = dyn FnMut(&[u8], Option<Range<usize>>) + 'v;

/// Calls `visit` with each row of a body. Returns whether the body is well-formed.
pub fn rows(body: &[u8], visit: &mut RowVisitor<'_>) -> bool {
    let mut at = 0;
    let mut take = |bytes: usize| {
        let end = at + bytes;
        let taken = body.get(at..end).map(|taken| (taken, at..end));
        at = end;
        taken
    };
    loop {
        let Some((kind, _)) = take(1) else { return true };
        let Some((key_bytes, _)) = take(2) else { return false };
        let key_bytes = usize::from(u16::from_le_bytes([key_bytes[0], key_bytes[1]]));
        let mut row_bytes = None;
        if kind[0] == PUT {
            let Some((bytes, _)) = take(4) else { return false };
            row_bytes = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        }
        let Some((key, _)) = take(key_bytes) else { return false };
        match row_bytes {
            None => visit(key, None),
            Some(bytes) => {
                let Some((_, place)) = take(bytes) else { return false };
                visit(key, Some(place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes on disk of version 1.
    #[test]
    fn records_are_as_they_were() {
        let mut body = Vec::new();
        assert_eq!(put_row(&mut body, b"key", b"row"), 10);
        put_removal(&mut body, b"old");
        assert_eq!(body, *b"\x01\x03\0\x03\0\0\0keyrow\0\x03\0old");
        let record = seal(7, 56, 9, &body);
        assert_eq!(record[16..32], *b"\x09\0\0\0\0\0\0\0\x13\0\0\0\0\0\0\0");
        assert_eq!((&record[32..51], record.len()), (&body[..], 56));
        assert_eq!(record[..16], [59, 214, 15, 66, 253, 122, 79, 106, 43, 245, 214, 213, 67, 80, 241, 51]);
        let first = First { version: VERSION, previous: 6, previous_end: 300 };
        assert_eq!(first.encode(), *b"\x01\x06\0\0\0\0\0\0\0\x2c\x01\0\0\0\0\0\0");
        assert_eq!(First::decode(&first.encode()), Some(first));
    }

    #[test]
    fn no_head_with_a_flipped_bit_or_at_another_place_is_one() {
        let record = seal(7, 56, 9, b"body");
        let head = Head::decode(7, 56, &record).expect("its head");
        assert!(head.has(b"body") && !head.has(b"bodz"));
        assert!(Head::decode(8, 56, &record).is_none() && Head::decode(7, 64, &record).is_none());
        for at in 0..HEAD_BYTES as usize {
            let mut bad = record.clone();
            bad[at] ^= 1;
            assert!(Head::decode(7, 56, &bad).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_body_that_is_cut_is_not_well_formed() {
        let mut body = Vec::new();
        put_row(&mut body, b"key", b"row");
        put_removal(&mut body, b"old");
        let mut seen = Vec::new();
        assert!(rows(&body, &mut |key, row| seen.push((key.to_vec(), row))));
        assert_eq!(seen, [(b"key".to_vec(), Some(10..13)), (b"old".to_vec(), None)]);
        for cut in (1..body.len()).filter(|cut| *cut != 13) {
            assert!(!rows(&body[..cut], &mut |_, _| {}), "cut at {cut}");
        }
    }
}
