//! Snapshots: the state after one entry, read in bounded chunks while later entries are applied.
//!
//! Records and changes contain their revisions, so that those up to the snapshot's revision can be distinguished
//! from later ones, as long as none is removed: nothing is removed while a snapshot exists. Rows without a
//! revision (leases, remembered answers) are copied when the snapshot begins.
//!
//! A record that was the latest at the snapshot's revision may be superseded while the snapshot is read. Then it
//! moves from `StrongNow` to `StrongPast`. `StrongNow` is read first, so the record is read at least once, and
//! [`super::Restore`] makes it the latest again.

use std::ops::ControlFlow;
use std::sync::Arc;

use starling_kv::codec::{Input, put_bytes, put_varint};
use starling_kv::engine::{Family, View};
use starling_kv::{Engine, Error};

use super::room::Room;
use super::rows::{PREFIX_BYTES, Prefix, Record, changes_parts, past_parts};
use super::state::State;
use super::{Machine, lease_row, load_answers};
use crate::api::Revision;
use crate::codec::Malformed;

/// Format version: the first byte of a chunk.
const FORMAT: u8 = 1;
/// Rows in one chunk, at most. A guess.
const CHUNK_ROWS: usize = 4096;
/// Later rows that are skipped for one chunk, at most. A guess.
const SKIPPED: Room = Room { rows: 4096, bytes: 1 << 20 };
/// Bytes of the checksum that ends a chunk.
pub(super) const CHECKSUM_BYTES: usize = 32;

/// Parts of a snapshot, in the order in which they are read.
pub(super) const PARTS: [Family; 4] =
    [Family::StrongState, Family::StrongNow, Family::StrongPast, Family::StrongChanges];

/// The position of a chunk; the default is that of the first one. Each chunk contains the position of the next one,
/// and a chunk can be read repeatedly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Index into [`PARTS`].
    pub(super) part: u8,
    /// The key of the first row, without its prefix.
    pub(super) from: Vec<u8>,
    /// Checksum of the previous chunk, with which the receiver detects a chunk that is not the next one.
    pub(super) after: [u8; CHECKSUM_BYTES],
}

impl Cursor {
    /// Encodes the position for the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.part];
        bytes.extend_from_slice(&self.after);
        bytes.extend_from_slice(&self.from);
        bytes
    }

    /// Decodes what [`Cursor::encode`] has encoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        match (input.byte(), input.array()) {
            (Some(part), Some(after)) if usize::from(part) < PARTS.len() => {
                Ok(Self { part, after, from: input.rest().to_vec() })
            }
            _ => Err(Malformed { what: "snapshot cursor" }),
        }
    }
}

/// A decoded chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Checksum of the previous chunk.
    pub after: [u8; CHECKSUM_BYTES],
    /// The snapshot's state, in the first chunk only.
    pub state: Option<State>,
    /// Part, row key without its prefix, and row.
    pub rows: Vec<(u8, Vec<u8>, Vec<u8>)>,
    /// Part and row key of the first row of the next chunk; `None` in the last one.
    pub next: Option<(u8, Vec<u8>)>,
}

impl Chunk {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.after);
        put_bytes(&mut bytes, &self.state.as_ref().map_or(Vec::new(), State::encode));
        match &self.next {
            None => bytes.push(u8::MAX),
            Some((part, from)) => {
                bytes.push(*part);
                put_bytes(&mut bytes, from);
            }
        }
        put_varint(&mut bytes, self.rows.len() as u64);
        for (part, row_key, row) in &self.rows {
            bytes.push(*part);
            put_bytes(&mut bytes, row_key);
            put_bytes(&mut bytes, row);
        }
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        bytes
    }

    /// Decodes a chunk, and returns it with its checksum.
    pub fn decode(bytes: &[u8]) -> Result<(Self, [u8; CHECKSUM_BYTES]), Malformed> {
        let malformed = Malformed { what: "snapshot chunk" };
        let (content, checksum) = bytes.split_last_chunk().ok_or(malformed)?;
        if blake3::hash(content).as_bytes() != checksum {
            return Err(Malformed { what: "snapshot chunk: wrong checksum" });
        }
        if content.first().is_some_and(|format| *format > FORMAT) {
            return Err(Malformed { what: "snapshot chunk of a later version: upgrade this node" });
        }
        let chunk = Self::decode_content(Input::new(content)).ok_or(malformed)?;
        Ok((chunk, *checksum))
    }

    fn decode_content(mut input: Input<'_>) -> Option<Self> {
        if input.byte()? != FORMAT {
            return None;
        }
        let after = input.array()?;
        let state = match input.bytes()? {
            [] => None,
            row => Some(State::decode(row).ok()?),
        };
        let part = |input: &mut Input<'_>| input.byte();
        let next = match part(&mut input)? {
            u8::MAX => None,
            next => Some((next, input.bytes()?.to_vec())),
        };
        // A row is encoded in at least three bytes, which bounds the allocation.
        let count = usize::try_from(input.varint()?).ok().filter(|count| *count <= input.rest().len() / 3)?;
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            rows.push((part(&mut input)?, input.bytes()?.to_vec(), input.bytes()?.to_vec()));
        }
        let parts = rows.iter().map(|(part, ..)| *part).chain(next.iter().map(|(part, _)| *part));
        let is_known = parts.into_iter().all(|part| usize::from(part) < PARTS.len());
        (input.is_empty() && is_known).then_some(Self { after, state, rows, next })
    }
}

/// What may still be visited for a chunk.
struct Rooms {
    /// Rows that belong to the snapshot.
    chunk: Room,
    /// Rows that were written after it.
    skipped: Room,
}

/// The state after one entry. It may be read on another thread. Compacted rows are removed only after it is dropped.
pub struct Snapshot<E> {
    engine: E,
    rows: Prefix,
    state: State,
    /// The rows of `StrongState`, in ascending order of their keys, which are without their prefix.
    copied: Vec<(Vec<u8>, Vec<u8>)>,
    _pin: Arc<()>,
}

impl<E: Engine> Machine<E> {
    /// The current state, to be read in chunks.
    pub fn snapshot(&self) -> Result<Snapshot<E>, Error> {
        self.check_sound()?;
        let suffix = |row_key: Vec<u8>| row_key[PREFIX_BYTES..].to_vec();
        let mut copied = Vec::new();
        load_answers(&self.engine, self.rows, &mut |row_key, row| {
            copied.push((suffix(row_key.to_vec()), row.to_vec()));
            Ok(())
        })?;
        let leases = self.leases.iter();
        copied.extend(leases.map(|(id, ttl_ms)| (suffix(self.rows.lease(id)), lease_row(ttl_ms))));
        Ok(Snapshot {
            engine: self.engine.clone(),
            rows: self.rows,
            state: self.state.clone(),
            copied,
            _pin: Arc::clone(&self.pin),
        })
    }
}

impl<E: Engine> Snapshot<E> {
    /// The last entry that it contains.
    pub fn index(&self) -> u64 {
        self.state.applied
    }

    /// The keyspace's revision.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// The rolling hash after [`Snapshot::index`].
    pub fn hash(&self) -> [u8; 32] {
        self.state.hash
    }

    /// Encodes the chunk at `cursor`, of about `bytes_max` bytes or with one row.
    pub fn chunk(&self, cursor: &Cursor, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let state = (*cursor == Cursor::default()).then(|| self.state.clone());
        let mut chunk = Chunk { after: cursor.after, state, rows: Vec::new(), next: None };
        let mut rooms = Rooms { chunk: Room { rows: CHUNK_ROWS, bytes: bytes_max }, skipped: SKIPPED };
        let mut from = cursor.from.as_slice();
        for part in cursor.part..PARTS.len() as u8 {
            self.read_part(part, from, &mut rooms, &mut chunk)?;
            if chunk.next.is_some() {
                break;
            }
            from = &[];
        }
        Ok(chunk.encode())
    }

    fn read_part(&self, part: u8, from: &[u8], rooms: &mut Rooms, chunk: &mut Chunk) -> Result<(), Error> {
        let mut see = |suffix: &[u8], row: &[u8], belongs: bool| {
            let room = if belongs { &mut rooms.chunk } else { &mut rooms.skipped };
            if !room.take(suffix.len() + row.len()) {
                chunk.next = Some((part, suffix.to_vec()));
                return ControlFlow::Break(());
            }
            if belongs {
                chunk.rows.push((part, suffix.to_vec(), row.to_vec()));
            }
            ControlFlow::Continue(())
        };
        let family = PARTS[usize::from(part)];
        if family == Family::StrongState {
            let start = self.copied.partition_point(|(suffix, _)| suffix.as_slice() < from);
            for (suffix, row) in &self.copied[start..] {
                if see(suffix, row, true).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let begin = [self.rows.bytes(), from].concat();
        self.engine.view().scan(family, &begin, self.rows.end().as_deref(), &mut |row_key, row| {
            Ok(see(&row_key[PREFIX_BYTES..], row, self.belongs(family, row_key, row)?))
        })
    }

    fn belongs(&self, family: Family, row_key: &[u8], row: &[u8]) -> Result<bool, Error> {
        let revision = match family {
            Family::StrongNow => Record::decode(row)?.modified,
            Family::StrongPast => past_parts(row_key)?.1,
            _ => changes_parts(row_key)?.0,
        };
        Ok(revision <= self.state.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_a_later_version_is_named_as_such() {
        let chunk = Chunk { after: [0; CHECKSUM_BYTES], state: None, rows: Vec::new(), next: None };
        let mut bytes = chunk.encode();
        assert_eq!(Chunk::decode(&bytes).map(|(chunk, _)| chunk), Ok(chunk));
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        bytes[0] = FORMAT + 1;
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        let error = Chunk::decode(&bytes).expect_err("is of a later version").to_string();
        assert!(error.contains("later version"), "{error}");
    }
}
