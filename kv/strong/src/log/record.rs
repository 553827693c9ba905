//! The rows of a group's log.
//!
//! ```text
//! key    group (16 bytes), kind (1 byte), of an entry: index (8 bytes, big endian)
//! value  version (1 byte), checksum (8 bytes), body
//! ```
//!
//! The checksum is the start of blake3 over key, version and body: a row that is damaged, or that lies
//! under another row's key, does not match it.

use bincode::config;
use bincode::{Decode, Encode};
use raft::eraftpb::{Entry, EntryType};

use crate::members::Members;

/// Version of every row of the log.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
/// Memory that decoding a row may claim beyond its own bytes.
const ROW_MEMORY_MAX: usize = 1 << 20;

const TAIL: u8 = 0;
const BASE: u8 = 1;
const ENTRY: u8 = 2;

/// Written with every change of what this member has promised, and with every append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Tail {
    /// The term it is in.
    pub term: u64,
    /// Whom it voted for in that term; 0: nobody.
    pub vote: u64,
    /// The last entry there is: opening the log has to find it.
    pub last_index: u64,
    pub last_term: u64,
}

/// Written when the log is made, compacted or replaced, and when the members change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Base {
    /// The entry before the first that is kept; what it did is in the state machine.
    pub index: u64,
    pub term: u64,
    /// The members as of entry `members_at`.
    pub members: Members,
    pub members_at: u64,
}

pub type Key = [u8; 17];

pub fn tail_key(group: &[u8; 16]) -> Key {
    key(group, TAIL)
}

pub fn base_key(group: &[u8; 16]) -> Key {
    key(group, BASE)
}

fn key(group: &[u8; 16], kind: u8) -> Key {
    let mut key = [kind; 17];
    key[..16].copy_from_slice(group);
    key
}

pub fn entry_key(group: &[u8; 16], index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.extend_from_slice(group);
    key.push(ENTRY);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// The index in an entry's key.
pub fn index_of(key: &[u8]) -> Option<u64> {
    key.get(17..)?.try_into().ok().map(u64::from_be_bytes)
}

pub fn seal<T: Encode>(key: &[u8], record: &T) -> Vec<u8> {
    let mut row = vec![0; 1 + CHECKSUM_BYTES];
    bincode::encode_into_std_write(record, &mut row, config::standard())
        .expect("writing to a Vec does not fail");
    close(key, row)
}

/// What [`seal`] wrote under `key`; `None`: damaged.
pub fn open<T: Decode<()>>(key: &[u8], row: &[u8]) -> Option<T> {
    let body = checked(key, row)?;
    let (record, used) =
        bincode::decode_from_slice(body, config::standard().with_limit::<ROW_MEMORY_MAX>()).ok()?;
    (used == body.len()).then_some(record)
}

fn close(key: &[u8], mut row: Vec<u8>) -> Vec<u8> {
    row[0] = VERSION;
    let sum = checksum(key, &row[1 + CHECKSUM_BYTES..]);
    row[1..=CHECKSUM_BYTES].copy_from_slice(&sum);
    row
}

fn checked<'r>(key: &[u8], row: &'r [u8]) -> Option<&'r [u8]> {
    let (&version, rest) = row.split_first()?;
    let (sum, body) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    (version == VERSION && *sum == checksum(key, body)).then_some(body)
}

fn checksum(key: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(&[VERSION]).update(body);
    let mut sum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// An entry's row. Body: type (1 byte), term (8 bytes), length of the context (4 bytes), context, data.
pub fn seal_entry(key: &[u8], entry: &Entry) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + CHECKSUM_BYTES + 13 + entry.context.len() + entry.data.len());
    row.resize(1 + CHECKSUM_BYTES, 0);
    row.push(match entry.get_entry_type() {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    });
    row.extend_from_slice(&entry.term.to_le_bytes());
    row.extend_from_slice(&(entry.context.len() as u32).to_le_bytes());
    row.extend_from_slice(&entry.context);
    row.extend_from_slice(&entry.data);
    close(key, row)
}

/// What [`seal_entry`] wrote under `key`; `None`: damaged.
pub fn open_entry(key: &[u8], row: &[u8]) -> Option<Entry> {
    let (&kind, rest) = checked(key, row)?.split_first()?;
    let (term, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (context, data) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let mut entry = Entry::default();
    entry.set_entry_type(entry_type(kind)?);
    entry.term = u64::from_le_bytes(*term);
    entry.index = index_of(key)?;
    entry.context = context.to_vec().into();
    entry.data = data.to_vec().into();
    Some(entry)
}

/// The type of an entry by its number.
pub fn entry_type(kind: u8) -> Option<EntryType> {
    match kind {
        0 => Some(EntryType::EntryNormal),
        1 => Some(EntryType::EntryConfChange),
        2 => Some(EntryType::EntryConfChangeV2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: [u8; 16] = [7; 16];

    fn entry() -> Entry {
        Entry {
            term: 5,
            index: 9,
            data: b"data".to_vec().into(),
            context: b"context".to_vec().into(),
            ..Entry::default()
        }
    }

    #[test]
    fn an_entry_comes_back_and_no_flipped_bit_does() {
        let key = entry_key(&GROUP, 9);
        let row = seal_entry(&key, &entry());
        assert_eq!(open_entry(&key, &row), Some(entry()));
        assert_eq!(open_entry(&entry_key(&GROUP, 10), &row), None, "under another key");
        for at in 0..row.len() {
            let mut bad = row.clone();
            bad[at] ^= 1;
            assert_eq!(open_entry(&key, &bad), None, "byte {at}");
            assert_eq!(open_entry(&key, &row[..at]), None, "cut at {at}");
        }
    }

    /// The bytes on disk, as of version 1.
    #[test]
    fn rows_are_as_they_were() {
        let key = tail_key(&GROUP);
        let tail = Tail { term: 3, vote: 2, last_index: 300, last_term: 3 };
        let row = seal(&key, &tail);
        assert_eq!(row[9..], [3, 2, 251, 44, 1, 3]);
        assert_eq!(open::<Tail>(&key, &row), Some(tail));
        let row = seal_entry(&entry_key(&GROUP, 9), &entry());
        assert_eq!(row[9..], *b"\0\x05\0\0\0\0\0\0\0\x07\0\0\0contextdata");
        assert_eq!(row[..9], [0x01, 0xca, 0xf3, 0xc2, 0xad, 0xa8, 0xc0, 0x00, 0xdd]);
    }
}
