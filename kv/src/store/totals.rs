//! Totals of counters with many fields.
//!
//! A counter has a field of each process that has incremented it, so its fields grow with every start of a process. An
//! increment and a read take the sum of all. Those of counters with few fields are read each time. For the others used
//! last the sum is kept here: it is counted once, in portions, and changed with each write from then on. Nothing of it is
//! stored; after a start the first increment counts again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::Store;
use crate::cell::{self, Stored};
use crate::engine::{Family, View, prefix_end};
use crate::types::counter_sum;
use crate::{Engine, Error};

/// Fields up to which a counter is read whole: some 20 microseconds.
pub(crate) const FIELDS_READ_MAX: usize = 64;
/// Counters whose totals are kept, at most; those that were not used for longest give way. A guess: some 300 bytes each.
pub(crate) const TOTALS_MAX: usize = 1_024;
/// Rows that one portion of counting reads: some 3 ms, as measured by the benchmark `growth`.
pub(crate) const PORTION_ROWS: usize = 10_000;
/// Counters that readers wait to be counted, at most; the next read asks again for others.
const WANTED_MAX: usize = 64;
/// A total is counted again at most so often because fields have expired, milliseconds: they count so much longer.
const EXPIRED_COUNT_MS: u64 = 1_000;

/// A sum of integers that does not overflow, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wide {
    low: u128,
    high: i64,
}

impl Wide {
    pub fn add(&mut self, value: i128) {
        let (low, carries) = self.low.overflowing_add(value.cast_unsigned());
        self.low = low;
        self.high += i64::from(carries) - i64::from(value < 0);
    }

    pub fn subtract(&mut self, value: i128) {
        let (low, borrows) = self.low.overflowing_sub(value.cast_unsigned());
        self.low = low;
        self.high += i64::from(value < 0) - i64::from(borrows);
    }

    /// The sum, or the integer nearest to it.
    pub fn saturated(self) -> i128 {
        match (self.high, self.low.cast_signed()) {
            (0, low @ 0..) | (-1, low @ ..0) => low,
            (0.., _) => i128::MAX,
            (..0, _) => i128::MIN,
        }
    }
}

/// The total of one counter.
#[derive(Clone, Debug, Default)]
struct Total {
    /// The sum over the fields below `next` that are visible at `wall_ms`.
    sum: Wide,
    /// The number of those fields.
    fields: u64,
    /// The place from which counting continues; `None` if all fields are counted.
    next: Option<Vec<u8>>,
    /// When counting began, wall-clock milliseconds. All fields are counted as of then.
    wall_ms: u64,
    /// When counting ended, wall-clock milliseconds.
    counted_ms: u64,
    /// When the first of the fields expires, wall-clock milliseconds.
    expires_ms: Option<u64>,
    /// The number of its last use.
    used: u64,
}

impl Total {
    /// Whether it is the counter's total at an instant.
    fn is_valid(&self, wall_ms: u64) -> bool {
        let is_fresh = wall_ms.abs_diff(self.counted_ms) < EXPIRED_COUNT_MS;
        let has_expired = self.expires_ms.is_some_and(|expires_ms| expires_ms <= wall_ms);
        self.next.is_none() && (is_fresh || wall_ms >= self.wall_ms && !has_expired)
    }

    fn add(&mut self, cell: &[Stored]) {
        if let Some(sum) = counter_sum(cell, self.wall_ms) {
            self.sum.add(sum);
            self.fields += 1;
        }
        let expiries = cell.iter().filter_map(|version| version.head()?.expires_ms);
        let expiries = expiries.filter(|expires_ms| *expires_ms > self.wall_ms);
        self.expires_ms = expiries.chain(self.expires_ms).min();
    }

    fn remove(&mut self, cell: &[Stored]) {
        if let Some(sum) = counter_sum(cell, self.wall_ms) {
            self.sum.subtract(sum);
            self.fields -= 1;
        }
    }
}

/// Totals by the prefix of the counter's places. The writer changes them; readers use them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    counters: BTreeMap<Vec<u8>, Total>,
    wanted: BTreeSet<Vec<u8>>,
    uses: u64,
}

impl Totals {
    /// The sum of a counter and the number of its visible fields; `None` if it is not known.
    pub fn get(&mut self, prefix: &[u8], wall_ms: u64) -> Option<(Wide, u64)> {
        self.uses += 1;
        let total = self.counters.get_mut(prefix).filter(|total| total.is_valid(wall_ms))?;
        total.used = self.uses;
        Some((total.sum, total.fields))
    }

    /// Asks for the total of a counter.
    pub fn want(&mut self, prefix: &[u8]) {
        if self.wanted.len() < WANTED_MAX {
            self.wanted.insert(prefix.to_vec());
        }
    }

    /// Whether the field at a place is counted in the total of its counter.
    pub fn counts(&self, prefix: &[u8], place: &[u8]) -> bool {
        let total = self.counters.get(prefix);
        total.is_some_and(|total| total.next.as_ref().is_none_or(|next| place < next.as_slice()))
    }

    /// Replaces a field in the total that counts it.
    pub fn replace(&mut self, prefix: &[u8], before: &[Stored], now: &[Stored]) {
        if let Some(total) = self.counters.get_mut(prefix) {
            total.remove(before);
            total.add(now);
        }
    }

    /// The sum that a counter has if some of its fields are replaced.
    pub fn with<'c>(
        &mut self,
        prefix: &[u8],
        wall_ms: u64,
        replaced: impl Iterator<Item = (&'c [Stored], &'c [Stored])>,
    ) -> Option<Wide> {
        let (mut sum, _) = self.get(prefix, wall_ms)?;
        let wall_ms = self.counters.get(prefix)?.wall_ms;
        for (before, now) in replaced {
            sum.subtract(counter_sum(before, wall_ms).unwrap_or_default());
            sum.add(counter_sum(now, wall_ms).unwrap_or_default());
        }
        Some(sum)
    }

    /// Begins to count a counter, or continues.
    fn begin(&mut self, prefix: &[u8], wall_ms: u64) -> Total {
        self.uses += 1;
        let used = self.uses;
        if let Some(total) = self.counters.get(prefix).filter(|total| total.next.is_some()) {
            return Total { used, ..total.clone() };
        }
        if self.counters.len() >= TOTALS_MAX
            && let Some(oldest) = self.counters.iter().min_by_key(|(_, total)| total.used)
        {
            let oldest = oldest.0.clone();
            self.counters.remove(&oldest);
        }
        Total { next: Some(prefix.to_vec()), wall_ms, used, ..Total::default() }
    }
}

impl<E: Engine> Store<E> {
    /// Counts fields of a counter, at most `rows`, which it lowers by what it has read; returns whether all are counted.
    pub(super) fn count(&self, prefix: &[u8], wall_ms: u64, rows: &mut usize) -> Result<bool, Error> {
        let mut total = self.totals().begin(prefix, wall_ms);
        let from = total.next.take().unwrap_or_default();
        let to = prefix_end(prefix);
        self.engine.view().scan(Family::Cells, &from, to.as_deref(), &mut |place, row| {
            if *rows == 0 {
                total.next = Some(place.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            *rows -= 1;
            total.add(&cell::decode(row.to_vec())?);
            Ok(ControlFlow::Continue(()))
        })?;
        total.counted_ms = wall_ms;
        let is_counted = total.next.is_none();
        self.totals().counters.insert(prefix.to_vec(), total);
        Ok(is_counted)
    }

    /// Counts a portion of a counter that a reader has asked for; returns whether there is more to do.
    pub(super) fn count_wanted(&self, wall_ms: u64) -> Result<bool, Error> {
        let wanted = self.totals().wanted.first().cloned();
        let Some(prefix) = wanted else { return Ok(false) };
        if self.count(&prefix, wall_ms, &mut { PORTION_ROWS })? {
            self.totals().wanted.remove(&prefix);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sum_beyond_the_integers_is_exact_once_it_is_back() {
        let mut sum = Wide::default();
        for value in [i128::MAX, i128::MAX, 5, i128::MIN] {
            sum.add(value);
        }
        assert_eq!(sum.saturated(), i128::MAX);
        sum.subtract(i128::MAX);
        assert_eq!(sum.saturated(), 4);
        sum.subtract(5);
        assert_eq!(sum.saturated(), -1);
        sum.add(i128::MIN);
        assert_eq!(sum.saturated(), i128::MIN);
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_its_parts(values in prop::collection::vec(any::<i64>(), 0..20), gone in 0usize..20) {
            let mut sum = Wide::default();
            for value in &values {
                sum.add(i128::from(*value));
            }
            for value in values.iter().take(gone) {
                sum.subtract(i128::from(*value));
            }
            prop_assert_eq!(sum.saturated(), values.iter().skip(gone).map(|value| i128::from(*value)).sum::<i128>());
        }
    }
}
