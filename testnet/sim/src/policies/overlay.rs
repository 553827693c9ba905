//! Synthetic overlays.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The neighbours of each node, ascending.
pub(super) type Neighbours = Vec<Vec<u32>>;

/// A connected random graph in which every node has `degree` neighbours (one node has one fewer if
/// `nodes * degree` is odd): stubs are paired at random, and pairs that would link a node to itself
/// or twice to the same node are exchanged with random other pairs.
///
/// `degree` is at least 2 and below `nodes`.
pub(super) fn random_regular(nodes: usize, degree: usize, rng: &mut ChaCha8Rng) -> Neighbours {
    assert!((2..nodes).contains(&degree), "a degree of 2 and more, below the number of nodes");
    loop {
        if let Some(neighbours) = pair(nodes, degree, rng)
            && is_connected(&neighbours)
        {
            return neighbours;
        }
    }
}

/// Exchanges of bad pairs before the pairing starts again: dense little graphs can get stuck.
const EXCHANGES_MAX: usize = 10_000;

fn pair(nodes: usize, degree: usize, rng: &mut ChaCha8Rng) -> Option<Neighbours> {
    let mut stubs: Vec<u32> = (0..nodes as u32).flat_map(|node| std::iter::repeat_n(node, degree)).collect();
    stubs.shuffle(rng);
    stubs.truncate(stubs.len() / 2 * 2);
    let mut neighbours: Neighbours = vec![Vec::with_capacity(degree); nodes];
    let mut pairs: Vec<(u32, u32)> = stubs.chunks_exact(2).map(|stub| (stub[0], stub[1])).collect();
    let mut done = 0;
    let mut exchanges = 0;
    while done < pairs.len() {
        let (a, b) = pairs[done];
        if a != b && !neighbours[a as usize].contains(&b) {
            link(&mut neighbours, a, b);
            done += 1;
            continue;
        }
        exchanges += 1;
        if exchanges > EXCHANGES_MAX {
            return None;
        }
        let other = rng.random_range(0..pairs.len());
        if other < done {
            let (c, d) = pairs[other];
            unlink(&mut neighbours, c, d);
            pairs[other] = (c, b);
            pairs[done] = (a, d);
            if c == b || neighbours[c as usize].contains(&b) {
                // No better: put it back.
                pairs[other] = (c, d);
                pairs[done] = (a, b);
                link(&mut neighbours, c, d);
            } else {
                link(&mut neighbours, c, b);
            }
        } else {
            (pairs[done].1, pairs[other].1) = (pairs[other].1, b);
        }
    }
    for list in &mut neighbours {
        list.sort_unstable();
    }
    Some(neighbours)
}

fn link(neighbours: &mut Neighbours, a: u32, b: u32) {
    neighbours[a as usize].push(b);
    neighbours[b as usize].push(a);
}

fn unlink(neighbours: &mut Neighbours, a: u32, b: u32) {
    neighbours[a as usize].retain(|peer| *peer != b);
    neighbours[b as usize].retain(|peer| *peer != a);
}

fn is_connected(neighbours: &Neighbours) -> bool {
    let mut reached = vec![false; neighbours.len()];
    let mut next = vec![0_u32];
    let mut count = 0;
    while let Some(node) = next.pop() {
        if !std::mem::replace(&mut reached[node as usize], true) {
            count += 1;
            next.extend(&neighbours[node as usize]);
        }
    }
    count == neighbours.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    proptest! {
        #[test]
        fn overlays_are_simple_symmetric_connected_and_regular(
            nodes in 4..200_usize, degree in 2..8_usize, seed: u64,
        ) {
            let degree = degree.min(nodes - 1);
            let neighbours = random_regular(nodes, degree, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(is_connected(&neighbours));
            let mut stubs = 0;
            for (node, list) in neighbours.iter().enumerate() {
                prop_assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(list.iter().all(|peer| *peer as usize != node));
                prop_assert!(list.iter().all(|peer| neighbours[*peer as usize].contains(&(node as u32))));
                stubs += list.len();
            }
            prop_assert_eq!(stubs, nodes * degree / 2 * 2);
            prop_assert!(neighbours.iter().all(|list| list.len() <= degree));
        }
    }
}
