//! The rows of a group's log.
//!
//! ```text
//! key    group (16 bytes), kind (1 byte), for a run of entries: index of the first (8 bytes, big endian)
//! value  version (1 byte), checksum (8 bytes), body
//! ```
//!
//! Entries that were appended together are one row, a *run*, of up to [`RUN_BYTES`]: a row costs more than the
//! bytes of a small entry, both to write and to remove.
//!
//! The checksum is the start of blake3 over key, version and body. It detects a damaged row, and a row under
//! another row's key.

use bincode::config;
use bincode::{Decode, Encode};
use raft::eraftpb::{Entry, EntryType};

use super::entry_bytes;
use crate::members::Members;

/// Version of every row of the log.
pub const VERSION: u8 = 1;
/// The rows of term and vote and of the members, in [`Family::Raft`], of a log that is in [`Family::Journal`]. Release 0.1.0
/// takes them for a later version, and does not open the log.
///
/// [`Family::Raft`]: starling_kv::engine::Family::Raft
/// [`Family::Journal`]: starling_kv::engine::Family::Journal
pub const IN_JOURNAL: [u8; 1] = [2];
const CHECKSUM_BYTES: usize = 8;
/// Bytes of memory that decoding a row may allocate, at most.
const ROW_MEMORY_MAX: usize = 1 << 20;

const TAIL: u8 = 0;
const BASE: u8 = 1;
const RUN: u8 = 2;
const COMMIT: u8 = 3;
const LOST: u8 = 4;
const ASIDE: u8 = 5;
const MARKS: u8 = 6;
const RECOVERIES: u8 = 7;
const HOSTS: u8 = 8;
const FORMER: u8 = 9;

/// Bytes of entries in one row, about; one entry is a row whatever its size. A guess.
const RUN_BYTES: usize = 64 << 10;
/// Bytes before each entry's context and data: type, term, lengths of context and data.
const ENTRY_HEAD_BYTES: usize = 1 + 8 + 4 + 4;

/// This member's term and vote, and the end of its log. Written with every change of them and every append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Tail {
    /// The current term.
    pub term: u64,
    /// The member that this one voted for in that term; 0: none.
    pub vote: u64,
    /// The last entry: a log without it does not open.
    pub last_index: u64,
    pub last_term: u64,
}

/// The beginning of the log, and the members. Written when the log is created, compacted or replaced, and when the
/// members change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Base {
    /// The entry before the first one in the log. The state machine contains it.
    pub index: u64,
    pub term: u64,
    /// The members as of entry `members_at`, which last changed them.
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

/// The key of the commit index as of the last append that changes the members, and in the journal as of the last append
/// and the last applied entry; see [`super::Log::append`]. A row of its own, because release 0.1.0 reads the other rows and does not know this one.
pub fn commit_key(group: &[u8; 16]) -> Key {
    key(group, COMMIT)
}

/// The key of the marks of [`super::Log::keep_marks`]. A row of its own, which release 0.1.0 does not know.
pub fn marks_key(group: &[u8; 16]) -> Key {
    key(group, MARKS)
}

/// The key of the mark that the engine has lost synced rows, perhaps of this log; see [`super::LogError::Lost`].
pub fn lost_key(group: &[u8; 16]) -> Key {
    key(group, LOST)
}

/// The key of the mark that the replica is kept aside; see `aside`. Release 0.1.0 does not know it, and opens the log: the
/// other members then notify it again that it was removed.
pub fn aside_key(group: &[u8; 16]) -> Key {
    key(group, ASIDE)
}

/// The key of the group's unsafe recoveries; see `recoveries`. A row of its own, which release 0.1.0 does not know.
pub fn recoveries_key(group: &[u8; 16]) -> Key {
    key(group, RECOVERIES)
}

/// The key of the nodes of an invitation; see `hosts`. A row of its own, which release 0.1.0 does not know.
pub fn hosts_key(group: &[u8; 16]) -> Key {
    key(group, HOSTS)
}

/// The key of the members before unsafe recovery; see `hosts`. A row of its own, which release 0.1.0 does not know.
pub fn former_key(group: &[u8; 16]) -> Key {
    key(group, FORMER)
}

fn key(group: &[u8; 16], kind: u8) -> Key {
    let mut key = [kind; 17];
    key[..16].copy_from_slice(group);
    key
}

/// The key of the run that begins with entry `first`.
pub fn run_key(group: &[u8; 16], first: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.extend_from_slice(group);
    key.push(RUN);
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// The index in a run's key.
fn index_of(key: &[u8]) -> Option<u64> {
    key.get(17..)?.try_into().ok().map(u64::from_be_bytes)
}

pub fn seal<T: Encode>(key: &[u8], record: &T) -> Vec<u8> {
    let mut row = vec![0; 1 + CHECKSUM_BYTES];
    bincode::encode_into_std_write(record, &mut row, config::standard())
        .expect("writing to a Vec does not fail");
    close(key, row)
}

/// The version of a row, if it is later than [`VERSION`].
pub fn later_version(row: &[u8]) -> Option<u8> {
    row.first().copied().filter(|version| *version > VERSION)
}

/// Decodes the row that [`seal`] encoded for `key`; `None` if it is damaged.
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

/// Splits consecutive entries into runs.
pub fn runs(mut entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let fits = bytes < RUN_BYTES;
            bytes += ENTRY_HEAD_BYTES + entry_bytes(entry);
            fits
        };
        let (run, rest) = entries.split_at(entries.iter().take_while(fits).count());
        entries = rest;
        (!run.is_empty()).then_some(run)
    })
}

/// Encodes a run. The body has for each entry: type (1 byte), term (8 bytes), lengths of context and data (4 bytes
/// each), context, data; numbers are little endian.
pub fn seal_run(key: &[u8], entries: &[Entry]) -> Vec<u8> {
    let bytes: usize = entries.iter().map(|entry| ENTRY_HEAD_BYTES + entry_bytes(entry)).sum();
    let mut row = Vec::with_capacity(1 + CHECKSUM_BYTES + bytes);
    row.resize(1 + CHECKSUM_BYTES, 0);
    for entry in entries {
        row.push(match entry.get_entry_type() {
            EntryType::EntryNormal => 0,
            EntryType::EntryConfChange => 1,
            EntryType::EntryConfChangeV2 => 2,
        });
        row.extend_from_slice(&entry.term.to_le_bytes());
        row.extend_from_slice(&(entry.context.len() as u32).to_le_bytes());
        row.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
        row.extend_from_slice(&entry.context);
        row.extend_from_slice(&entry.data);
    }
    close(key, row)
}

/// Decodes the row that [`seal_run`] encoded for `key`, at least one entry; `None` if it is damaged.
pub fn open_run(key: &[u8], row: &[u8]) -> Option<Vec<Entry>> {
    let mut rest = checked(key, row)?;
    let first = index_of(key)?;
    let mut entries = Vec::new();
    while entries.is_empty() || !rest.is_empty() {
        let (&kind, after) = rest.split_first()?;
        let (term, after) = after.split_first_chunk::<8>()?;
        let (context, after) = after.split_first_chunk::<4>()?;
        let (data, after) = after.split_first_chunk::<4>()?;
        let (context, after) = after.split_at_checked(u32::from_le_bytes(*context) as usize)?;
        let (data, after) = after.split_at_checked(u32::from_le_bytes(*data) as usize)?;
        let mut entry = Entry::default();
        entry.set_entry_type(entry_type(kind)?);
        entry.term = u64::from_le_bytes(*term);
        entry.index = first.checked_add(entries.len() as u64)?;
        entry.context = context.to_vec().into();
        entry.data = data.to_vec().into();
        entries.push(entry);
        rest = after;
    }
    Some(entries)
}

/// The type of an entry by its number on disk and on the wire.
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

    fn entry(index: u64) -> Entry {
        Entry {
            term: 5,
            index,
            data: b"data".to_vec().into(),
            context: b"context".to_vec().into(),
            ..Entry::default()
        }
    }

    #[test]
    fn a_run_comes_back_and_no_flipped_bit_does() {
        let (key, run) = (run_key(&GROUP, 9), [entry(9), entry(10)]);
        let row = seal_run(&key, &run);
        assert_eq!(open_run(&key, &row).as_deref(), Some(&run[..]));
        assert_eq!(open_run(&run_key(&GROUP, 10), &row), None, "under another key");
        for at in 0..row.len() {
            let mut bad = row.clone();
            bad[at] ^= 1;
            assert_eq!(open_run(&key, &bad), None, "byte {at}");
            assert_eq!(open_run(&key, &row[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn runs_are_of_bounded_size() {
        let sized = |index, bytes| Entry { index, data: vec![0; bytes].into(), ..Entry::default() };
        let entries = [sized(1, RUN_BYTES - 100), sized(2, 99), sized(3, 5 * RUN_BYTES), sized(4, 1)];
        let lengths: Vec<usize> = runs(&entries).map(<[Entry]>::len).collect();
        assert_eq!(lengths, [2, 1, 1]);
        assert_eq!(runs(&[]).count(), 0);
    }

    /// The bytes on disk of version 1.
    #[test]
    fn rows_are_as_they_were() {
        let key = tail_key(&GROUP);
        let tail = Tail { term: 3, vote: 2, last_index: 300, last_term: 3 };
        let row = seal(&key, &tail);
        assert_eq!(row[9..], [3, 2, 251, 44, 1, 3]);
        assert_eq!(open::<Tail>(&key, &row), Some(tail));
        let row = seal_run(&run_key(&GROUP, 9), &[entry(9)]);
        assert_eq!(row[9..], *b"\0\x05\0\0\0\0\0\0\0\x07\0\0\0\x04\0\0\0contextdata");
        assert_eq!(row[..9], [0x01, 0x91, 0x62, 0xa1, 0x9b, 0x74, 0xd0, 0xf1, 0xb8]);
    }
}
