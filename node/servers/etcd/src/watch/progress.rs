//! Progress requests: the revision that all watches of a stream have reached.

use std::collections::BTreeSet;

use starling_strong::api::Revision;

/// The progress request under way, one at a time for all watches of a stream.
#[derive(Default)]
pub struct Progress {
    /// Watches whose progress is awaited.
    open: BTreeSet<i64>,
    /// The lowest revision of the others; `None` while there is no request.
    floor: Option<Revision>,
    /// Whether there is a further request.
    again: bool,
}

/// What the stream has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for the other watches.
    Wait,
    /// Answer the client, and begin the further request if `again`.
    Answer { revision: Revision, again: bool },
}

impl Progress {
    /// Begins a request. Returns `false` if one is under way already: this one is answered after it.
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

    /// Records that a watch has received everything up to a revision.
    pub fn reached(&mut self, watch: i64, revision: Revision) -> Step {
        if !self.open.remove(&watch) {
            return Step::Wait;
        }
        self.floor = self.floor.map(|floor| floor.min(revision));
        self.step()
    }

    /// Records that a watch has ended.
    pub fn gone(&mut self, watch: i64) -> Step {
        if self.open.remove(&watch) { self.step() } else { Step::Wait }
    }

    fn step(&mut self) -> Step {
        if !self.open.is_empty() {
            return Step::Wait;
        }
        match self.floor.take() {
            Some(revision) => Step::Answer { revision, again: std::mem::take(&mut self.again) },
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
        assert_eq!(progress.reached(3, 4), Step::Wait, "not asked");
        assert_eq!(progress.reached(2, 9), Step::Wait);
        assert!(!progress.ask([1, 2].into_iter()));
        assert_eq!(progress.reached(1, 11), Step::Answer { revision: 9, again: true });
        assert!(progress.ask([1].into_iter()));
        assert_eq!(progress.gone(1), Step::Answer { revision: Revision::MAX, again: false });
    }
}
