//! The dots that were seen lately: what a session has to exchange in the end beside the differences of its beginning.

use std::collections::VecDeque;

use super::Store;
use crate::{DotRange, Engine};

/// Ranges that are remembered, at most, 20 bytes each. A guess: ten seconds of thousands of commits a second.
const RANGES_MAX: usize = 65_536;

/// Ranges of dots, by actor number, in the order in which they were seen.
#[derive(Debug, Default)]
pub(super) struct Recent {
    forgotten: u64,
    ranges: VecDeque<(u32, u64, u64)>,
}

impl Recent {
    pub fn extend(&mut self, ranges: Vec<(u32, u64, u64)>) {
        self.ranges.extend(ranges);
        let excess = self.ranges.len().saturating_sub(RANGES_MAX);
        self.ranges.drain(..excess);
        self.forgotten += excess as u64;
    }
}

impl<E: Engine> Store<E> {
    /// Marks this instant for [`Store::seen_since`].
    pub fn mark(&self) -> u64 {
        self.recent.forgotten + self.recent.ranges.len() as u64
    }

    /// The dots that were seen since a mark, each at least once; `None` if they are no longer remembered.
    pub fn seen_since(&self, mark: u64) -> Option<Vec<DotRange>> {
        let from = usize::try_from(mark.checked_sub(self.recent.forgotten)?).ok()?;
        let ranges = self.recent.ranges.range(from.min(self.recent.ranges.len())..);
        let actor = |number| self.index.id(number);
        Some(ranges.map(|&(number, first, last)| DotRange { actor: actor(number), first, last }).collect())
    }
}
