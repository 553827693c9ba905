//! What is going to happen, in order of time and, at one instant, of being planned.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Microseconds of one window, as a power of two. With 10,000 nodes some hundred events fall into one,
/// and a heap of those stays in the processor's first cache.
const WINDOW_BITS: u32 = 10;

/// A priority queue of small values; ties are served in the order of pushing. Only the window of time
/// that is being served is kept in order; later ones are sorted when their time comes.
#[derive(Debug)]
pub struct Queue<T> {
    /// What is due before the end of the window.
    near: BinaryHeap<Reverse<Entry<T>>>,
    /// The windows after it, by number.
    far: BTreeMap<u64, Vec<Reverse<Entry<T>>>>,
    /// Number of the first window that is not in `near`.
    next_window: u64,
    pushed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    at_us: u64,
    order: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { near: BinaryHeap::new(), far: BTreeMap::new(), next_window: 0, pushed: 0 }
    }
}

impl<T: Copy> Queue<T> {
    /// Plans something.
    pub fn push(&mut self, at_us: u64, what: T) {
        self.pushed += 1;
        let entry = Reverse(Entry { at_us, order: self.pushed, what });
        let window = at_us >> WINDOW_BITS;
        if window < self.next_window {
            self.near.push(entry);
        } else {
            self.far.entry(window).or_default().push(entry);
        }
    }

    /// The next thing, unless it is later than `until_us`.
    pub fn pop(&mut self, until_us: u64) -> Option<(u64, T)> {
        if self.near.is_empty() {
            let window = self.far.first_entry()?;
            if *window.key() > until_us >> WINDOW_BITS {
                return None;
            }
            self.next_window = window.key() + 1;
            self.near = BinaryHeap::from(window.remove());
        }
        if self.near.peek()?.0.at_us > until_us {
            return None;
        }
        self.near.pop().map(|Reverse(entry)| (entry.at_us, entry.what))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn serves_by_time_and_then_by_order(
            times in prop::collection::vec(0u64..8, 0..40), later in prop::collection::vec(0u64..8, 0..40),
        ) {
            // Ties, and several windows.
            let at = |time: u64| time << (WINDOW_BITS - 2);
            let mut queue = Queue::default();
            for (order, &time) in times.iter().enumerate() {
                queue.push(at(time), order);
            }
            let mut served: Vec<_> = std::iter::from_fn(|| queue.pop(at(5))).collect();
            prop_assert!(served.iter().all(|(time, _)| *time <= at(5)));
            prop_assert_eq!(served.len(), times.iter().filter(|time| **time <= 5).count());
            // What is planned while time passes lies in the future.
            for (order, &time) in (times.len()..).zip(&later) {
                queue.push(at(5 + time), order);
            }
            served.extend(std::iter::from_fn(|| queue.pop(u64::MAX)));
            let all = times.iter().copied().chain(later.iter().map(|time| 5 + time));
            let mut expected: Vec<(u64, usize)> = all.map(at).zip(0..).collect();
            expected.sort_unstable();
            prop_assert_eq!(served, expected);
        }
    }
}
