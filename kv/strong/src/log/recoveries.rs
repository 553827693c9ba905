//! The unsafe recoveries of a group, each with the end that the recovered log had. They decide which replicas of former
//! members may have acknowledged entries that the group lacks:
//!
//! ```text
//!   recovered log   1 1 1 2 2 2 | 1000003 1000003 ...       recovery: end (2, 6), begins in term 1000002
//!   former member   1 1 1 2 2        ends at (2, 5): all of it is in the recovered log
//!   former member   1 1 1 2 2 2 2    ends at (2, 7): entry 7 may be nowhere else
//! ```
//!
//! Of two logs the one that ends later, as Raft compares them, has all committed entries of the other one: the leaders that
//! wrote its last term had them. So what else a log has that ends before the recovered one was never acknowledged.

use bincode::{Decode, Encode};
use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error};

use super::aside::was_forced;
use super::{Log, LogPosition, record};

/// Recoveries that are remembered, at most; of later ones every former member may have more. A guess: operators make them.
pub const RECOVERIES_MAX: usize = 16;

/// An unsafe recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recovery {
    /// The term that it began with: every entry after it has a later one.
    pub term: u64,
    /// The last entry of the log that was recovered.
    pub end: LogPosition,
}

/// The unsafe recoveries of a group, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Recoveries(Vec<Recovery>);

impl Recoveries {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they are within their bounds. Those from a peer are checked with it.
    pub fn is_bounded(&self) -> bool {
        let fits =
            |it: &Recovery| LogPosition { term: it.term, ..it.end }.is_bounded() && it.end.is_bounded();
        self.0.len() <= RECOVERIES_MAX && self.0.iter().all(fits)
    }

    /// Whether a log that ends at `end` may have acknowledged entries that the group lacks, which is in term `now`.
    pub fn may_lack(&self, end: LogPosition, now: u64) -> bool {
        match self.0.iter().find(|recovery| recovery.term > end.term) {
            Some(recovery) => end > recovery.end,
            None => was_forced(end.term, now),
        }
    }

    /// Of two lists of one group the one that knows of the later recovery.
    #[must_use]
    pub fn later<'a>(&'a self, other: &'a Self) -> &'a Self {
        if other.last_term() > self.last_term() { other } else { self }
    }

    /// These recoveries, and one of a log that ends at `end`. Those after its last entry were of another log.
    #[must_use]
    pub fn with(&self, end: LogPosition, term: u64) -> Self {
        let mut all: Vec<_> = self.0.iter().copied().filter(|it| it.term <= end.term).collect();
        all.push(Recovery { term, end });
        all.truncate(RECOVERIES_MAX);
        Self(all)
    }

    fn last_term(&self) -> u64 {
        self.0.last().map_or(0, |recovery| recovery.term)
    }
}

impl<E: Engine> Log<E> {
    /// The recoveries of the group that this member's log has, as of this term; none if their row is damaged.
    pub(super) fn read_recoveries(engine: &E, group: &[u8; 16], term: u64) -> Result<Recoveries, Error> {
        let key = record::recoveries_key(group);
        let row = engine.get(Family::Raft, &key)?;
        let mut all: Recoveries = row.and_then(|row| record::open(&key, &row)).unwrap_or_default();
        // A process may have ended between the row and the recovery.
        all.0.retain(|recovery| recovery.term <= term);
        Ok(all)
    }

    pub(super) fn write_recoveries(&self, recoveries: &Recoveries) -> Result<(), Error> {
        let key = record::recoveries_key(&self.group);
        let row = record::seal(&key, recoveries);
        self.engine.write(vec![RowOp::Put(Family::Raft, key.to_vec(), row)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::FORCED_TERMS;
    use super::*;

    fn at(term: u64, index: u64) -> LogPosition {
        LogPosition { term, index }
    }

    #[test]
    fn only_a_log_that_ends_after_the_recovered_one_may_have_more() {
        let forced = 2 + FORCED_TERMS;
        let recoveries = Recoveries::default().with(at(2, 6), forced);
        let may_lack = |end| recoveries.may_lack(end, forced + 3);
        for (end, expected) in [
            (at(1, 9), false),
            (at(2, 5), false),
            (at(2, 6), false),
            (at(2, 7), true),
            (at(3, 4), true),
            (at(forced - 1, 4), true),
            (at(forced + 1, 7), false),
        ] {
            assert_eq!(may_lack(end), expected, "{end:?}");
        }
    }

    #[test]
    fn a_log_is_compared_with_the_first_recovery_after_its_last_entry() {
        let (first, second) = (2 + FORCED_TERMS, 9 + 2 * FORCED_TERMS);
        let recoveries = Recoveries::default().with(at(2, 6), first).with(at(first + 1, 20), second);
        for (end, expected) in [
            (at(2, 7), true),
            (at(2, 6), false),
            (at(first + 1, 20), false),
            (at(first + 1, 21), true),
            (at(second + 1, 30), false),
        ] {
            assert_eq!(recoveries.may_lack(end, second + 1), expected, "{end:?}");
        }
        assert!(recoveries.may_lack(at(second, 1), second + FORCED_TERMS), "a third one that is not known");
    }

    #[test]
    fn a_recovery_that_is_not_known_counts_against_every_former_member() {
        let none = Recoveries::default();
        assert!(none.may_lack(at(2, 1), 2 + FORCED_TERMS) && !none.may_lack(at(2, 1), 1 + FORCED_TERMS));
        let mut full = none.clone();
        for n in 0..=RECOVERIES_MAX as u64 {
            full = full.with(at(n * FORCED_TERMS + 1, 10 * n), (n + 1) * FORCED_TERMS + 1);
        }
        assert!(full.is_bounded());
        let last = RECOVERIES_MAX as u64 * FORCED_TERMS + 1;
        assert!(full.may_lack(at(last, 1), last + FORCED_TERMS), "it found no place");
    }

    #[test]
    fn a_kept_replica_that_is_recovered_lacks_what_the_other_one_had() {
        let (first, second) = (2 + FORCED_TERMS, 9 + 2 * FORCED_TERMS);
        let of_other = Recoveries::default().with(at(2, 6), first);
        let recoveries = of_other.with(at(2, 4), second);
        assert!(recoveries.may_lack(at(2, 5), second), "it was compared with the end of the other log");
        assert!(recoveries.may_lack(at(first + 1, 7), second));
        assert_eq!(of_other.later(&recoveries), &recoveries);
        assert_eq!(recoveries.later(&of_other), &recoveries);
    }
}
