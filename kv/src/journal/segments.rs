//! Append-only segments of opaque records, one file each.
//!
//! A record that does not match its checksum is either damage, or the end of what a power failure has left. It is damage
//! if it lies before a position that is known to have been durable: the one that was noted after the last sync, or one
//! that a valid record names, be it behind the bad one (Alagappan et al., Protocol-Aware Recovery, FAST 2018).
//!
//! Nothing is appended behind the end that was found when the segments were opened: what follows it there may be valid
//! records that were never durable. The first append begins a new segment, which names its predecessor and its end.

use std::collections::BTreeMap;

use super::files::Files;
use super::record::{self, FIRST_BYTES, First, HEAD_BYTES, Head, RECORD_BYTES_MAX, VERSION};
use crate::Error;

/// Bytes of a segment; one record is a segment whatever its size. A guess: small against what is kept of a group's log,
/// and large against the cost of a new file.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes that are read at once when segments are opened.
const READ_BYTES: usize = 1 << 20;

/// A place in the segments: number of the segment and offset. Positions grow with each append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    /// The position of an offset in a segment.
    pub fn new(segment: u64, offset: u64) -> Self {
        Self(segment << 32 | offset)
    }
}

/// Records that were durable, and do not match their checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecords {
    /// Up to this position records were durable.
    pub synced: Position,
    /// The first record that is damaged.
    pub found: Position,
}

/// What a sync that begins now makes durable.
#[derive(Clone, Debug, Default)]
pub struct SyncPoint {
    position: Position,
    /// Segments with unsynced records, and their ends.
    pub segments: Vec<(u64, u64)>,
    /// How many segments were created so far.
    created: u64,
    /// Whether some of them may not be there after a crash.
    pub names: bool,
}

/// The segment that is appended to.
#[derive(Clone, Copy, Debug)]
struct Active {
    number: u64,
    /// Bytes that the file has room for.
    bytes: u64,
}

/// The function that gets each record when segments are opened: its segment, the offset of its body, and the body.
pub type Visitor<'v> = dyn FnMut(u64, u64, &[u8]) + 'v;

/// The segments of a directory.
#[derive(Debug)]
pub struct Segments<F> {
    pub files: F,
    /// The end of the last record of each segment.
    ends: BTreeMap<u64, u64>,
    active: Option<Active>,
    next: u64,
    synced: Position,
    unsynced: BTreeMap<u64, u64>,
    created: u64,
    created_synced: u64,
}

impl<F: Files> Segments<F> {
    /// Opens the segments, and passes all records to `visit`, in order. Returns what is damaged, if anything is: then
    /// only the records before it were passed.
    pub fn open(files: F, visit: &mut Visitor<'_>) -> Result<(Self, Option<LostRecords>), Error> {
        let mut opening = Opening::begin(files)?;
        let lost = opening.read_all(visit)?;
        let Opening { files, numbers, ends, synced, .. } = opening;
        let next = numbers.last().map_or(0, |last| *last).max(synced.0 >> 32) + 1;
        // Files that do not count are not in the way: their numbers are not used again.
        for number in numbers.iter().filter(|number| !ends.contains_key(number)) {
            files.remove(*number)?;
        }
        // An earlier run may have died before it synced what it wrote.
        let is_unsynced = |(number, end): &(&u64, &u64)| Position::new(**number, **end) > synced;
        let unsynced: BTreeMap<u64, u64> =
            ends.iter().filter(is_unsynced).map(|(number, end)| (*number, *end)).collect();
        let created = u64::from(!unsynced.is_empty());
        let segments = Self { files, ends, active: None, next, synced, unsynced, created, created_synced: 0 };
        Ok((segments, lost))
    }

    /// Appends a record. Returns its segment and the offset of its body. On an error nothing has changed.
    pub fn append(&mut self, body: &[u8]) -> Result<(u64, u64), Error> {
        if body.len() as u64 > RECORD_BYTES_MAX {
            return Err(Error::Storage { reason: format!("a record of {} bytes is too large", body.len()) });
        }
        let needed = record::end(0, body.len() as u64);
        let has_room = |active: &Active| self.ends[&active.number] + needed <= active.bytes;
        let number = match self.active.filter(has_room) {
            Some(active) => active.number,
            None => self.begin_segment(FIRST_BYTES + needed)?,
        };
        let offset = self.ends[&number];
        let sealed = record::seal(number, offset, self.synced.0, body);
        self.files.write(number, offset, &sealed)?;
        self.ended(number, offset + sealed.len() as u64);
        Ok((number, offset + HEAD_BYTES))
    }

    fn begin_segment(&mut self, needed: u64) -> Result<u64, Error> {
        let (number, bytes) = (self.next, needed.max(SEGMENT_BYTES));
        // Whatever becomes of the file: its number is not used again.
        self.next += 1;
        self.files.create(number, bytes)?;
        let (previous, previous_end) = self.ends.last_key_value().map_or((0, 0), |(at, end)| (*at, *end));
        let first = First { version: VERSION, previous, previous_end }.encode();
        let sealed = record::seal(number, 0, self.synced.0, &first);
        if let Err(error) = self.files.write(number, 0, &sealed) {
            let _ = self.files.remove(number);
            return Err(error);
        }
        self.created += 1;
        self.active = Some(Active { number, bytes });
        self.ended(number, sealed.len() as u64);
        Ok(number)
    }

    fn ended(&mut self, number: u64, end: u64) {
        self.ends.insert(number, end);
        self.unsynced.insert(number, end);
    }

    /// What a sync that begins now has to make durable.
    pub fn begin_sync(&self) -> SyncPoint {
        let (number, end) = self.ends.last_key_value().map_or((0, 0), |(at, end)| (*at, *end));
        SyncPoint {
            position: Position::new(number, end),
            segments: self.unsynced.iter().map(|(number, end)| (*number, *end)).collect(),
            created: self.created,
            names: self.created != self.created_synced,
        }
    }

    /// Records the end of a sync. Returns the position that is durable now.
    pub fn end_sync(&mut self, point: &SyncPoint) -> Position {
        for (number, end) in &point.segments {
            if self.unsynced.get(number) == Some(end) {
                self.unsynced.remove(number);
            }
        }
        self.created_synced = self.created_synced.max(point.created);
        self.synced = self.synced.max(point.position);
        self.synced
    }

    /// The end of the last record.
    pub fn position(&self) -> Position {
        self.begin_sync().position
    }

    /// The oldest segment, unless it is the one that is appended to.
    pub fn first(&self) -> Option<u64> {
        let (first, _) = self.ends.first_key_value()?;
        (self.ends.len() > 1).then_some(*first)
    }

    /// The numbers of all segments, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.ends.keys().copied()
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Forgets the oldest segment. The caller removes its file.
    pub fn release_first(&mut self) {
        if let Some((number, _)) = self.ends.pop_first() {
            self.unsynced.remove(&number);
        }
    }

    /// The records of a segment from an offset on, up to about so many bytes: the offset and the content of each body.
    /// Returns where to continue; `None` at the end.
    pub fn records(
        &self,
        number: u64,
        from: u64,
        bytes: u64,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<u64>, Error> {
        let mut offset = from.max(FIRST_BYTES);
        let end = self.ends.get(&number).copied().unwrap_or_default();
        while offset < end {
            if offset >= from.max(FIRST_BYTES) + bytes {
                return Ok(Some(offset));
            }
            let damaged = || Error::corrupt(format!("record at {offset} of segment {number}"));
            let head = self.files.read(number, offset, HEAD_BYTES as usize)?;
            let head = Head::decode(number, offset, &head).ok_or_else(damaged)?;
            let body = self.files.read(number, offset + HEAD_BYTES, head.bytes as usize)?;
            if !head.has(&body) {
                return Err(damaged());
            }
            visit(number, offset + HEAD_BYTES, &body);
            offset = record::end(offset, head.bytes);
        }
        Ok(None)
    }
}

/// Segments that are being opened.
struct Opening<F> {
    files: F,
    numbers: Vec<u64>,
    /// The first record of each file that has one.
    firsts: BTreeMap<u64, First>,
    ends: BTreeMap<u64, u64>,
    /// The highest position that is known to have been durable.
    synced: Position,
}

/// Reads a file in large pieces.
struct Reader<'f, F> {
    files: &'f F,
    number: u64,
    size: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl<'f, F: Files> Reader<'f, F> {
    fn new(files: &'f F, number: u64) -> Result<Self, Error> {
        let size = files.size(number)?.min(u64::from(u32::MAX));
        Ok(Self { files, number, size, at: 0, bytes: Vec::new() })
    }

    fn read(&mut self, offset: u64, count: usize) -> Result<&[u8], Error> {
        let has = |bytes: &Vec<u8>, at: u64| offset >= at && offset + count as u64 <= at + bytes.len() as u64;
        if !has(&self.bytes, self.at) {
            self.bytes = self.files.read(self.number, offset, count.max(READ_BYTES))?;
            self.at = offset;
        }
        let from = (offset - self.at) as usize;
        Ok(self.bytes.get(from..from + count).unwrap_or_default())
    }

    /// The head of the record at an offset; `None` if there is none that fits into the file.
    fn head(&mut self, offset: u64) -> Result<Option<Head>, Error> {
        let (number, left) = (self.number, self.size.saturating_sub(offset + HEAD_BYTES));
        let head = Head::decode(number, offset, self.read(offset, HEAD_BYTES as usize)?);
        Ok(head.filter(|head| head.bytes <= left))
    }

    /// The record at an offset: its head and its body; `None` if there is no valid one.
    fn record(&mut self, offset: u64) -> Result<Option<(Head, Vec<u8>)>, Error> {
        let Some(head) = self.head(offset)? else { return Ok(None) };
        let body = self.read(offset + HEAD_BYTES, head.bytes as usize)?;
        Ok(head.has(body).then(|| (head, body.to_vec())))
    }
}

impl<F: Files> Opening<F> {
    fn begin(files: F) -> Result<Self, Error> {
        let (numbers, mut firsts) = (files.list()?, BTreeMap::new());
        for number in &numbers {
            let Some((_, body)) = Reader::new(&files, *number)?.record(0)? else { continue };
            let Some(first) = First::decode(&body) else { continue };
            if first.version > VERSION {
                return Err(Error::Format { found: first.version.into(), supported: VERSION.into() });
            }
            firsts.insert(*number, first);
        }
        let synced = Position(files.noted()?.unwrap_or_default());
        Ok(Self { files, numbers, firsts, ends: BTreeMap::new(), synced })
    }

    fn read_all(&mut self, visit: &mut Visitor<'_>) -> Result<Option<LostRecords>, Error> {
        let Some(mut number) = self.numbers.first().copied() else { return Ok(self.judge(Position(0))) };
        if !self.was_released_before(number)? {
            return Ok(self.judge(Position(0)));
        }
        loop {
            let next = self.successor(number);
            let (end, is_whole) = self.read_segment(number, next.map(|(_, end)| end), visit)?;
            if end > 0 {
                self.ends.insert(number, end);
            }
            match next {
                Some((next, _)) if is_whole => number = next,
                _ => {
                    self.look_behind(number, end)?;
                    return Ok(self.judge(Position::new(number, end)));
                }
            }
        }
    }

    /// Whether what precedes the first segment was released, if there was anything: then it was durable, and that it was
    /// is durable too. Otherwise a power failure has taken it, and what follows it does not count.
    fn was_released_before(&mut self, number: u64) -> Result<bool, Error> {
        let before = self.firsts.get(&number).map(|first| Position::new(first.previous, first.previous_end));
        let Some(before) = before.filter(|before| *before > self.synced) else { return Ok(true) };
        self.look_behind(number, 0)?;
        Ok(before <= self.synced)
    }

    /// The segment after this one, and the end that it names. Of several the last one counts: the others were never
    /// durable, and an earlier start has passed over them.
    fn successor(&self, number: u64) -> Option<(u64, u64)> {
        let mut later = self.firsts.range(number + 1..).rev();
        later.find(|(_, first)| first.previous == number).map(|(next, first)| (*next, first.previous_end))
    }

    /// Reads a segment up to its end. Returns where that is, and whether it is the end that the next segment names.
    fn read_segment(
        &mut self,
        number: u64,
        named: Option<u64>,
        visit: &mut Visitor<'_>,
    ) -> Result<(u64, bool), Error> {
        if !self.firsts.contains_key(&number) {
            return Ok((0, false));
        }
        let mut reader = Reader::new(&self.files, number)?;
        let mut offset = FIRST_BYTES;
        while named.is_none_or(|end| offset < end) {
            let Some((head, body)) = reader.record(offset)? else { break };
            self.synced = self.synced.max(Position(head.synced));
            visit(number, offset + HEAD_BYTES, &body);
            offset = record::end(offset, head.bytes);
        }
        Ok((offset, named == Some(offset)))
    }

    /// Looks for heads of records behind a bad one: they name positions that were durable.
    fn look_behind(&mut self, number: u64, end: u64) -> Result<(), Error> {
        let mut from = end;
        for number in self.numbers.iter().copied().filter(|other| *other >= number) {
            let mut reader = Reader::new(&self.files, number)?;
            for offset in (from..reader.size.saturating_sub(HEAD_BYTES)).step_by(8) {
                if let Some(head) = reader.head(offset)? {
                    self.synced = self.synced.max(Position(head.synced));
                }
            }
            from = 0;
        }
        Ok(())
    }

    fn judge(&self, found: Position) -> Option<LostRecords> {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::TornEndTakenForDamage) {
            // Something was written behind the last record.
            let (number, end) = (found.0 >> 32, found.0 & u64::from(u32::MAX));
            let is_torn = self.files.size(number).is_ok_and(|size| size > end);
            return is_torn.then_some(LostRecords { synced: self.synced, found });
        }
        (found < self.synced).then_some(LostRecords { synced: self.synced, found })
    }
}
