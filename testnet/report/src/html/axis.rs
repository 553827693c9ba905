//! Axes: what a plot's edges stand for, and the marks along them.

/// Intervals between ticks, about.
const TICKS: f64 = 5.0;
/// No axis has more intervals: twice as many as wanted, if the step had to be rounded down that far.
const TICKS_MAX: u32 = 12;
/// Decades between the least and the largest value up to which a logarithmic axis has marks within a decade too.
const FINE_DECADES: f64 = 2.5;

/// Least value, as a part of the largest, above which an axis need not show zero.
const FAR_FROM_ZERO: f64 = 0.9;

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What its lower end stands for.
    pub min: f64,
    /// What its upper end stands for; above `min`.
    pub max: f64,
    /// Whether equal distances are equal ratios; then `min` is above zero.
    pub log: bool,
    /// Where its marks are, ascending.
    pub ticks: Vec<f64>,
}

impl Axis {
    /// An axis over finite values in even steps, whole ones where fractions mean nothing. It begins at
    /// zero unless all values lie far from it.
    pub fn linear(min: f64, max: f64, whole: bool) -> Self {
        let min = if min >= 0.0 && min <= max * FAR_FROM_ZERO { 0.0 } else { min };
        let min = if min < max { min } else { min.min(0.0) };
        let max = if min < max { max } else { min + 1.0 };
        let step = nice_step((max - min) / TICKS).max(if whole { 1.0 } else { 0.0 });
        let (first, last) = ((min / step).floor(), (max / step).ceil());
        let ticks = (0..=TICKS_MAX).map(|tick| first + f64::from(tick)).take_while(|tick| *tick <= last);
        let ticks = ticks.map(|tick| tick * step).collect();
        Self { min: first * step, max: last * step, log: false, ticks }
    }

    /// The same, but it ends where the values end.
    pub fn tight(min: f64, max: f64, whole: bool) -> Self {
        let mut axis = Self::linear(min, max, whole);
        axis.max = if max > axis.min { max } else { axis.max };
        axis.ticks.retain(|tick| *tick <= axis.max);
        axis
    }

    /// A logarithmic axis over values above zero.
    pub fn log(min: f64, max: f64) -> Self {
        let (low, high) = (min.log10().floor(), max.log10().ceil().max(min.log10().floor() + 1.0));
        let within: &[f64] = if (max / min).log10() <= FINE_DECADES { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = (low as i32)..=(high as i32);
        let marks = decades.flat_map(|decade| within.iter().map(move |m| m * 10f64.powi(decade)));
        let all: Vec<f64> = marks.collect();
        let end = |limit: f64, below: bool| -> f64 {
            let mut fit =
                all.iter().copied().filter(|mark| if below { *mark <= limit } else { *mark >= limit });
            (if below { fit.next_back() } else { fit.next() }).unwrap_or(limit)
        };
        let (min, max) = (end(min, true), end(max, false));
        let ticks: Vec<f64> = all.iter().copied().filter(|mark| (min..=max).contains(mark)).collect();
        let max = if max > min { max } else { min * 10.0 };
        Self { min, max, log: true, ticks }
    }

    /// How far along the axis a value lies, 0 to 1; values beyond its ends lie at its ends.
    pub fn position(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.min) / self.min).ln() / (self.max / self.min).ln()
        } else {
            (value - self.min) / (self.max - self.min)
        };
        part.clamp(0.0, 1.0)
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round_and_zero_is_shown_unless_far() {
        assert_eq!(Axis::linear(3.0, 47.0, false).ticks, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(Axis::linear(981.0, 1000.0, false).ticks, [980.0, 985.0, 990.0, 995.0, 1000.0]);
        assert_eq!(Axis::linear(0.0, 0.0, false).ticks.len(), 6);
        assert_eq!(Axis::linear(400.0, 400.0, true).ticks, [0.0, 100.0, 200.0, 300.0, 400.0]);
        assert_eq!(Axis::linear(1.0, 2.0, true).ticks, [0.0, 1.0, 2.0]);
        let tight = Axis::tight(0.0, 120.0, false);
        assert_eq!((tight.max, tight.ticks.as_slice()), (120.0, &[0.0, 50.0, 100.0][..]));
        assert_eq!(Axis::log(3.0, 180.0).ticks, [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(Axis::log(0.5, 90_000.0).ticks.len(), 7);
    }

    proptest! {
        #[test]
        fn every_value_has_its_place_in_order(
            a in 1e-6f64..1e9, b in 1e-6f64..1e9, part in 0.0f64..1.0, log in any::<bool>(),
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let axis = if log { Axis::log(low, high) } else { Axis::linear(low, high, false) };
            let middle = low + (high - low) * part;
            let places = [low, middle, high].map(|value| axis.position(value));
            prop_assert!(axis.min <= low * (1.0 + 1e-9) && axis.max >= high * (1.0 - 1e-9) && axis.max > axis.min, "{axis:?}");
            prop_assert!(places[0] <= places[1] && places[1] <= places[2]);
            prop_assert!((2..=30).contains(&axis.ticks.len()), "{axis:?}");
        }
    }
}
