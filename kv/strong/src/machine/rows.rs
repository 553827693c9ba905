//! Keys and contents of a keyspace's rows.
//!
//! The key of every row except the state's begins with the group and a generation. A snapshot is restored into a
//! generation of its own beside the live one, and one write of the state makes it the live one.
//!
//! ```text
//! StrongNow      prefix, key                                    record: the latest of each key
//! StrongPast     prefix, escaped key, 0 0, inverted revision    record superseded, or empty: a deletion
//! StrongChanges  prefix, revision, number of the first change   changes of one revision
//! StrongState    group                                          state
//!                prefix, 'l', lease                             whole time of a lease
//!                prefix, 'k', lease, key                        a lease's key; the row is empty
//!                prefix, 'a', client, slot                      remembered answer
//! ```

use starling_kv::Error;
use starling_kv::codec::{Input, put_bytes, put_varint};
use starling_kv::engine::prefix_end;

use super::GroupId;
use crate::api::{EventKind, KeyValue, Keys, LeaseId, Revision};

/// Bytes of [`Prefix`].
pub(super) const PREFIX_BYTES: usize = 20;
/// The end of an escaped key. A zero byte in the key is written as 0, 255, so that this end sorts before every
/// continuation of the key.
const KEY_END: [u8; 2] = [0, 0];

/// Tag of a lease's row in `StrongState`; the other tags follow.
const TAG_LEASE: u8 = b'l';
const TAG_LEASE_KEY: u8 = b'k';
const TAG_ANSWER: u8 = b'a';

/// The prefix of row keys: group and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix([u8; PREFIX_BYTES]);

impl Prefix {
    pub fn new(group: &GroupId, generation: u32) -> Self {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..16].copy_from_slice(group);
        prefix[16..].copy_from_slice(&generation.to_be_bytes());
        Self(prefix)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first key after all keys with this prefix.
    pub fn end(&self) -> Option<Vec<u8>> {
        prefix_end(&self.0)
    }

    fn with(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(PREFIX_BYTES + parts.iter().map(|part| part.len()).sum::<usize>());
        key.extend_from_slice(&self.0);
        for part in parts {
            key.extend_from_slice(part);
        }
        key
    }

    /// The row key of a key in `StrongNow`.
    pub fn now(&self, key: &[u8]) -> Vec<u8> {
        self.with(&[key])
    }

    /// The range of row keys of a range of keys in `StrongNow`.
    pub fn now_range(&self, keys: &Keys) -> (Vec<u8>, Option<Vec<u8>>) {
        match keys {
            Keys::One(key) => (self.now(key), Some(self.with(&[key, &[0]]))),
            Keys::Range { from, to: Some(to) } => (self.now(from), Some(self.now(to))),
            Keys::Range { from, to: None } => (self.now(from), self.end()),
        }
    }

    /// The row key of a record in `StrongPast`. The newest revision of a key comes first.
    pub fn past(&self, key: &[u8], revision: Revision) -> Vec<u8> {
        let mut row = Vec::with_capacity(PREFIX_BYTES + key.len() + KEY_END.len() + 8);
        row.extend_from_slice(&self.0);
        escape(&mut row, key);
        row.extend_from_slice(&KEY_END);
        row.extend_from_slice(&(!revision).to_be_bytes());
        row
    }

    /// The range of row keys of a range of keys in `StrongPast`.
    pub fn past_range(&self, keys: &Keys) -> (Vec<u8>, Option<Vec<u8>>) {
        let at = |key: &[u8]| self.past_from(key);
        match keys {
            Keys::One(key) => (at(key), Some(self.with_escaped(key, &[0, 1]))),
            Keys::Range { from, to: Some(to) } => (at(from), Some(at(to))),
            Keys::Range { from, to: None } => (at(from), self.end()),
        }
    }

    /// The first row key after all rows of `key` in `StrongPast`.
    pub fn past_after(&self, key: &[u8]) -> Option<Vec<u8>> {
        prefix_end(&self.past_from(key))
    }

    /// The lowest row key of `key` in `StrongPast`.
    pub fn past_from(&self, key: &[u8]) -> Vec<u8> {
        self.with_escaped(key, &KEY_END)
    }

    fn with_escaped(&self, key: &[u8], end: &[u8]) -> Vec<u8> {
        let mut row = self.0.to_vec();
        escape(&mut row, key);
        row.extend_from_slice(end);
        row
    }

    /// The row key of changes in `StrongChanges`: `sub` is the number of the row's first change within the revision.
    pub fn changes(&self, revision: Revision, sub: u32) -> Vec<u8> {
        self.with(&[&revision.to_be_bytes(), &sub.to_be_bytes()])
    }

    pub fn lease(&self, id: LeaseId) -> Vec<u8> {
        self.with(&[&[TAG_LEASE], &id.to_be_bytes()])
    }

    pub fn leases(&self) -> Vec<u8> {
        self.with(&[&[TAG_LEASE]])
    }

    pub fn lease_key(&self, id: LeaseId, key: &[u8]) -> Vec<u8> {
        self.with(&[&[TAG_LEASE_KEY], &id.to_be_bytes(), key])
    }

    pub fn lease_keys(&self) -> Vec<u8> {
        self.with(&[&[TAG_LEASE_KEY]])
    }

    pub fn answer(&self, client: u128, slot: u16) -> Vec<u8> {
        self.with(&[&[TAG_ANSWER], &client.to_be_bytes(), &slot.to_be_bytes()])
    }

    pub fn answers(&self) -> Vec<u8> {
        self.with(&[&[TAG_ANSWER]])
    }

    /// Whether this is the row key of a lease or of a remembered answer.
    pub fn is_lease_or_answer(row_key: &[u8]) -> bool {
        matches!(row_key.get(PREFIX_BYTES..), Some([TAG_LEASE, id @ ..]) if id.len() == 8)
            || matches!(row_key.get(PREFIX_BYTES..), Some([TAG_ANSWER, name @ ..]) if name.len() == 18)
    }
}

fn escape(out: &mut Vec<u8>, key: &[u8]) {
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(255);
        }
    }
}

/// Key and revision in a row key of `StrongPast`.
pub(super) fn past_parts(row_key: &[u8]) -> Result<(Vec<u8>, Revision), Error> {
    let corrupt = || corrupt("a superseded record's key");
    let escaped = row_key.get(PREFIX_BYTES..).ok_or_else(corrupt)?;
    let (escaped, revision) = escaped.split_last_chunk::<8>().ok_or_else(corrupt)?;
    let escaped = escaped.strip_suffix(&KEY_END).ok_or_else(corrupt)?;
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte == 0 && bytes.next() != Some(&255) {
            return Err(corrupt());
        }
        key.push(byte);
    }
    Ok((key, !u64::from_be_bytes(*revision)))
}

/// Revision and number of the first change in a row key of `StrongChanges`.
pub(super) fn changes_parts(row_key: &[u8]) -> Result<(Revision, u32), Error> {
    let mut input = Input::new(row_key.get(PREFIX_BYTES..).unwrap_or_default());
    match (input.array(), input.array(), input.is_empty()) {
        (Some(revision), Some(sub), true) => Ok((u64::from_be_bytes(revision), u32::from_be_bytes(sub))),
        _ => Err(corrupt("a change's key")),
    }
}

/// The highest revision, index or count. Numbers from peers and rows are checked against it, so that arithmetic on
/// them cannot overflow.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// Reads a number of at most [`NUMBER_MAX`].
pub(super) fn number(input: &mut Input<'_>) -> Option<u64> {
    input.varint().filter(|number| *number <= NUMBER_MAX)
}

/// The contents of a row in `StrongNow` or `StrongPast`. An empty row in `StrongPast` is a deletion instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub create: Revision,
    pub modified: Revision,
    pub version: u64,
    pub lease: LeaseId,
    pub value: &'a [u8],
}

/// Bytes allocated for the fields before the value; most records without a lease need less.
const RECORD_HEAD_BYTES: usize = 16;

impl<'a> Record<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(RECORD_HEAD_BYTES + self.value.len());
        put_varint(&mut row, self.create);
        put_varint(&mut row, self.modified - self.create);
        put_varint(&mut row, self.version);
        put_varint(&mut row, self.lease.cast_unsigned());
        row.extend_from_slice(self.value);
        row
    }

    pub fn decode(row: &'a [u8]) -> Result<Self, Error> {
        let mut input = Input::new(row);
        let mut decode = || {
            let create = number(&mut input)?;
            Some(Self {
                create,
                modified: create + number(&mut input)?,
                version: number(&mut input)?,
                lease: input.varint()?.cast_signed(),
                value: input.rest(),
            })
        };
        decode().ok_or_else(|| corrupt("a record"))
    }

    pub fn key_value(&self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: key.to_vec(),
            value: self.value.to_vec(),
            create_revision: self.create,
            mod_revision: self.modified,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// One change in a row of `StrongChanges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    pub kind: EventKind,
    /// Revision of the record that it superseded; 0 if there was none.
    pub superseded: Revision,
    /// Bytes of that record's row.
    pub superseded_bytes: u64,
    pub key: &'a [u8],
}

impl<'a> Listed<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            EventKind::Put => 0,
            EventKind::Delete => 1,
        });
        put_varint(out, self.superseded);
        if self.superseded != 0 {
            put_varint(out, self.superseded_bytes);
        }
        put_bytes(out, self.key);
    }

    /// Decodes all changes of a row.
    pub fn decode_all(row: &'a [u8]) -> Result<Vec<Self>, Error> {
        let mut input = Input::new(row);
        let mut listed = Vec::new();
        while !input.is_empty() {
            let mut decode = || {
                let kind = match input.byte()? {
                    0 => EventKind::Put,
                    1 => EventKind::Delete,
                    _ => return None,
                };
                let superseded = input.varint()?;
                let superseded_bytes = if superseded == 0 { 0 } else { input.varint()? };
                Some(Self { kind, superseded, superseded_bytes, key: input.bytes()? })
            };
            listed.push(decode().ok_or_else(|| corrupt("a list of changes"))?);
        }
        Ok(listed)
    }
}

/// The error for a damaged row of a strong keyspace.
pub(super) fn corrupt(what: &str) -> Error {
    Error::Corrupt { reason: format!("{what} of a strong keyspace does not decode") }
}
