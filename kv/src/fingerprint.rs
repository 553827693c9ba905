//! Fingerprints: sums of content hashes over aligned buckets of one actor's live dots. Sums add up
//! to ranges, to the actor and to one root, and commute with the order of writes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::codec::{Input, put_varint};
use crate::{Intervals, SPAN_LEAF};

/// One leaf of the tree in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Bit i: sequence number `64 * index + i` is in the causal context.
    pub seen: u64,
    /// Bit i: it is live. A subset of `seen`.
    pub live: u64,
    /// A salted short hash per live dot, in order.
    pub hashes: Vec<u32>,
}

/// Sum and count of the live entries of some dots. Packed, because a store has one or more for each actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(8))]
pub(crate) struct Sum {
    pub hash: u128,
    pub live: u64,
}

impl Sum {
    pub fn add(&mut self, hash: u128) {
        self.hash = self.hash.wrapping_add(hash);
        self.live += 1;
    }

    pub fn remove(&mut self, hash: u128) {
        self.hash = self.hash.wrapping_sub(hash);
        self.live = self.live.checked_sub(1).expect("only what was added is removed");
    }

    pub fn merge(&mut self, other: Self) {
        self.hash = self.hash.wrapping_add(other.hash);
        self.live += other.live;
    }
}

/// The buckets of one actor; those with nothing live are left out. Most actors of the past have none, and many of
/// the others have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Buckets {
    #[default]
    Empty,
    One(Box<(u64, Sum)>),
    /// Two and more.
    Many(Box<Many>),
}

/// See [`Buckets::Many`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Many {
    sums: BTreeMap<u64, Sum>,
    total: Sum,
}

impl Buckets {
    pub fn add(&mut self, seq: u64, hash: u128) {
        let mut sum = Sum::default();
        sum.add(hash);
        self.merge(seq / SPAN_LEAF, sum);
    }

    /// Adds a sum to that of a bucket.
    fn merge(&mut self, bucket: u64, sum: Sum) {
        match self {
            Self::Empty => *self = Self::One(Box::new((bucket, sum))),
            Self::One(one) if one.0 == bucket => one.1.merge(sum),
            Self::One(one) => {
                let mut total = one.1;
                total.merge(sum);
                *self = Self::Many(Box::new(Many { sums: [**one, (bucket, sum)].into(), total }));
            }
            Self::Many(many) => {
                many.sums.entry(bucket).or_default().merge(sum);
                many.total.merge(sum);
            }
        }
    }

    pub fn remove(&mut self, seq: u64, hash: u128) {
        const ADDED: &str = "only what was added is removed";
        let bucket = seq / SPAN_LEAF;
        match self {
            Self::Empty => panic!("{ADDED}"),
            Self::One(one) => {
                assert_eq!(one.0, bucket, "{ADDED}");
                one.1.remove(hash);
                if one.1.live == 0 {
                    *self = Self::Empty;
                }
            }
            Self::Many(many) => {
                let sum = many.sums.get_mut(&bucket).expect(ADDED);
                sum.remove(hash);
                if sum.live == 0 {
                    many.sums.remove(&bucket);
                }
                many.total.remove(hash);
                if let (1, Some((&bucket, &sum))) = (many.sums.len(), many.sums.first_key_value()) {
                    *self = Self::One(Box::new((bucket, sum)));
                }
            }
        }
    }

    pub fn total(&self) -> Sum {
        match self {
            Self::Empty => Sum::default(),
            Self::One(one) => one.1,
            Self::Many(many) => many.total,
        }
    }

    /// The buckets of a range with anything live, in order.
    fn range(&self, buckets: RangeInclusive<u64>) -> impl Iterator<Item = (u64, Sum)> + '_ {
        let (one, many) = match self {
            Self::Empty => (None, None),
            Self::One(one) => (Some(**one).filter(|(bucket, _)| buckets.contains(bucket)), None),
            Self::Many(_) if buckets.is_empty() => (None, None),
            Self::Many(many) => (None, Some(many.sums.range(buckets).map(|(&bucket, &sum)| (bucket, sum)))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Sum over whole buckets.
    pub fn sum(&self, buckets: RangeInclusive<u64>) -> Sum {
        self.range(buckets).fold(Sum::default(), |mut sum, (_, other)| {
            sum.merge(other);
            sum
        })
    }

    /// Whether anything is live in the bucket of `seq`.
    pub fn any(&self, seq: u64) -> bool {
        let bucket = seq / SPAN_LEAF;
        self.range(bucket..=bucket).next().is_some()
    }

    /// The parts of `first..=last` that lie in buckets with anything live.
    pub fn live_parts(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.range(first / SPAN_LEAF..=last / SPAN_LEAF).map(move |(bucket, _)| {
            let low = bucket * SPAN_LEAF;
            (first.max(low), last.min(low + (SPAN_LEAF - 1)))
        })
    }

    /// Encodes the buckets for a checkpoint.
    pub fn encode(&self) -> Vec<u8> {
        let count = self.range(0..=u64::MAX).count();
        let mut out = Vec::with_capacity(8 + count * 20);
        put_varint(&mut out, count as u64);
        let mut before = 0;
        for (bucket, sum) in self.range(0..=u64::MAX) {
            put_varint(&mut out, bucket - before);
            before = bucket;
            put_varint(&mut out, sum.live);
            out.extend_from_slice(&{ sum.hash }.to_le_bytes());
        }
        out
    }

    /// The inverse of [`Buckets::encode`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        let mut buckets = Self::default();
        let mut bucket = 0u64;
        for _ in 0..input.varint()? {
            bucket = bucket.checked_add(input.varint()?)?;
            let live = input.varint()?;
            buckets.merge(bucket, Sum { live, hash: u128::from_le_bytes(input.array()?) });
        }
        input.is_empty().then_some(buckets)
    }
}

/// Salted hash over the seen spans and the live entries of some dots of one actor. Where nothing is
/// seen it is all zeroes.
pub(crate) fn span_hash(salt: u64, seen: impl Iterator<Item = (u64, u64)>, live: Sum) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    let mut any = false;
    for (first, last) in seen {
        any = true;
        hasher.update(&first.to_le_bytes());
        hasher.update(&last.to_le_bytes());
    }
    if !any {
        return [0; 8];
    }
    hasher.update(&{ live.hash }.to_le_bytes());
    let mut short = [0; 8];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    short
}

/// Salted short hash of one live entry.
pub(crate) fn entry_hash(salt: u64, content: u128) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&content.to_le_bytes());
    let hash = hasher.finalize();
    u32::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]])
}

/// Hash of what has been seen of one actor, 0 if nothing; they add up to [`starling_types::Root::context`].
pub(crate) fn context_hash(actor: crate::ActorId, seen: &Intervals) -> u128 {
    if seen.is_empty() {
        return 0;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&actor.0);
    for &(first, last) in seen.spans() {
        hasher.update(&first.to_le_bytes());
        hasher.update(&last.to_le_bytes());
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_commute_and_empty_buckets_vanish() {
        let (mut a, mut b) = (Buckets::default(), Buckets::default());
        for seq in [1, 63, 64, 5_000] {
            a.add(seq, u128::MAX / u128::from(seq));
        }
        for seq in [5_000, 64, 7, 63, 1] {
            b.add(seq, u128::MAX / u128::from(seq));
        }
        b.remove(7, u128::MAX / 7);
        assert_eq!(a, b);
        assert_eq!(Buckets::decode(&a.encode()), Some(a.clone()));
        assert_eq!(a.sum(0..=0).live, 2);
        assert_eq!(a.sum(0..=1).live, 3);
        assert_eq!(a.live_parts(10, 5_001).collect::<Vec<_>>(), [(10, 63), (64, 127), (4_992, 5_001)]);
        a.remove(64, u128::MAX / 64);
        assert_eq!(a.live_parts(64, 4_000).count(), 0);
        a.remove(5_000, u128::MAX / 5_000);
        assert!(matches!(a, Buckets::One(_)), "{a:?}");
        assert_eq!(Buckets::decode(&a.encode()), Some(a.clone()));
        a.remove(1, u128::MAX);
        a.remove(63, u128::MAX / 63);
        assert_eq!(a, Buckets::Empty);
        assert_eq!(Buckets::decode(&a.encode()), Some(a));
    }

    #[test]
    fn an_actor_of_the_past_costs_few_bytes() {
        assert_eq!((size_of::<Buckets>(), size_of::<(u64, Sum)>()), (16, 32));
    }
}
