//! The part of an overlay that a drawing shows.

use std::collections::VecDeque;

use crate::model::{Topology, TopologyLink, TopologyNode};

/// Nodes of a drawing at most: more than this is a grey ball.
pub const DRAWN_MAX: usize = 300;

impl Topology {
    /// The whole overlay, or of a large one the neighbourhood of its first nodes: a sample in which
    /// nodes keep their links. Links to unknown nodes are left out.
    pub fn of(nodes: Vec<TopologyNode>, links: &[TopologyLink]) -> Self {
        let of = nodes.len();
        let known: Vec<TopologyLink> = links.iter().copied().filter(|l| l.a < of && l.b < of).collect();
        if of <= DRAWN_MAX {
            return Self { of, nodes, links: known };
        }
        let mut place = vec![None; of];
        for (position, node) in neighbourhood(of, &known).into_iter().enumerate() {
            place[node] = Some(position);
        }
        let drawn =
            |link: &TopologyLink| Some(TopologyLink { a: place[link.a]?, b: place[link.b]?, ..*link });
        let links = known.iter().filter_map(drawn).collect();
        let mut chosen: Vec<_> =
            nodes.into_iter().enumerate().filter_map(|(i, n)| Some((place[i]?, n))).collect();
        chosen.sort_unstable_by_key(|(position, _)| *position);
        Self { of, nodes: chosen.into_iter().map(|(_, node)| node).collect(), links }
    }
}

/// [`DRAWN_MAX`] of so many nodes, in the order of a breadth-first search: along eager links as far as
/// they go, so that a part of the broadcast tree is whole, then along lazy ones, then from the next node.
fn neighbourhood(nodes: usize, links: &[TopologyLink]) -> Vec<usize> {
    let mut neighbours = vec![Vec::new(); nodes];
    for link in links {
        neighbours[link.a].push((link.b, link.eager));
        neighbours[link.b].push((link.a, link.eager));
    }
    let mut seen = vec![false; nodes];
    let mut chosen = Vec::with_capacity(DRAWN_MAX);
    for start in 0..nodes {
        let (mut eager, mut lazy) = (VecDeque::from([start]), VecDeque::new());
        while let Some(node) = eager.pop_front().or_else(|| lazy.pop_front()) {
            if chosen.len() == DRAWN_MAX {
                return chosen;
            }
            if !std::mem::replace(&mut seen[node], true) {
                chosen.push(node);
                for (neighbour, is_eager) in &neighbours[node] {
                    if *is_eager { eager.push_back(*neighbour) } else { lazy.push_back(*neighbour) }
                }
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of so many nodes, lazy links across it, and one link to nowhere.
    fn ring(nodes: usize) -> Topology {
        let node = |index| TopologyNode { name: format!("n{index}"), region: None, up: true };
        let link = |a| TopologyLink { a, b: (a + 1) % nodes, eager: true };
        let chord = |a| TopologyLink { a, b: (a + nodes / 2) % nodes, eager: false };
        let mut links: Vec<TopologyLink> = (0..nodes).map(link).chain((0..nodes / 2).map(chord)).collect();
        links.push(TopologyLink { a: 0, b: nodes, eager: true });
        Topology::of((0..nodes).map(node).collect(), &links)
    }

    #[test]
    fn a_small_overlay_is_drawn_whole() {
        let topology = ring(20);
        assert_eq!((topology.of, topology.nodes.len(), topology.links.len()), (20, 20, 30));
    }

    #[test]
    fn of_a_large_one_a_connected_part_of_the_tree_is_drawn_with_its_links() {
        let topology = ring(10_000);
        assert_eq!((topology.of, topology.nodes.len()), (10_000, DRAWN_MAX));
        assert_eq!(topology.links.len(), DRAWN_MAX - 1, "the arc of a ring");
        let number = |node: usize| topology.nodes[node].name[1..].parse::<usize>().expect("a number");
        for link in &topology.links {
            assert_eq!((number(link.a) + 1) % 10_000, number(link.b));
        }
    }
}
