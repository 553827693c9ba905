//! The causal context of one actor: the set of its dots that have been seen.

/// A set of sequence numbers as disjoint intervals in order, never touching each other: equal sets
/// are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    spans: Spans,
}

/// Spans, both ends inclusive. Most actors have one, which needs no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spans {
    One((u64, u64)),
    /// None, or two and more.
    Many(Vec<(u64, u64)>),
}

impl Default for Spans {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Intervals {
    /// The empty set.
    pub const fn new() -> Self {
        Self { spans: Spans::Many(Vec::new()) }
    }

    /// Builds from spans that must be in order, disjoint, not touching, and start at 1 or later;
    /// `None` if they are not.
    pub fn from_spans(spans: Vec<(u64, u64)>) -> Option<Self> {
        let mut floor = 1;
        for &(first, last) in &spans {
            if first < floor || last < first {
                return None;
            }
            // A span that ends at the largest number is the last one.
            floor = last.saturating_add(2);
            if last == u64::MAX && Some(&(first, last)) != spans.last() {
                return None;
            }
        }
        Some(Self { spans: if let [one] = spans[..] { Spans::One(one) } else { Spans::Many(spans) } })
    }

    /// The spans, in order, both ends inclusive.
    pub fn spans(&self) -> &[(u64, u64)] {
        match &self.spans {
            Spans::One(span) => std::slice::from_ref(span),
            Spans::Many(spans) => spans,
        }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.spans().is_empty()
    }

    /// Whether a number is missing below its largest one.
    pub fn has_gaps(&self) -> bool {
        !matches!(self.spans(), [] | [(1, _)])
    }

    /// The largest number in it; 0 if empty.
    pub fn max(&self) -> u64 {
        self.spans().last().map_or(0, |&(_, last)| last)
    }

    /// The number of elements.
    pub fn count(&self) -> u64 {
        self.spans()
            .iter()
            .fold(0u64, |sum, &(first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// Index of the first span that ends at `seq` or later.
    fn at(&self, seq: u64) -> usize {
        // Sequence numbers mostly arrive in order, so the end is checked first.
        let spans = self.spans();
        match spans.last() {
            Some(&(_, last)) if last < seq => spans.len(),
            _ => spans.partition_point(|&(_, last)| last < seq),
        }
    }

    /// Whether every number of `first..=last` is in it.
    pub fn contains(&self, first: u64, last: u64) -> bool {
        self.spans().get(self.at(first)).is_some_and(|span| span.0 <= first && last <= span.1)
    }

    /// Adds `first..=last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        debug_assert!(0 < first && first <= last, "an empty or impossible range");
        let from = self.at(first.saturating_sub(1));
        let mut to = from;
        let (mut low, mut high) = (first, last);
        while let Some(&(start, end)) = self.spans().get(to) {
            #[cfg(planted)]
            let last = last + u64::from(starling_planted::on(starling_planted::Bug::IntervalOffByOne));
            if start > last.saturating_add(1) {
                break;
            }
            low = low.min(start);
            high = high.max(end);
            to += 1;
        }
        self.replace(from..to, (low, high));
    }

    /// Replaces some spans by one.
    fn replace(&mut self, range: std::ops::Range<usize>, span: (u64, u64)) {
        let count = self.spans().len();
        self.spans = match std::mem::take(&mut self.spans) {
            _ if range.len() == count => Spans::One(span),
            Spans::One(other) if range.start == 0 => Spans::Many(vec![span, other]),
            Spans::One(other) => Spans::Many(vec![other, span]),
            Spans::Many(mut spans) => {
                spans.splice(range, [span]);
                Spans::Many(spans)
            }
        };
    }

    /// The parts of `first..=last` that are in it, in order.
    pub fn within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.spans()[self.at(first)..]
            .iter()
            .take_while(move |span| span.0 <= last)
            .map(move |span| (span.0.max(first), span.1.min(last)))
    }

    /// The parts of `first..=last` that are not in it, in order.
    pub fn gaps(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = first;
        for (start, end) in self.within(first, last) {
            if start > next {
                gaps.push((next, start - 1));
            }
            match end.checked_add(1) {
                Some(after) => next = after,
                None => return gaps,
            }
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(ranges in prop::collection::vec((1u64..40, 0u64..6), 0..20), probe in (1u64..50, 0u64..9)) {
            let mut intervals = Intervals::new();
            let mut model = BTreeSet::new();
            for (first, more) in ranges {
                intervals.insert(first, first + more);
                model.extend(first..=first + more);
            }
            let (low, high) = (probe.0, probe.0 + probe.1);
            let flatten = |spans: Vec<(u64, u64)>| spans.into_iter().flat_map(|(a, b)| a..=b).collect::<Vec<_>>();
            prop_assert_eq!(flatten(intervals.spans().to_vec()), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(intervals.contains(low, high), (low..=high).all(|n| model.contains(&n)));
            prop_assert_eq!(flatten(intervals.within(low, high).collect()), model.range(low..=high).copied().collect::<Vec<_>>());
            prop_assert_eq!(flatten(intervals.gaps(low, high)), (low..=high).filter(|n| !model.contains(n)).collect::<Vec<_>>());
            prop_assert_eq!(intervals.count(), model.len() as u64);
            prop_assert_eq!(intervals.has_gaps(), model.last().is_some_and(|last| *last > model.len() as u64));
            prop_assert_eq!(Intervals::from_spans(intervals.spans().to_vec()), Some(intervals));
        }
    }

    #[test]
    fn a_set_without_gaps_has_no_memory_of_its_own() {
        assert_eq!(size_of::<Intervals>(), size_of::<Vec<(u64, u64)>>());
        let mut intervals = Intervals::new();
        for seq in [3, 1, 2] {
            intervals.insert(seq, seq);
        }
        assert_eq!(intervals.spans, Spans::One((1, 3)));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut intervals = Intervals::new();
        intervals.insert(u64::MAX, u64::MAX);
        intervals.insert(1, 1);
        intervals.insert(u64::MAX - 1, u64::MAX);
        assert_eq!(intervals.spans(), [(1, 1), (u64::MAX - 1, u64::MAX)]);
        assert_eq!(intervals.gaps(1, u64::MAX), [(2, u64::MAX - 2)]);
        assert!(Intervals::from_spans(vec![(1, u64::MAX), (u64::MAX, u64::MAX)]).is_none());
        assert!(Intervals::from_spans(vec![(0, 3)]).is_none());
        assert!(Intervals::from_spans(vec![(1, 3), (4, 5)]).is_none());
    }
}
