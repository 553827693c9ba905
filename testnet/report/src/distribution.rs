//! Cumulative distributions of a sample, thinned to what a plot can show.

use crate::model::Distribution;

/// Points of a distribution at most.
const POINTS_MAX: usize = 200;
/// Of those, points kept for the upper end, where a tail would otherwise fall between two points.
const TAIL_POINTS: usize = 40;

impl Distribution {
    /// The distribution of a sample in any order. Values that are no numbers are left out. Each point
    /// is exact: the share belongs to its value and to no neighbour.
    pub fn of(name: impl Into<String>, unit: impl Into<String>, mut sample: Vec<f64>) -> Self {
        sample.retain(|value| value.is_finite());
        sample.sort_unstable_by(f64::total_cmp);
        let total = sample.len() as f64;
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (index, value) in sample.iter().enumerate() {
            let share = (index + 1) as f64 / total;
            match points.last_mut() {
                Some(last) if last.0.total_cmp(value).is_eq() => last.1 = share,
                _ => points.push((*value, share)),
            }
        }
        Self { name: name.into(), unit: unit.into(), points: thinned(&points) }
    }
}

/// At most [`POINTS_MAX`] of the points: the first, the last, every so many between them, and more of
/// them near the end.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let last = points.len() - 1;
    let body = POINTS_MAX - TAIL_POINTS;
    let even = (0..body).map(|step| step * last / (body - 1));
    let tail = (0..TAIL_POINTS).map(|step| last - step * last / (body - 1) / TAIL_POINTS);
    let mut kept: Vec<usize> = even.chain(tail).collect();
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter().map(|index| points[index]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_values_are_one_point_and_an_empty_sample_has_none() {
        let distribution = Distribution::of("hops", "", vec![3.0, 1.0, 3.0, f64::NAN, 2.0]);
        assert_eq!(distribution.points, [(1.0, 0.25), (2.0, 0.5), (3.0, 1.0)]);
        assert!(Distribution::of("nothing", "ms", vec![]).points.is_empty());
    }

    proptest! {
        #[test]
        fn points_are_few_ascending_and_exact(
            sample in prop::collection::vec(0u32..100_000, 1..3000),
        ) {
            let sample: Vec<f64> = sample.into_iter().map(f64::from).collect();
            let points = Distribution::of("d", "ms", sample.clone()).points;
            prop_assert!(points.len() <= POINTS_MAX);
            prop_assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
            for (value, share) in &points {
                let covered = sample.iter().filter(|v| *v <= value).count() as f64;
                prop_assert!((share - covered / sample.len() as f64).abs() < 1e-12);
            }
            let max = sample.iter().copied().fold(0.0, f64::max);
            prop_assert_eq!(*points.last().expect("not empty"), (max, 1.0));
        }
    }
}
