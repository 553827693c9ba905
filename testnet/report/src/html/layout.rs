//! Where a drawing puts the nodes of an overlay: forces push all nodes apart and pull linked ones
//! together (Fruchterman and Reingold 1991), from a fixed start, so that equal overlays look equal.
//! Eager links pull more, so that the broadcast tree shows as a tree.

use crate::model::TopologyLink;

/// Rounds of moving every node; the picture stands still well before.
const ROUNDS: usize = 250;
/// Pull towards the middle, as a part of the distance: keeps unlinked parts in the picture. A guess.
const GRAVITY: f64 = 0.04;
/// Pull of a lazy link as a part of an eager one's. A guess that looks right.
const LAZY_PULL: f64 = 0.03;
/// Turn from one node to the next at the start: the golden angle, which spreads them evenly.
const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;

/// A place in the unit square.
pub type Place = (f64, f64);

/// Places for so many nodes with these links, whose ends are below `nodes`.
pub fn layout(nodes: usize, links: &[TopologyLink]) -> Vec<Place> {
    let spiral = |node: usize| {
        let (radius, angle) = ((node as f64 + 0.5).sqrt(), node as f64 * GOLDEN_ANGLE);
        (radius * angle.cos(), radius * angle.sin())
    };
    let mut places: Vec<Place> = (0..nodes).map(spiral).collect();
    let reach = (nodes.max(1) as f64).sqrt();
    for round in 0..ROUNDS {
        let moves = forces(&places, links);
        let step = reach * 0.2 * (1.0 - round as f64 / ROUNDS as f64);
        for (place, (dx, dy)) in places.iter_mut().zip(moves) {
            let length = dx.hypot(dy).max(1e-9);
            let far = length.min(step) / length;
            place.0 += dx * far;
            place.1 += dy * far;
        }
    }
    into_unit_square(&places)
}

/// The force on each node, in units of the distance at which linked nodes would rest.
fn forces(places: &[Place], links: &[TopologyLink]) -> Vec<Place> {
    let mut forces: Vec<Place> = places.iter().map(|(x, y)| (-x * GRAVITY, -y * GRAVITY)).collect();
    for a in 0..places.len() {
        for b in 0..a {
            let (dx, dy) = (places[a].0 - places[b].0, places[a].1 - places[b].1);
            let push = 1.0 / (dx * dx + dy * dy).max(1e-4);
            add(&mut forces, a, b, dx * push, dy * push);
        }
    }
    for TopologyLink { a, b, eager } in links.iter().copied().filter(|link| link.a != link.b) {
        let (dx, dy) = (places[a].0 - places[b].0, places[a].1 - places[b].1);
        let pull = dx.hypot(dy) * if eager { 1.0 } else { LAZY_PULL };
        add(&mut forces, a, b, -dx * pull, -dy * pull);
    }
    forces
}

/// A force on one node, and its opposite on the other.
fn add(forces: &mut [Place], a: usize, b: usize, x: f64, y: f64) {
    forces[a].0 += x;
    forces[a].1 += y;
    forces[b].0 -= x;
    forces[b].1 -= y;
}

fn into_unit_square(places: &[Place]) -> Vec<Place> {
    let ends = |of: fn(&Place) -> f64| {
        let all = || places.iter().map(of);
        (all().reduce(f64::min).unwrap_or(0.0), all().reduce(f64::max).unwrap_or(0.0))
    };
    let (x, y) = (ends(|p| p.0), ends(|p| p.1));
    let size = (x.1 - x.0).max(y.1 - y.0).max(1e-9);
    let middle = (f64::midpoint(x.0, x.1), f64::midpoint(y.0, y.1));
    places.iter().map(|p| (0.5 + (p.0 - middle.0) / size, 0.5 + (p.1 - middle.1) / size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link((a, b): (usize, usize)) -> TopologyLink {
        TopologyLink { a, b, eager: true }
    }

    fn distance(a: Place, b: Place) -> f64 {
        (a.0 - b.0).hypot(a.1 - b.1)
    }

    #[test]
    fn places_are_equal_for_equal_overlays_and_inside_the_picture() {
        let links: Vec<_> = (0..40).map(|a| link((a, (a * 7 + 3) % 40))).collect();
        let places = layout(40, &links);
        assert_eq!(places, layout(40, &links));
        let inside = |v: f64| (-1e-9..=1.0 + 1e-9).contains(&v);
        assert!(places.iter().all(|(x, y)| inside(*x) && inside(*y)));
        assert!(layout(0, &[]).is_empty());
        assert_eq!(layout(1, &[link((0, 0))]), [(0.5, 0.5)]);
    }

    #[test]
    fn linked_nodes_are_near_and_parts_stay_apart() {
        let clique = |from: usize| (from..from + 6).flat_map(move |a| (from..a).map(move |b| (a, b)));
        let links: Vec<_> = clique(0).chain(clique(6)).map(link).collect();
        let places = layout(12, &links);
        let widest =
            |from: usize| clique(from).map(|(a, b)| distance(places[a], places[b])).fold(0.0, f64::max);
        let between =
            (0..6).flat_map(|a| (6..12).map(move |b| (a, b))).map(|(a, b)| distance(places[a], places[b]));
        assert!(between.fold(f64::INFINITY, f64::min) > widest(0).max(widest(6)));
    }
}
