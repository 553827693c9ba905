//! Round trips between all nodes, from those that the links of the overlay have measured.
//!
//! Every node has links to a few others only. What no link measured is taken, in this order, from
//!
//! 1. the median of the measured round trips between the places of the two nodes (by their labels),
//! 2. the shortest path over everything known by then: an upper bound.

use std::collections::BTreeMap;

use starling_report::median;

/// A pair of nodes, the smaller index first.
pub type Pair = (usize, usize);

/// No path, microseconds.
const FAR_US: u64 = u64::MAX;

/// Round trips between all nodes, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Microseconds; symmetric, zero between a node and itself.
    pub rtt_us: Vec<Vec<u64>>,
    /// Pairs whose link was measured.
    pub measured: usize,
    /// Pairs that have the median of their places.
    pub by_place: usize,
    /// Pairs that have the length of a path.
    pub by_path: usize,
}

/// Nodes between which nothing is known, not even over others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart(pub usize, pub usize);

/// Completes measured round trips, milliseconds, between nodes at these places.
pub fn complete(places: &[Option<String>], measured: &BTreeMap<Pair, Vec<f64>>) -> Result<Matrix, Apart> {
    let count = places.len();
    let mut rtt_us = vec![vec![FAR_US; count]; count];
    let mut set = |(a, b): Pair, us: u64| (rtt_us[a][b], rtt_us[b][a]) = (us, us);
    for node in 0..count {
        set((node, node), 0);
    }
    let mut of_places: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for (pair, sample) in measured {
        let middle_ms = median(sample.iter().copied());
        set(*pair, us(middle_ms));
        if let Some(both) = both(places, *pair) {
            of_places.entry(both).or_default().push(middle_ms);
        }
    }
    let mut by_place = 0;
    for pair in pairs(count).filter(|pair| !measured.contains_key(pair)) {
        if let Some(sample) = both(places, pair).and_then(|both| of_places.get(&both)) {
            set(pair, us(median(sample.iter().copied())));
            by_place += 1;
        }
    }
    let missing: Vec<Pair> = pairs(count).filter(|(a, b)| rtt_us[*a][*b] == FAR_US).collect();
    if !missing.is_empty() {
        let paths = shortest(&rtt_us);
        for (a, b) in &missing {
            if paths[*a][*b] == FAR_US {
                return Err(Apart(*a, *b));
            }
            (rtt_us[*a][*b], rtt_us[*b][*a]) = (paths[*a][*b], paths[*a][*b]);
        }
    }
    Ok(Matrix { rtt_us, measured: measured.len(), by_place, by_path: missing.len() })
}

fn pairs(count: usize) -> impl Iterator<Item = Pair> {
    (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
}

/// The places of two nodes in order, if both have one.
fn both(places: &[Option<String>], (a, b): Pair) -> Option<(&str, &str)> {
    let (a, b) = (places.get(a)?.as_deref()?, places.get(b)?.as_deref()?);
    Some((a.min(b), a.max(b)))
}

#[allow(clippy::cast_sign_loss, reason = "round trips are not negative")]
fn us(ms: f64) -> u64 {
    (ms * 1e3).round() as u64
}

/// Shortest paths between all nodes (Floyd 1962).
fn shortest(rtt_us: &[Vec<u64>]) -> Vec<Vec<u64>> {
    let mut found = rtt_us.to_vec();
    for via in 0..found.len() {
        let onward = found[via].clone();
        for row in &mut found {
            let there = row[via];
            if there != FAR_US {
                for (known, on) in row.iter_mut().zip(&onward) {
                    *known = (*known).min(there.saturating_add(*on));
                }
            }
        }
    }
    found
}

impl Matrix {
    /// The file that `links.latency = { matrix = ... }` reads: round trips in milliseconds. Names have no commas.
    pub fn csv(&self, names: &[String]) -> String {
        let mut text = format!("node,{}\n", names.join(","));
        for (name, row) in names.iter().zip(&self.rtt_us) {
            let cells: Vec<String> = row.iter().map(|us| format!("{}.{:03}", us / 1000, us % 1000)).collect();
            text.extend([name, ",", &cells.join(","), "\n"]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(links: &[(usize, usize, &[f64])]) -> BTreeMap<Pair, Vec<f64>> {
        links.iter().map(|(a, b, sample)| ((*a, *b), sample.to_vec())).collect()
    }

    fn places(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| (!name.is_empty()).then(|| (*name).to_owned())).collect()
    }

    #[test]
    fn a_link_has_its_median_another_pair_that_of_its_places_and_else_a_path() {
        let places = places(&["eu", "eu", "us", "us", ""]);
        let links = measured(&[(0, 1, &[1.0, 9.0, 2.0]), (0, 2, &[80.0]), (1, 2, &[90.0]), (3, 4, &[5.0])]);
        let found = complete(&places, &links).expect("everything is connected");
        assert_eq!((found.measured, found.by_place, found.by_path), (4, 2, 4));
        assert_eq!(found.rtt_us[0][1], 2_000);
        // eu to us: the median of 80 and 90.
        assert_eq!((found.rtt_us[0][3], found.rtt_us[3][1]), (85_000, 85_000));
        // us to us was not measured: over the nearest node of eu.
        assert_eq!(found.rtt_us[2][3], 165_000);
        assert_eq!(found.rtt_us[4][0], 90_000);
    }

    #[test]
    fn nodes_between_which_nothing_is_known_are_named() {
        let places = places(&["", "", ""]);
        assert_eq!(complete(&places, &measured(&[(0, 1, &[1.0])])), Err(Apart(0, 2)));
    }

    #[test]
    fn the_file_has_a_row_and_a_column_for_each_node() {
        let found = complete(&places(&["", ""]), &measured(&[(0, 1, &[1.25])])).expect("connected");
        assert_eq!(found.csv(&["a".into(), "b".into()]), "node,a,b\na,0.000,1.250\nb,1.250,0.000\n");
    }
}
