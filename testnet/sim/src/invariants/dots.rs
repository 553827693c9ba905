//! Sets of dots, a bit each: plain enough to judge the store's own intervals by.

use std::collections::BTreeMap;

use starling_kv::{ActorId, Dot};

/// A set of dots. Sequence numbers count from 1 and are dense, so a bit each costs little.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dots(BTreeMap<ActorId, Vec<u64>>);

impl Dots {
    /// Adds `first..=last` of an actor.
    pub fn insert(&mut self, actor: ActorId, first: u64, last: u64) {
        let words = self.0.entry(actor).or_default();
        let needed = last as usize / 64 + 1;
        if words.len() < needed {
            words.resize(needed, 0);
        }
        for seq in first..=last {
            words[seq as usize / 64] |= 1 << (seq % 64);
        }
    }

    /// Adds one dot.
    pub fn add(&mut self, dot: Dot) {
        self.insert(dot.actor, dot.seq, dot.seq);
    }

    /// Whether a dot is in.
    pub fn contains(&self, dot: Dot) -> bool {
        let word = self.0.get(&dot.actor).and_then(|words| words.get(dot.seq as usize / 64));
        word.is_some_and(|word| word >> (dot.seq % 64) & 1 == 1)
    }

    /// The largest sequence number of an actor; 0 if it has none.
    pub fn last(&self, actor: ActorId) -> u64 {
        let words = self.0.get(&actor).map_or(&[][..], Vec::as_slice);
        let last = words.iter().enumerate().rfind(|(_, word)| **word != 0);
        last.map_or(0, |(index, word)| index as u64 * 64 + u64::from(word.ilog2()))
    }

    /// The dots that are in, and not in `other`, in order.
    pub fn minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Dot> + 'a {
        self.0.iter().flat_map(move |(actor, words)| {
            let others = other.0.get(actor).map_or(&[][..], Vec::as_slice);
            let left = words.iter().enumerate().map(move |(index, word)| {
                (index as u64 * 64, word & !others.get(index).copied().unwrap_or(0))
            });
            left.filter(|(_, word)| *word != 0).flat_map(move |(base, word)| {
                let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
                bits.map(move |bit| Dot { actor: *actor, seq: base + bit })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[(u8, u64, u64)]) -> (Dots, BTreeSet<Dot>) {
        let (mut dots, mut model) = (Dots::default(), BTreeSet::new());
        for &(actor, first, more) in ranges {
            let actor = ActorId([actor; 16]);
            dots.insert(actor, first, first + more);
            model.extend((first..=first + more).map(|seq| Dot { actor, seq }));
        }
        (dots, model)
    }

    proptest! {
        #[test]
        fn behave_like_sets(
            a in prop::collection::vec((0u8..3, 1u64..150, 0u64..40), 0..6),
            b in prop::collection::vec((0u8..3, 1u64..150, 0u64..40), 0..6),
        ) {
            let ((a, model_a), (b, model_b)) = (set(&a), set(&b));
            prop_assert!(a.minus(&b).eq(model_a.difference(&model_b).copied()));
            let actor = ActorId([1; 16]);
            let last = model_a.iter().rfind(|dot| dot.actor == actor);
            prop_assert_eq!(a.last(actor), last.map_or(0, |dot| dot.seq));
            prop_assert!(model_a.iter().all(|dot| a.contains(*dot)));
        }
    }
}
