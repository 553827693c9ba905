//! Cells: the live versions at a place, as one row.
//!
//! `[format: u8 = 1]`, then per version `[actor: varint][seq: varint][length of body * 2 + split:
//! varint]` and the body, or, split, its first [`HEAD_BYTES_MAX`] bytes: the rest is a row of its
//! own under the dot, so that adding or superseding a sibling does not rewrite the others.

use bytes::Bytes;

use crate::Error;
use crate::body::{HEAD_BYTES_MAX, Head, content_hash};
use crate::codec::{Input, put_varint};
use crate::dot::LocalDot;
use crate::engine::{Family, View};
use crate::{ActorId, Engine};

const FORMAT: u8 = 1;

/// Bodies above this many bytes are split. A guess: well above what is worth a second row, and
/// small enough that a cell of a few siblings stays near the size of a block.
const INLINE_BYTES_MAX: usize = 4096;

/// One live version at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub dot: LocalDot,
    pub body: Body,
    /// Its content hash, if it is known already.
    pub hash: Option<u128>,
}

/// A body, in the cell or split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Its first [`HEAD_BYTES_MAX`] bytes; the rest is in [`Family::Bodies`].
    Head(Bytes),
}

/// A source of single rows.
pub(crate) trait Rows {
    fn row(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
}

/// The latest state of an engine.
pub(crate) struct Latest<'e, E>(pub &'e E);

impl<E: Engine> Rows for Latest<'_, E> {
    fn row(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(family, key)
    }
}

impl<V: View> Rows for V {
    fn row(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.get(family, key)
    }
}

impl Stored {
    /// The head of the body, if this version of Starling can read it.
    pub fn head(&self) -> Option<Head> {
        match &self.body {
            Body::Whole(bytes) | Body::Head(bytes) => Head::parse(bytes),
        }
    }

    /// Whether the rest of the body has a row of its own.
    pub fn is_split(&self) -> bool {
        match &self.body {
            Body::Whole(bytes) => bytes.len() > INLINE_BYTES_MAX,
            Body::Head(_) => true,
        }
    }

    /// The whole body, read from `rows` if it is split.
    pub fn whole(&self, rows: &impl Rows) -> Result<Bytes, Error> {
        match &self.body {
            Body::Whole(bytes) => Ok(bytes.clone()),
            Body::Head(head) => {
                let rest = rows.row(Family::Bodies, &self.dot.row_key())?;
                let rest = rest.ok_or_else(|| Error::corrupt(format!("no body for {:?}", self.dot)))?;
                Ok([head, &rest[..]].concat().into())
            }
        }
    }

    /// The part of the body in a row of its own, if it is split.
    pub fn split_rest(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Whole(bytes) if self.is_split() => Some(&bytes[HEAD_BYTES_MAX..]),
            _ => None,
        }
    }

    /// The content hash. That of a split body is read from the row of its live dot: the body itself, up to
    /// 1 MiB, is not.
    pub fn content_hash(&self, actor: ActorId, place: &[u8], rows: &impl Rows) -> Result<u128, Error> {
        match (self.hash, &self.body) {
            (Some(hash), _) => Ok(hash),
            (None, Body::Whole(body)) => Ok(content_hash(actor, self.dot.seq, place, body)),
            (None, Body::Head(_)) => {
                #[cfg(planted)]
                if starling_planted::on(starling_planted::Bug::DeadBodiesRead) {
                    return Ok(content_hash(actor, self.dot.seq, place, &self.whole(rows)?));
                }
                let row = rows.row(Family::Dots, &self.dot.row_key())?;
                let row = row.ok_or_else(|| Error::corrupt(format!("no row for {:?}", self.dot)))?;
                Ok(DotRow::decode(&row)?.hash)
            }
        }
    }
}

/// Whether the cell holds a version that was written after that of `dot`.
pub(crate) fn is_followed(cell: &[Stored], dot: LocalDot) -> bool {
    let written = |version: &Stored| version.head().map(|head| head.written);
    let own = cell.iter().find(|version| version.dot == dot).and_then(written);
    own.is_some_and(|own| cell.iter().filter_map(written).any(|other| other > own))
}

/// Writes the row of a cell.
pub(crate) fn encode(versions: &[Stored]) -> Vec<u8> {
    let mut row = Vec::with_capacity(16 + versions.len() * 128);
    row.push(FORMAT);
    for version in versions {
        put_varint(&mut row, u64::from(version.dot.actor));
        put_varint(&mut row, version.dot.seq);
        match &version.body {
            Body::Whole(bytes) if bytes.len() <= INLINE_BYTES_MAX => {
                put_varint(&mut row, (bytes.len() as u64) << 1);
                row.extend_from_slice(bytes);
            }
            Body::Whole(bytes) | Body::Head(bytes) => {
                put_varint(&mut row, 1);
                row.extend_from_slice(&bytes[..HEAD_BYTES_MAX]);
            }
        }
    }
    row
}

/// Reads the row of a cell.
pub(crate) fn decode(row: Vec<u8>) -> Result<Vec<Stored>, Error> {
    let row = Bytes::from(row);
    let mut input = Input::new(&row);
    let mut versions = Vec::new();
    let mut read = || {
        if input.byte()? != FORMAT {
            return None;
        }
        while !input.is_empty() {
            let actor = u32::try_from(input.varint()?).ok()?;
            let dot = LocalDot { actor, seq: input.varint()? };
            let length = input.varint()?;
            let body = if length & 1 == 1 {
                Body::Head(row.slice_ref(input.take(HEAD_BYTES_MAX)?))
            } else {
                Body::Whole(row.slice_ref(input.take(usize::try_from(length >> 1).ok()?)?))
            };
            versions.push(Stored { dot, body, hash: None });
        }
        Some(())
    };
    read().ok_or_else(|| Error::corrupt("a cell cannot be read"))?;
    Ok(versions)
}

/// The versions at `place`.
pub(crate) fn read(rows: &impl Rows, place: &[u8]) -> Result<Vec<Stored>, Error> {
    rows.row(Family::Cells, place)?.map_or_else(|| Ok(Vec::new()), decode)
}

/// The row of a live dot in [`Family::Dots`].
pub(crate) struct DotRow {
    pub hash: u128,
    pub place: Vec<u8>,
}

impl DotRow {
    pub fn encode(hash: u128, place: &[u8]) -> Vec<u8> {
        [&hash.to_le_bytes(), place].concat()
    }

    pub fn decode(row: &[u8]) -> Result<Self, Error> {
        let (hash, place) =
            row.split_first_chunk::<16>().ok_or_else(|| Error::corrupt("the row of a dot is too short"))?;
        Ok(Self { hash: u128::from_le_bytes(*hash), place: place.to_vec() })
    }
}

/// The key of a row in [`Family::Ttl`].
pub(crate) fn ttl_key(expires_ms: u64, dot: LocalDot) -> Vec<u8> {
    [&expires_ms.to_be_bytes()[..], &dot.row_key()].concat()
}

/// The inverse of [`ttl_key`].
pub(crate) fn parse_ttl_key(key: &[u8]) -> Option<(u64, LocalDot)> {
    let (expires, dot) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*expires), LocalDot::from_row_key(dot)?))
}
