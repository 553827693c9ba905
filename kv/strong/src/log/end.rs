//! The end of a log, read without opening it: of replicas that are closed, or kept aside.

use bincode::{Decode, Encode};
use starling_kv::Engine;

use super::record::{self, Tail};
use super::{Log, LogError, place};
use crate::limits::{INDEX_MAX, TERM_MAX};

/// An entry of a log, or its end. Of two ends the later one is greater, as Raft compares logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LogPosition {
    /// The entry's term.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

impl LogPosition {
    /// Whether both numbers are within their bounds. Positions from a peer are checked with it.
    pub fn is_bounded(self) -> bool {
        self.term <= TERM_MAX && self.index <= INDEX_MAX
    }
}

/// The end of a replica's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LogEnd {
    /// The term of the last entry.
    pub term: u64,
    /// The index of the last entry.
    pub index: u64,
    /// The last entry that is known to be committed.
    pub committed: u64,
    /// The last entry that the state contains.
    pub applied: u64,
}

impl LogEnd {
    /// The last entry.
    pub fn position(&self) -> LogPosition {
        LogPosition { term: self.term, index: self.index }
    }

    /// Whether this log has entries that another one lacks, as Raft compares logs.
    pub fn is_longer_than(&self, other: &Self) -> bool {
        (self.term, self.index) > (other.term, other.index)
    }

    /// How many entries of a longer log this one lacks, at most. Where the terms differ, the logs may have different
    /// entries from the last committed one on.
    pub fn missing_of(&self, other: &Self) -> u64 {
        if !other.is_longer_than(self) {
            return 0;
        }
        let common = if other.term == self.term { self.index } else { self.committed };
        other.index.saturating_sub(common).max(1)
    }
}

impl<E: Engine> Log<E> {
    /// The current term, and the end of a log that is not open, whose state contains the entries up to `applied`.
    /// `None` if there is no log.
    pub fn read_end(engine: &E, group: &[u8; 16], applied: u64) -> Result<Option<(u64, LogEnd)>, LogError> {
        let family = place::family(engine, group)?;
        let (tail_key, commit_key) = (record::tail_key(group), record::commit_key(group));
        let Some(row) = engine.get(family, &tail_key)? else { return Ok(None) };
        let damaged = LogError::Damaged { index: 0, last: 0 };
        let tail: Tail = record::open(&tail_key, &row).ok_or(damaged)?;
        let commit = engine.get(family, &commit_key)?.and_then(|row| record::open::<u64>(&commit_key, &row));
        let committed = commit.unwrap_or_default().max(applied);
        let end = LogEnd { term: tail.last_term, index: tail.last_index, committed, applied };
        Ok(Some((tail.term, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_term_is_longer_and_then_the_higher_index() {
        let end = |term, index, committed| LogEnd { term, index, committed, applied: committed };
        let (short, long, later) = (end(3, 10, 8), end(3, 14, 8), end(4, 9, 9));
        assert!(long.is_longer_than(&short) && later.is_longer_than(&long) && !short.is_longer_than(&short));
        assert_eq!(short.missing_of(&long), 4);
        assert_eq!(long.missing_of(&short), 0);
        assert_eq!(long.missing_of(&later), 1, "entry 9 of the other one may be another");
        assert_eq!(end(3, 10, 9).missing_of(&end(4, 9, 9)), 1, "the last entries differ");
    }
}
