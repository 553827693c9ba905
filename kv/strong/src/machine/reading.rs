//! Reads in portions: a range over a million keys is read as of one revision, while other requests are served.
//!
//! A read is a sequence of scans: of its ranges, and of the keys in its conditions. The results of finished scans
//! are kept, and the scan under way continues where it stopped. Records that were superseded since the read began
//! are read from `StrongPast`.

use std::ops::ControlFlow;

use starling_kv::{Engine, Error};

use super::limits::ANSWER_BYTES_MAX;
use super::range::{Collected, answer_bytes};
use super::room::Room;
use super::rows::{Prefix, Record};
use super::source::{Last, RowVisitor, Source, Staged, Visited};
use super::stage::Stop;
use super::txn::Holding;
use super::{Machine, check};
use crate::api::{Answer, Body, Compare, Found, Keys, LeaseId, Range, Read, Refusal, Revision, Txn, TxnOp};

/// A read under way, with what it has found so far: at most the bytes of one answer.
pub struct Reading {
    read: Read,
    /// The prefix of the generation that it reads.
    rows: Prefix,
    /// The revision of its answer.
    revision: Revision,
    /// The oldest revision that it reads. Compaction up to this revision does not affect it.
    oldest: Revision,
    budget: usize,
    done: Vec<Done>,
    partial: Option<Partial>,
}

impl Reading {
    /// The read, to be begun again.
    pub fn into_read(self) -> Read {
        self.read
    }
}

/// The result of a scan.
enum Done {
    Found(Found),
    Holds(bool),
}

/// A scan that is not finished, and the rest of its keys.
struct Partial {
    scan: Scan,
    rest: Keys,
}

enum Scan {
    Range(Box<Collected>),
    Compare(Holding),
}

/// Why a read does not continue now.
enum Halt {
    /// The portion is used up.
    Later,
    Stop(Stop),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Stop(error.into())
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Stop(refusal.into())
    }
}

impl<E: Engine> Machine<E> {
    /// Begins a read of the state as it is now.
    pub fn begin_read(&self, read: &Read) -> Reading {
        let revision = self.state.revision;
        let oldest = read.oldest_revision().map_or(revision, |oldest| oldest.min(revision));
        Reading {
            read: read.clone(),
            rows: self.rows,
            revision,
            // A scan of an older revision is rejected when it begins.
            oldest: oldest.max(self.state.compacted),
            budget: ANSWER_BYTES_MAX,
            done: Vec::new(),
            partial: None,
        }
    }

    /// Continues a read as far as `room` allows, and reduces `room` by the rows visited. `None` if there is more to
    /// do. A read whose rows were removed meanwhile begins again.
    ///
    /// # Errors
    /// The outer error is the engine's, the inner one rejects the read.
    pub fn go_on(
        &self,
        reading: &mut Reading,
        room: &mut Room,
    ) -> Result<Option<Result<Answer, Refusal>>, Error> {
        self.check_sound()?;
        if reading.rows != self.rows || reading.oldest < self.state.swept {
            *reading = self.begin_read(&reading.read);
        }
        let read = std::mem::replace(&mut reading.read, Read::Leases);
        let body = match &read {
            Read::Range(range) => self.range_in_portions(reading, range, room),
            Read::Txn(txn) => self.txn_in_portions(reading, txn, room),
            Read::Leases => {
                room.use_up(Room { rows: 1, bytes: self.leases.len() * size_of::<LeaseId>() });
                Ok(Body::Leases { leases: self.leases.ids() })
            }
            Read::Hash => Ok(Body::Hash { hash: self.state.hash, compacted: self.state.compacted }),
        };
        reading.read = read;
        match body {
            Ok(body) => Ok(Some(Ok(Answer { revision: reading.revision, body }))),
            Err(Halt::Later) => Ok(None),
            Err(Halt::Stop(Stop::Refused(refusal))) => Ok(Some(Err(refusal))),
            Err(Halt::Stop(Stop::Failed(error))) => Err(error),
        }
    }

    /// Answers a read from what is applied here, without interruption.
    ///
    /// # Errors
    /// The outer error is the engine's, the inner one rejects the read.
    pub fn read(&self, read: &Read) -> Result<Result<Answer, Refusal>, Error> {
        self.read_within(read, &mut { Room::ALL })
    }

    /// Does the same, and reduces `room` by the rows visited.
    pub fn read_within(&self, read: &Read, room: &mut Room) -> Result<Result<Answer, Refusal>, Error> {
        let mut reading = self.begin_read(read);
        loop {
            if let Some(answer) = self.go_on(&mut reading, room)? {
                return Ok(answer);
            }
        }
    }

    fn range_in_portions(&self, reading: &mut Reading, range: &Range, room: &mut Room) -> Result<Body, Halt> {
        let mut walk = Walk { machine: self, reading, at: 0, room };
        walk.range(range)?;
        Ok(Body::Range(reading.done.drain(..).find_map(Done::found).unwrap_or_default()))
    }

    fn txn_in_portions(&self, reading: &mut Reading, txn: &Txn, room: &mut Room) -> Result<Body, Halt> {
        check::txn(self.state.version, txn)?;
        if txn.writes() {
            return Err(Refusal::NotARead.into());
        }
        let mut walk = Walk { machine: self, reading, at: 0, room };
        walk.txn(txn)?;
        Ok(body(txn, &mut reading.done.drain(..)))
    }
}

impl Done {
    fn found(self) -> Option<Found> {
        match self {
            Self::Found(found) => Some(found),
            Self::Holds(_) => None,
        }
    }
}

/// The answer to a transaction from the results of its scans, in the order in which [`Walk`] made them.
fn body(txn: &Txn, done: &mut impl Iterator<Item = Done>) -> Body {
    let mut succeeded = true;
    for _ in &txn.compare {
        if let Some(Done::Holds(false)) = done.next() {
            succeeded = false;
            break;
        }
    }
    let mut bodies = Vec::new();
    for op in if succeeded { &txn.then } else { &txn.otherwise } {
        bodies.push(match op {
            TxnOp::Txn(txn) => body(txn, done),
            _ => Body::Range(done.next().and_then(Done::found).unwrap_or_default()),
        });
    }
    Body::Txn { succeeded, bodies }
}

/// One portion of a read, which skips the finished scans and continues with the next one.
struct Walk<'w, E: Engine> {
    machine: &'w Machine<E>,
    reading: &'w mut Reading,
    /// The number of the next scan.
    at: usize,
    room: &'w mut Room,
}

impl<E: Engine> Walk<'_, E> {
    fn txn(&mut self, txn: &Txn) -> Result<(), Halt> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !self.compare(compare)? {
                succeeded = false;
                break;
            }
        }
        for op in if succeeded { &txn.then } else { &txn.otherwise } {
            match op {
                TxnOp::Range(range) => self.range(range)?,
                TxnOp::Txn(txn) => self.txn(txn)?,
                TxnOp::Put(_) | TxnOp::Delete(_) => return Err(Refusal::NotARead.into()),
            }
        }
        Ok(())
    }

    fn compare(&mut self, compare: &Compare) -> Result<bool, Halt> {
        self.at += 1;
        if let Some(Done::Holds(holds)) = self.reading.done.get(self.at - 1) {
            return Ok(*holds);
        }
        let (mut holding, rest) = match self.reading.partial.take() {
            Some(Partial { scan: Scan::Compare(holding), rest }) => (holding, rest),
            _ => (Holding::default(), compare.keys.clone()),
        };
        let rest = self.scan(rest, self.reading.revision, &mut |_, row| {
            Ok(holding.see(compare, &Record::decode(row)?))
        })?;
        if let Some(rest) = rest {
            self.reading.partial = Some(Partial { scan: Scan::Compare(holding), rest });
            return Err(Halt::Later);
        }
        let holds = holding.verdict(compare);
        self.reading.done.push(Done::Holds(holds));
        Ok(holds)
    }

    fn range(&mut self, range: &Range) -> Result<(), Halt> {
        self.at += 1;
        if self.reading.done.len() >= self.at {
            return Ok(());
        }
        let partial = self.reading.partial.take();
        let (mut collected, rest) = if let Some(Partial { scan: Scan::Range(collected), rest }) = partial {
            (collected, rest)
        } else {
            check::keys(&range.keys)?;
            self.machine.check_revision(range.revision)?;
            (Box::new(Collected::new(range, self.reading.budget)), range.keys.clone())
        };
        let revision = if range.revision == 0 { self.reading.revision } else { range.revision };
        let rest = self.scan(rest, revision, &mut |key, row| {
            collected.visit(key, row)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(rest) = rest {
            self.reading.partial = Some(Partial { scan: Scan::Range(collected), rest });
            return Err(Halt::Later);
        }
        let found = collected.finish();
        self.reading.budget = self.reading.budget.saturating_sub(found.kvs.iter().map(answer_bytes).sum());
        self.reading.done.push(Done::Found(found));
        Ok(())
    }

    /// Visits rows of a range as of a revision, until the range or the room ends. Returns the rest of the range.
    fn scan(
        &mut self,
        keys: Keys,
        revision: Revision,
        visit: &mut RowVisitor<'_>,
    ) -> Result<Option<Keys>, Error> {
        let (staged, last, visited) = (Staged::new(), Last::default(), Visited::default());
        let machine = self.machine;
        let source = machine.source(&staged, &last, &visited);
        if revision == machine.state.revision {
            return scan_latest(&source, keys, self.room, visit);
        }
        let mut rest = keys;
        while !self.room.is_used_up() {
            match source.scan_piece(&rest, revision, self.room, visit)? {
                Some(next) => rest = next,
                None => return Ok(None),
            }
        }
        Ok(Some(rest))
    }
}

/// Visits the latest rows of a range until the range or the room ends. Returns the rest of the range.
pub(super) fn scan_latest<E: Engine>(
    source: &Source<'_, E>,
    keys: Keys,
    room: &mut Room,
    visit: &mut RowVisitor<'_>,
) -> Result<Option<Keys>, Error> {
    let mut next = None;
    source.scan(&keys, &mut |key, row| {
        if !room.take(row.len()) {
            next = Some(key.to_vec());
            return Ok(ControlFlow::Break(()));
        }
        visit(key, row)
    })?;
    Ok(match (next, keys) {
        (Some(from), Keys::Range { to, .. }) => Some(Keys::Range { from, to }),
        (Some(_), one @ Keys::One(_)) => Some(one),
        (None, _) => None,
    })
}
