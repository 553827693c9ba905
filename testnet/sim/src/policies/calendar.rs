//! Events in the order of their time.

use std::collections::BTreeMap;

/// A queue of events: those of one millisecond share a bucket, which is sorted when its time comes.
/// Events of one microsecond keep the order in which they were scheduled, so that a run is
/// reproducible.
#[derive(Debug)]
pub(super) struct Calendar<T> {
    buckets: BTreeMap<u64, Vec<(u64, T)>>,
    /// The millisecond that is being emptied, latest event first.
    current: Vec<(u64, T)>,
    /// Events before this millisecond belong to `current`.
    opened_ms: u64,
}

impl<T> Calendar<T> {
    pub(super) fn new() -> Self {
        Self { buckets: BTreeMap::new(), current: Vec::new(), opened_ms: 0 }
    }

    /// Schedules an event for a time that is not past.
    pub(super) fn push(&mut self, at_us: u64, event: T) {
        let ms = at_us / 1000;
        if ms < self.opened_ms {
            let place = self.current.partition_point(|(other, _)| *other > at_us);
            self.current.insert(place, (at_us, event));
        } else {
            self.buckets.entry(ms).or_default().push((at_us, event));
        }
    }

    /// Schedules the event that wakes a node when its machine wants it, unless one at least as early is planned: a microsecond
    /// later, so that what arrives at that instant arrives in time.
    pub(super) fn wake(&mut self, planned_us: &mut Option<u64>, due_us: u64, now_us: u64, event: T) {
        let at_us = due_us.max(now_us) + 1;
        if planned_us.is_none_or(|planned_us| at_us < planned_us) {
            *planned_us = Some(at_us);
            self.push(at_us, event);
        }
    }

    /// When the next event is due.
    pub(super) fn next_us(&mut self) -> Option<u64> {
        if self.current.is_empty() {
            let (ms, mut bucket) = self.buckets.pop_first()?;
            // Reversed first: the sort is stable, and events are taken from the end.
            bucket.reverse();
            bucket.sort_by_key(|(at_us, _)| std::cmp::Reverse(*at_us));
            self.current = bucket;
            self.opened_ms = ms + 1;
        }
        self.current.last().map(|(at_us, _)| *at_us)
    }

    /// Takes the next event, with its time.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        self.next_us()?;
        self.current.pop()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list sorted by time and order of scheduling, with pushes between the pops.
        #[test]
        fn events_come_by_time_and_then_by_order(delays in prop::collection::vec((0..5000_u64, 0..4_u8), 0..200)) {
            let (mut calendar, mut model) = (Calendar::new(), Vec::new());
            let mut now = 0;
            for (order, (delay, pops)) in delays.into_iter().enumerate() {
                calendar.push(now + delay, order);
                model.push((now + delay, order));
                for _ in 0..pops / 2 {
                    let first = model.iter().copied().min();
                    prop_assert_eq!(calendar.pop(), first);
                    model.retain(|event| Some(*event) != first);
                    now = first.map_or(now, |(at, _)| at);
                }
            }
            model.sort_unstable();
            let rest: Vec<(u64, usize)> = std::iter::from_fn(|| calendar.pop()).collect();
            prop_assert_eq!(rest, model);
        }
    }
}
