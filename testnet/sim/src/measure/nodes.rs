//! Sets of nodes.

/// A set of node indices, a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSet(Vec<u64>);

impl NodeSet {
    /// Adds a node; whether it was not in.
    pub fn insert(&mut self, node: usize) -> bool {
        if self.0.len() <= node / 64 {
            self.0.resize(node / 64 + 1, 0);
        }
        let bit = 1 << (node % 64);
        let is_new = self.0[node / 64] & bit == 0;
        self.0[node / 64] |= bit;
        is_new
    }

    /// Takes a node out; whether it was in.
    pub fn remove(&mut self, node: usize) -> bool {
        let was_in = self.contains(node);
        if was_in {
            self.0[node / 64] &= !(1 << (node % 64));
        }
        was_in
    }

    /// Whether a node is in.
    pub fn contains(&self, node: usize) -> bool {
        self.0.get(node / 64).is_some_and(|word| word & (1 << (node % 64)) != 0)
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether any node is in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(steps in prop::collection::vec((any::<bool>(), 0usize..200), 0..60)) {
            let (mut set, mut model) = (NodeSet::default(), BTreeSet::new());
            for (inserts, node) in steps {
                if inserts {
                    prop_assert_eq!(set.insert(node), model.insert(node));
                } else {
                    prop_assert_eq!(set.remove(node), model.remove(&node));
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
            }
            for node in 0..220 {
                prop_assert_eq!(set.contains(node), model.contains(&node));
            }
        }
    }
}
