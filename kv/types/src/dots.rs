//! Lists of ranges of dots, and their encoding on the wire.

use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

use crate::{ActorId, DotRange};

/// A list of ranges. On the wire an actor is named once for ranges that ascend, and each range is
/// the distance from the one before and its length: 2 to 4 bytes where dots are scattered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DotRanges(pub Vec<DotRange>);

impl DotRanges {
    /// The same dots as few ascending ranges.
    pub fn normalized(mut ranges: Vec<DotRange>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<DotRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.actor == range.actor && range.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// The number of dots; a dot that is contained twice counts twice.
    pub fn dots(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, r| sum.saturating_add((r.last - r.first).saturating_add(1)))
    }
}

/// Whether two ranges belong to one run on the wire: of one actor, and ascending without overlap.
fn is_run(previous: &DotRange, next: &DotRange) -> bool {
    previous.actor == next.actor && previous.last < next.first
}

impl Encode for DotRanges {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.chunk_by(is_run).count().encode(encoder)?;
        for run in self.0.chunk_by(is_run) {
            run[0].actor.encode(encoder)?;
            run.len().encode(encoder)?;
            let mut end = 0;
            for range in run {
                debug_assert!(1 <= range.first && range.first <= range.last, "{range:?}");
                (range.first.wrapping_sub(end)).encode(encoder)?;
                (range.last.wrapping_sub(range.first)).encode(encoder)?;
                end = range.last;
            }
        }
        Ok(())
    }
}

impl<C> Decode<C> for DotRanges {
    /// Decodes ranges, in each of which `1 <= first <= last`.
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut ranges = Vec::new();
        for _ in 0..usize::decode(decoder)? {
            let actor = ActorId::decode(decoder)?;
            let mut end = 0_u64;
            for _ in 0..usize::decode(decoder)? {
                decoder.claim_container_read::<DotRange>(1)?;
                let distance = u64::decode(decoder)?;
                let length = u64::decode(decoder)?;
                let first = end.checked_add(distance).filter(|_| distance > 0);
                let last = first.and_then(|first| first.checked_add(length));
                let (Some(first), Some(last)) = (first, last) else {
                    return Err(DecodeError::Other("range of dots"));
                };
                ranges.push(DotRange { actor, first, last });
                end = last;
            }
        }
        Ok(Self(ranges))
    }
}

bincode::impl_borrow_decode!(DotRanges);

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = DotRange> {
        (0..3_u8, 1..50_u64, 0..9_u64).prop_map(|(actor, first, more)| DotRange {
            actor: ActorId([actor; 16]),
            first,
            last: first + more,
        })
    }

    proptest! {
        #[test]
        fn any_list_comes_back_as_it_was(ranges in vec(range(), 0..40)) {
            let ranges = DotRanges(ranges);
            let bytes = bincode::encode_to_vec(&ranges, bincode::config::standard()).expect("encodes");
            let (back, used) = bincode::decode_from_slice(&bytes, bincode::config::standard()).expect("decodes");
            prop_assert_eq!((ranges, bytes.len()), (back, used));
        }

        #[test]
        fn normalizing_keeps_the_dots_and_parts_the_ranges(ranges in vec(range(), 0..40)) {
            let dots = |ranges: &[DotRange]| -> std::collections::BTreeSet<(ActorId, u64)> {
                ranges.iter().flat_map(|r| (r.first..=r.last).map(|seq| (r.actor, seq))).collect()
            };
            let normal = DotRanges::normalized(ranges.clone());
            prop_assert_eq!(dots(&ranges), dots(&normal.0));
            prop_assert_eq!(normal.dots(), dots(&normal.0).len() as u64);
            prop_assert!(normal.0.windows(2).all(|w| w[0].actor < w[1].actor || w[0].last + 1 < w[1].first));
        }
    }
}
