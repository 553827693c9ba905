//! "How far have all my watches been told?"

use std::collections::BTreeSet;

use starling_strong::api::Revision;

/// One question at a time, about all watches of a stream.
#[derive(Default)]
pub struct Progress {
    /// Watches that have not answered.
    open: BTreeSet<i64>,
    /// What the one says that is least far; None while nothing is asked.
    floor: Option<Revision>,
    /// It was asked again meanwhile.
    again: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Tell the client, and begin again if `again`.
    Tell { revision: Revision, again: bool },
}

impl Progress {
    /// False: one question is open already, and this one is answered after it.
    pub fn ask(&mut self, watches: impl Iterator<Item = i64>) -> bool {
        if self.floor.is_some() {
            self.again = true;
            return false;
        }
        self.open = watches.collect();
        self.floor = Some(Revision::MAX);
        true
    }

    pub fn waits_for(&self, watch: i64) -> bool {
        self.open.contains(&watch)
    }

    /// A watch has been told all up to here.
    pub fn told(&mut self, watch: i64, revision: Revision) -> Step {
        if !self.open.remove(&watch) {
            return Step::Wait;
        }
        self.floor = self.floor.map(|floor| floor.min(revision));
        self.step()
    }

    /// A watch has ended, and answers nothing any more.
    pub fn gone(&mut self, watch: i64) -> Step {
        if self.open.remove(&watch) { self.step() } else { Step::Wait }
    }

    fn step(&mut self) -> Step {
        if !self.open.is_empty() {
            return Step::Wait;
        }
        match self.floor.take() {
            Some(revision) => Step::Tell { revision, again: std::mem::take(&mut self.again) },
            None => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress, Step};
    use starling_strong::api::Revision;

    #[test]
    fn the_watch_that_is_least_far_counts() {
        let mut progress = Progress::default();
        assert!(progress.ask([1, 2].into_iter()));
        assert_eq!(progress.told(3, 4), Step::Wait, "not asked");
        assert_eq!(progress.told(2, 9), Step::Wait);
        assert!(!progress.ask([1, 2].into_iter()));
        assert_eq!(progress.told(1, 11), Step::Tell { revision: 9, again: true });
        assert!(progress.ask([1].into_iter()));
        assert_eq!(progress.gone(1), Step::Tell { revision: Revision::MAX, again: false });
    }
}
