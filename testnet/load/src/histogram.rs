//! Times, counted by size.

/// A bucket is at most this part of its values wide: 1/64.
const STEP_BITS: u32 = 6;
/// Up to 2^32 microseconds, more than an hour.
const BUCKETS: usize = (32 - STEP_BITS as usize + 1) << STEP_BITS;

/// Counts of microseconds.
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    pub fn record(&mut self, micros: u64) {
        self.counts[bucket(micros)] += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper bound of the smallest bucket below which there are so many of a thousand; 0: none.
    pub fn quantile_us(&self, permille: u64) -> u64 {
        let rank = (self.count() * permille).div_ceil(1000);
        let mut below = 0;
        for (at, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank && below > 0 {
                return upper(at);
            }
        }
        0
    }
}

/// Small numbers have a bucket each; above, every power of two has as many.
fn bucket(micros: u64) -> usize {
    let micros = micros.min(u64::from(u32::MAX));
    let shift = (64 - micros.leading_zeros()).saturating_sub(STEP_BITS + 1);
    ((shift as usize) << STEP_BITS) + (micros >> shift) as usize
}

fn upper(bucket: usize) -> u64 {
    let shift = (bucket >> STEP_BITS).saturating_sub(1);
    let step = (bucket - (shift << STEP_BITS)) as u64;
    ((step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bucket, upper};

    #[test]
    fn every_time_is_in_a_bucket_hardly_wider_than_itself() {
        for micros in (0..100_000).chain([1 << 20, (1 << 31) + 12345, u64::from(u32::MAX), u64::MAX]) {
            let at = bucket(micros);
            assert!(at < BUCKETS);
            let (least, most) = (at.checked_sub(1).map_or(0, |before| upper(before) + 1), upper(at));
            let micros = micros.min(u64::from(u32::MAX));
            assert!((least..=most).contains(&micros), "{micros} in {least}..={most}");
            assert!((most - least) * 64 <= micros, "{micros} in {least}..={most}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sample() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(500), 0);
        for micros in 1..=50 {
            histogram.record(micros);
        }
        assert_eq!(histogram.quantile_us(500), 25);
        assert_eq!(histogram.quantile_us(990), 50);
        assert_eq!(histogram.quantile_us(1000), 50);
    }
}
