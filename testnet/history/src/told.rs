//! What one watcher was told, over all the watches that it resumed: in order, everything, nothing twice.

use crate::log::{Change, Log};
use crate::{Checked, ensure, shown};

/// What was told without a gap: everything after one revision, up to another.
#[derive(Clone, Debug)]
struct Stretch {
    after: u64,
    to: u64,
    changes: Vec<Change>,
}

/// The memory of one watcher.
#[derive(Clone, Debug, Default)]
pub struct Told {
    stretches: Vec<Stretch>,
}

impl Told {
    /// Its watch stands. What is told begins after this revision, if it is the first watch.
    pub fn ready(&mut self, revision: u64) {
        if self.stretches.is_empty() {
            self.stretches.push(Stretch { after: revision, to: revision, changes: Vec::new() });
        }
    }

    /// It was told a change; several may be of one revision.
    pub fn change(&mut self, change: Change) -> Checked {
        let Some(stretch) = self.stretches.last_mut() else {
            return ensure(false, || format!("told of revision {} before the watch stood", change.revision));
        };
        let last = stretch.changes.last().map_or(stretch.after + 1, |last| last.revision);
        ensure(change.revision >= last.max(stretch.after + 1), || {
            format!("told of {:?} at revision {} after {last}", shown(&change.key), change.revision)
        })?;
        stretch.to = stretch.to.max(change.revision);
        stretch.changes.push(change);
        Ok(())
    }

    /// Everything up to there has been told.
    pub fn up_to(&mut self, revision: u64) {
        if let Some(stretch) = self.stretches.last_mut() {
            stretch.to = stretch.to.max(revision);
        }
    }

    /// The watch broke off between two changes, perhaps of one revision: that one is asked for again.
    pub fn broken(&mut self) {
        let Some(stretch) = self.stretches.last_mut() else { return };
        if let Some(last) = stretch.changes.last().map(|change| change.revision) {
            stretch.changes.retain(|change| change.revision < last);
            stretch.to = last - 1;
        }
    }

    /// What it asked for is no longer kept; from this revision on it is.
    pub fn compacted(&mut self, oldest: u64) {
        self.stretches.push(Stretch { after: oldest - 1, to: oldest - 1, changes: Vec::new() });
    }

    /// Where the next watch begins; 0: from its own beginning on.
    pub fn resumes_from(&self) -> u64 {
        self.stretches.last().map_or(0, |stretch| stretch.to + 1)
    }

    /// Changes told, and gaps between them that compaction made.
    pub fn counts(&self) -> (u64, u64) {
        let told = self.stretches.iter().map(|stretch| stretch.changes.len() as u64).sum();
        (told, (self.stretches.len() as u64).saturating_sub(1))
    }

    /// The changes told, in order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.stretches.iter().flat_map(|stretch| &stretch.changes)
    }

    /// What `who` was told is what happened to the keys that it watched, up to revision `all` at least: by then
    /// it had the time to take everything in.
    pub fn check(&self, who: &str, log: &Log, all: u64, is_watched: impl Fn(&Change) -> bool) -> Checked {
        let count = self.stretches.len();
        for (at, stretch) in self.stretches.iter().enumerate() {
            let to = if at + 1 == count { all.max(stretch.to) } else { stretch.to };
            let wanted: Vec<&Change> =
                log.between(stretch.after, to).filter(|change| is_watched(change)).collect();
            let told: Vec<&Change> = stretch.changes.iter().collect();
            let differs = wanted.iter().zip(&told).position(|(wanted, told)| wanted != told);
            let at = differs.unwrap_or(wanted.len().min(told.len()));
            let named =
                |change: Option<&&Change>| change.map(|it| (shown(&it.key).into_owned(), it.revision));
            ensure(wanted == told, || {
                format!(
                    "{who}, revisions {} to {to}: told {} changes of {}; number {at} was {:?}, and it was told {:?}",
                    stretch.after + 1,
                    told.len(),
                    wanted.len(),
                    named(wanted.get(at)),
                    named(told.get(at)),
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::log_of;

    /// A watcher of everything that was told these revisions of a log, in this order.
    fn told(log: &Log, revisions: &[u64]) -> Result<Told, crate::Violation> {
        let mut told = Told::default();
        told.ready(1);
        for revision in revisions {
            for (_, changes) in log.revisions().filter(|(at, _)| at == revision) {
                changes.iter().try_for_each(|change| told.change(change.clone()))?;
            }
        }
        Ok(told)
    }

    #[test]
    fn skipped_doubled_and_reordered_changes_are_found() {
        let log = log_of(&[("a", Some("1")), ("b", Some("2")), ("a", None), ("b", Some("3"))]);
        let check = |revisions: &[u64]| {
            told(&log, revisions).and_then(|it| it.check("w", &log, log.last(), |_| true))
        };
        check(&[2, 3, 4, 5]).expect("everything");
        check(&[2, 3, 5]).expect_err("skipped");
        check(&[2, 3, 4]).expect_err("the end is missing");
        told(&log, &[2, 3, 4]).and_then(|it| it.check("w", &log, 4, |_| true)).expect("it is not asked for");
        check(&[2, 3, 3, 4, 5]).expect_err("doubled");
        check(&[2, 4, 3, 5]).expect_err("reordered");
        let some = told(&log, &[2, 4]).expect("in order");
        some.check("w", &log, log.last(), |change| change.key == b"a").expect("all of one key");
    }

    #[test]
    fn a_watch_that_broke_off_is_resumed_where_it_may_have_been_torn() {
        let log = log_of(&[("a", Some("1")), ("b", Some("2")), ("a", None)]);
        let mut watcher = told(&log, &[2, 3]).expect("in order");
        assert_eq!(watcher.resumes_from(), 4);
        watcher.broken();
        assert_eq!(watcher.resumes_from(), 3);
        for (_, changes) in log.revisions().skip(1) {
            for change in changes {
                watcher.change(change.clone()).expect("in order");
            }
        }
        watcher.check("w", &log, log.last(), |_| true).expect("everything once");
        watcher.compacted(4);
        watcher.compacted(5);
        assert_eq!((watcher.resumes_from(), watcher.counts()), (5, (3, 2)));
        watcher.check("w", &log, log.last(), |_| true).expect("what was compacted away was not to be told");
    }
}
