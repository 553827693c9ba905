//! How healthy an overlay is, from the views of its nodes.

use std::collections::VecDeque;

use crate::model::Views;

/// Sources of the breadth-first searches that measure path lengths; of a larger overlay a sample.
const SOURCES_MAX: usize = 64;

/// The views of all nodes at one instant; nodes are indices. What a dead node has in its views, and
/// what others have of it in theirs, counts nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// Whether each node lives.
    pub live: &'a [bool],
    /// The active view of each node, in any order.
    pub active: &'a [Vec<usize>],
    /// The passive view of each node, in any order.
    pub passive: &'a [Vec<usize>],
}

impl Overlay<'_> {
    /// Its health. Takes time proportional to nodes and links, times 64 for the paths, since their sources are sampled.
    pub fn views(&self) -> Views {
        let views = self.active_views();
        let links = undirected(&views);
        let live: Vec<usize> = (0..self.live.len()).filter(|node| self.live[*node]).collect();
        let (path_mean, path_max) = paths(&links, &live);
        let asymmetric = |node: usize| views[node].iter().filter(|n| !holds(&views[**n], node)).count();
        Views {
            components: components(&links, &live),
            isolated: live.iter().filter(|node| links[**node].is_empty()).count(),
            asymmetric: live.iter().map(|node| asymmetric(*node)).sum(),
            degrees: histogram(live.iter().map(|node| views[*node].len())),
            in_degrees: self.in_degrees(&live),
            clustering: clustering(&links, &live),
            path_mean,
            path_max,
        }
    }

    /// The live neighbours of each live node, ascending, each once, without the node itself.
    fn active_views(&self) -> Vec<Vec<usize>> {
        (0..self.live.len()).map(|node| self.live_members(self.active, node)).collect()
    }

    fn live_members(&self, views: &[Vec<usize>], node: usize) -> Vec<usize> {
        if !self.live[node] {
            return Vec::new();
        }
        let is_live = |other: &usize| *other != node && self.live.get(*other).copied().unwrap_or(false);
        let members = views.get(node).map_or(&[][..], Vec::as_slice);
        sorted(members.iter().copied().filter(is_live).collect())
    }

    fn in_degrees(&self, live: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.live.len()];
        for node in live {
            for member in self.live_members(self.passive, *node) {
                counts[member] += 1;
            }
        }
        histogram(live.iter().map(|node| counts[*node]))
    }
}

fn sorted(mut list: Vec<usize>) -> Vec<usize> {
    list.sort_unstable();
    list.dedup();
    list
}

fn holds(sorted: &[usize], node: usize) -> bool {
    sorted.binary_search(&node).is_ok()
}

/// Links that at least one end has in its view, at both ends.
fn undirected(views: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut links = views.to_vec();
    for (node, view) in views.iter().enumerate() {
        for neighbour in view {
            links[*neighbour].push(node);
        }
    }
    links.into_iter().map(sorted).collect()
}

fn histogram(values: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut counts = Vec::new();
    for value in values {
        if counts.len() <= value {
            counts.resize(value + 1, 0);
        }
        counts[value] += 1;
    }
    counts
}

/// Links from `source` to each node; none: not reachable.
fn distances(links: &[Vec<usize>], source: usize) -> Vec<Option<usize>> {
    let mut found = vec![None; links.len()];
    found[source] = Some(0);
    let mut queue = VecDeque::from([(source, 0)]);
    while let Some((node, distance)) = queue.pop_front() {
        for neighbour in &links[node] {
            if found[*neighbour].is_none() {
                found[*neighbour] = Some(distance + 1);
                queue.push_back((*neighbour, distance + 1));
            }
        }
    }
    found
}

fn components(links: &[Vec<usize>], live: &[usize]) -> usize {
    let mut seen = vec![false; links.len()];
    let mut count = 0;
    for start in live {
        if std::mem::replace(&mut seen[*start], true) {
            continue;
        }
        count += 1;
        let mut open = vec![*start];
        while let Some(node) = open.pop() {
            open.extend(links[node].iter().filter(|n| !std::mem::replace(&mut seen[**n], true)));
        }
    }
    count
}

/// Of the pairs of a node's neighbours the share that are neighbours too; mean over the nodes with at
/// least two (Watts and Strogatz 1998). A node with fewer counts as zero.
fn clustering(links: &[Vec<usize>], live: &[usize]) -> f64 {
    let local = |node: &usize| {
        let neighbours = &links[*node];
        let pairs = neighbours.len() * neighbours.len().saturating_sub(1);
        let closed: usize = neighbours.iter().map(|a| shared(&links[*a], neighbours)).sum();
        closed as f64 / pairs.max(1) as f64
    };
    live.iter().map(local).sum::<f64>() / live.len().max(1) as f64
}

/// Elements of two ascending lists that are in both.
fn shared(a: &[usize], b: &[usize]) -> usize {
    let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
    few.iter().filter(|node| holds(many, **node)).count()
}

/// Mean and maximum of the shortest paths between sampled sources and all nodes that they reach.
fn paths(links: &[Vec<usize>], live: &[usize]) -> (f64, usize) {
    let (mut sum, mut count, mut max) = (0, 0usize, 0);
    for source in live.iter().step_by(live.len().div_ceil(SOURCES_MAX).max(1)) {
        for distance in distances(links, *source).into_iter().flatten().filter(|d| *d > 0) {
            sum += distance;
            count += 1;
            max = max.max(distance);
        }
    }
    (sum as f64 / count.max(1) as f64, max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two triangles, one link known to one end only, a dead node, and a node alone.
    #[test]
    fn a_small_overlay_by_hand() {
        let active =
            [vec![1, 2, 6], vec![0, 2], vec![0, 1, 3], vec![4, 5], vec![3, 5], vec![3, 4], vec![0], vec![7]];
        let passive = [vec![3], vec![3], vec![], vec![], vec![], vec![], vec![3], vec![]];
        let live = [true, true, true, true, true, true, false, true];
        let views = Overlay { live: &live, active: &active, passive: &passive }.views();
        assert_eq!((views.components, views.isolated, views.asymmetric), (2, 1, 1));
        assert_eq!(views.degrees, [1, 0, 5, 1]);
        assert_eq!(views.in_degrees, [6, 0, 1]);
        assert!((views.clustering - (4.0 + 2.0 / 3.0) / 7.0).abs() < 1e-9, "{}", views.clustering);
        assert_eq!(views.path_max, 3);
        assert!((views.path_mean - 1.8).abs() < 1e-9, "{}", views.path_mean);
    }

    #[test]
    fn no_nodes_and_short_lists_are_no_mistake() {
        assert_eq!(Overlay { live: &[], active: &[], passive: &[] }.views(), Views::default());
        let views = Overlay { live: &[true, true], active: &[vec![9]], passive: &[] }.views();
        assert_eq!((views.components, views.isolated), (2, 2));
    }

    /// A random overlay as a matrix: `m[a][b]`, a has b in its view.
    fn overlay() -> impl Strategy<Value = (Vec<bool>, Vec<Vec<bool>>)> {
        (1usize..24).prop_flat_map(|n| {
            let row = prop::collection::vec(prop::bool::weighted(0.12), n);
            (prop::collection::vec(prop::bool::weighted(0.85), n), prop::collection::vec(row, n))
        })
    }

    fn lists(matrix: &[Vec<bool>]) -> Vec<Vec<usize>> {
        matrix.iter().map(|row| (0..row.len()).filter(|b| row[*b]).collect()).collect()
    }

    /// Shortest paths by Floyd and Warshall, over live nodes and links that one end knows.
    fn all_pairs(live: &[bool], matrix: &[Vec<bool>]) -> Vec<Vec<Option<usize>>> {
        let n = live.len();
        let linked = |a: usize, b: usize| a != b && live[a] && live[b] && (matrix[a][b] || matrix[b][a]);
        let first = |a, b| if a == b { Some(0) } else { linked(a, b).then_some(1) };
        let mut found: Vec<Vec<_>> = (0..n).map(|a| (0..n).map(|b| first(a, b)).collect()).collect();
        for via in 0..n {
            for a in 0..n {
                for b in 0..n {
                    if let (Some(left), Some(right)) = (found[a][via], found[via][b]) {
                        let known = found[a][b].unwrap_or(usize::MAX);
                        found[a][b] = Some(known.min(left + right));
                    }
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_naive_definitions((live, matrix) in overlay()) {
            let n = live.len();
            let active = lists(&matrix);
            let views = Overlay { live: &live, active: &active, passive: &active }.views();
            let alive: Vec<usize> = (0..n).filter(|a| live[*a]).collect();
            let far = all_pairs(&live, &matrix);

            let first_of_component = |a: &&usize| alive.iter().all(|b| b >= *a || far[**a][*b].is_none());
            prop_assert_eq!(views.components, alive.iter().filter(first_of_component).count());
            let lonely = |a: &&usize| alive.iter().all(|b| b == *a || far[**a][*b].is_none());
            prop_assert_eq!(views.isolated, alive.iter().filter(lonely).count());

            let pairs = || alive.iter().flat_map(|a| alive.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
            prop_assert_eq!(views.asymmetric, pairs().filter(|(a, b)| matrix[*a][*b] && !matrix[*b][*a]).count());

            let paths: Vec<usize> = pairs().filter_map(|(a, b)| far[a][b]).collect();
            let mean = paths.iter().sum::<usize>() as f64 / paths.len().max(1) as f64;
            prop_assert_eq!(views.path_max, paths.iter().copied().max().unwrap_or(0));
            prop_assert!((views.path_mean - mean).abs() < 1e-9);

            let linked = |a: usize, b: usize| far[a][b] == Some(1);
            let local = |a: usize| {
                let near: Vec<usize> = alive.iter().copied().filter(|b| linked(a, *b)).collect();
                let all: Vec<_> = near.iter().flat_map(|b| near.iter().map(move |c| (*b, *c))).filter(|(b, c)| b < c).collect();
                let closed = all.iter().filter(|(b, c)| linked(*b, *c)).count();
                closed as f64 / all.len().max(1) as f64
            };
            let clustering = alive.iter().map(|a| local(*a)).sum::<f64>() / alive.len().max(1) as f64;
            prop_assert!((views.clustering - clustering).abs() < 1e-9);

            let degree = |a: usize| alive.iter().filter(|b| **b != a && matrix[a][**b]).count();
            let known_by = |a: usize| alive.iter().filter(|b| **b != a && matrix[**b][a]).count();
            for (histogram, of) in [(&views.degrees, &degree as &dyn Fn(usize) -> usize), (&views.in_degrees, &known_by)] {
                for (value, count) in histogram.iter().enumerate() {
                    prop_assert_eq!(*count, alive.iter().filter(|a| of(**a) == value).count());
                }
                prop_assert_eq!(histogram.iter().sum::<usize>(), alive.len());
            }
        }
    }
}
