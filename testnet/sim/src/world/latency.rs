//! One-way delay between two nodes.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenario::{self, Geography, Latency};

/// Kilometres that light travels in fibre per millisecond (refractive index 1.47).
const FIBRE_KM_MS: f64 = 204.0;
/// Cables are longer than the straight line by this. A guess between the 1.5 and 2 that measurements of
/// the Internet find.
const DETOUR: f64 = 1.7;

/// Delays of all pairs, each drawn once, from the seed and the pair alone: no table is kept.
#[derive(Clone, Debug)]
pub struct Delays {
    seed: u64,
    model: Model,
    /// What is added at nodes whose links are slow, microseconds.
    slow_us: BTreeMap<usize, u64>,
}

#[derive(Clone, Debug)]
enum Model {
    Constant(u64),
    Uniform(u64, u64),
    Lognormal {
        median_us: f64,
        sigma: f64,
    },
    /// One-way microseconds between sites.
    Matrix(Vec<Vec<u64>>),
    Map {
        centres: Vec<(f64, f64)>,
        region_km: f64,
        last_mile_us: f64,
    },
}

fn us(ms: f64) -> u64 {
    (ms * 1000.0).round() as u64
}

impl Delays {
    /// Reads what the scenario says, and the file it names.
    pub fn new(latency: &Latency, regions: usize, seed: u64) -> Result<Self, scenario::Error> {
        let model = match latency {
            Latency::ConstantMs(ms) => Model::Constant(us(*ms)),
            Latency::UniformMs([low, high]) => Model::Uniform(us(*low), us(*high)),
            Latency::Lognormal { median_ms, sigma } => {
                Model::Lognormal { median_us: median_ms * 1000.0, sigma: *sigma }
            }
            Latency::Matrix { file } => Model::Matrix(read_matrix(file)?),
            Latency::Geography(Geography { side_km, region_km, last_mile_ms }) => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let centre =
                    |_| (rng.random_range(0.0..=1.0) * side_km, rng.random_range(0.0..=1.0) * side_km);
                Model::Map {
                    centres: (0..regions.max(1)).map(centre).collect(),
                    region_km: *region_km,
                    last_mile_us: last_mile_ms * 1000.0,
                }
            }
        };
        Ok(Self { seed, model, slow_us: BTreeMap::new() })
    }

    /// Everything from and to a node takes this much longer from now on.
    pub fn slow_down(&mut self, node: usize, by_us: u64) {
        if by_us == 0 {
            self.slow_us.remove(&node);
        } else {
            self.slow_us.insert(node, by_us);
        }
    }

    /// No node's links are slow any more.
    pub fn speed_up(&mut self) {
        self.slow_us.clear();
    }

    /// Whether the links of a node are slow.
    pub fn is_slow(&self) -> bool {
        !self.slow_us.is_empty()
    }

    /// Microseconds from one node to the other, the same both ways.
    pub fn one_way_us(&self, a: usize, b: usize) -> u64 {
        let slow_us = |node| self.slow_us.get(node).copied().unwrap_or_default();
        self.drawn_us(a, b) + slow_us(&a) + slow_us(&b)
    }

    fn drawn_us(&self, a: usize, b: usize) -> u64 {
        let unit = |salt| unit(self.seed ^ salt, a.min(b) as u64, a.max(b) as u64);
        match &self.model {
            Model::Constant(us) => *us,
            Model::Uniform(low, high) => low + (unit(1) * (high - low) as f64) as u64,
            Model::Lognormal { median_us, sigma } => {
                let normal = (-2.0 * (1.0 - unit(1)).ln()).sqrt() * (TAU * unit(2)).cos();
                (median_us * (sigma * normal).exp()) as u64
            }
            Model::Matrix(sites) => sites[a % sites.len()][b % sites.len()],
            Model::Map { centres, region_km, last_mile_us } => {
                let place = |node: usize| {
                    let centre = centres[node % centres.len()];
                    let angle = TAU * self::unit(self.seed ^ 3, node as u64, 0);
                    let radius = region_km * self::unit(self.seed ^ 4, node as u64, 0).sqrt();
                    (centre.0 + radius * angle.cos(), centre.1 + radius * angle.sin())
                };
                let (from, to) = (place(a), place(b));
                let km = (from.0 - to.0).hypot(from.1 - to.1);
                (km * DETOUR / FIBRE_KM_MS * 1000.0 + 2.0 * last_mile_us) as u64
            }
        }
    }
}

/// A number from 0 to below 1 that depends on its arguments alone (the finalizer of `SplitMix64`).
fn unit(seed: u64, a: u64, b: u64) -> f64 {
    let mut x = seed;
    for word in [a, b] {
        x = (x ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
    }
    (x >> 11) as f64 / (1u64 << 53) as f64
}

/// Reads a square table of round-trip times. What is missing in one direction is taken from the other.
fn read_matrix(file: &Path) -> Result<Vec<Vec<u64>>, scenario::Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| scenario::Error::Unreadable { path: file.to_path_buf(), error })?;
    let wrong = |what: String| scenario::Error::Malformed(format!("{}: {what}", file.display()));
    let mut rows: Vec<Vec<Option<u64>>> = Vec::new();
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    for (number, line) in lines.skip(1) {
        let cells = line.split(',').skip(1).map(str::trim);
        let cell = |text: &str| match text {
            "" => Ok(None),
            text => text.parse::<f64>().ok().filter(|ms| (0.0..1e6).contains(ms)).map_or_else(
                || Err(wrong(format!("line {}: `{text}` is no round-trip time in milliseconds", number + 1))),
                |ms| Ok(Some(us(ms / 2.0))),
            ),
        };
        rows.push(cells.map(cell).collect::<Result<_, _>>()?);
    }
    let count = rows.len();
    if count == 0 || rows.iter().any(|row| row.len() != count) {
        return Err(wrong(format!("has {count} sites; each needs one column, named in the first row")));
    }
    let one_way = |a: usize, b: usize| rows[a][b].or(rows[b][a]);
    let row = |a: usize| {
        let cells = (0..count).map(|b| one_way(a, b).ok_or(b)).collect::<Result<Vec<u64>, usize>>();
        cells.map_err(|b| wrong(format!("nothing is said between sites {} and {}", a + 1, b + 1)))
    };
    (0..count).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(latency: &Latency) -> Vec<f64> {
        let delays = Delays::new(latency, 3, 7).expect("no file is read");
        let mut sample: Vec<f64> = (0..200)
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .map(|(a, b)| delays.one_way_us(a, b) as f64)
            .collect();
        sample.sort_by(f64::total_cmp);
        sample
    }

    fn mean(sample: &[f64]) -> f64 {
        sample.iter().sum::<f64>() / sample.len() as f64
    }

    #[test]
    fn uniform_delays_fill_their_range_and_are_symmetric() {
        let sample = sample(&Latency::UniformMs([10.0, 50.0]));
        assert!(sample[0] >= 10_000.0 && sample[sample.len() - 1] <= 50_000.0);
        // Standard error: 40 ms / sqrt(12) / sqrt(19,900) = 82 us.
        assert!((mean(&sample) - 30_000.0).abs() < 4.0 * 82.0, "{}", mean(&sample));
        let delays = Delays::new(&Latency::UniformMs([10.0, 50.0]), 0, 7).expect("no file is read");
        assert_eq!(delays.one_way_us(3, 9), delays.one_way_us(9, 3));
    }

    #[test]
    fn a_slow_node_delays_what_it_sends_and_receives_until_it_is_not_slow() {
        let mut delays = Delays::new(&Latency::ConstantMs(10.0), 0, 7).expect("no file is read");
        delays.slow_down(3, 500_000);
        delays.slow_down(4, 1_000);
        assert_eq!(
            [(3, 9), (9, 3), (3, 4), (1, 2)].map(|(a, b)| delays.one_way_us(a, b)),
            [510_000, 510_000, 511_000, 10_000]
        );
        delays.slow_down(3, 0);
        assert_eq!(delays.one_way_us(3, 4), 11_000);
        delays.speed_up();
        assert_eq!(delays.one_way_us(3, 4), 10_000);
    }

    #[test]
    fn log_normal_delays_have_their_median_and_spread() {
        let sample = sample(&Latency::Lognormal { median_ms: 30.0, sigma: 0.5 });
        let at = |share: f64| sample[(share * sample.len() as f64) as usize];
        assert!((at(0.5) / 30_000.0 - 1.0).abs() < 0.03, "median {}", at(0.5));
        // One standard deviation up is a factor of e^0.5.
        assert!((at(0.8413) / 30_000.0 / 0.5f64.exp() - 1.0).abs() < 0.04, "{}", at(0.8413));
    }

    #[test]
    fn neighbours_of_a_region_are_nearer_than_strangers() {
        let map = Geography { side_km: 8_000.0, region_km: 200.0, last_mile_ms: 2.0 };
        let delays = Delays::new(&Latency::Geography(map), 3, 1).expect("no file is read");
        // 400 km at most, with the detour, and both last miles.
        assert!(delays.one_way_us(0, 3) <= 4_000 + 3_334 && delays.one_way_us(0, 3) >= 4_000);
        assert!(delays.one_way_us(0, 1) > delays.one_way_us(0, 3));
    }
}
