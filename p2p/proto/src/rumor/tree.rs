//! Redrawing the shared tree. Prunes and grafts keep the eager links a tree, but not a short one: which
//! link of a cycle is cut depends on the rumors that crossed it. So while rumors flow, one node now and
//! then floods a *beacon* over every link. Each node holds it for [`HOLD_MS`] before it passes it on;
//! the link by which it came first then leads to that node along the path with the least sum of latency
//! and [`HOLD_MS`] per hop: a breadth-first tree where latencies are equal. Any node that publishes may be
//! the one, none is elected: whoever misses beacons begins, and the smallest number wins. Without beacons
//! rumors travel all the same.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::message::Beacon;
use crate::{Millis, NodeId};

/// What a hop counts for beside its latency, milliseconds: more than a machine adds by chance, so that
/// nearby nodes form a breadth-first tree. Measured at 1,000 nodes and links of 10 to 50 ms (time to the
/// last node, hops): 1 ms 290, 13.9; 8 ms 308, 13.4; 20 ms 325, 12.8; 50 ms 352, 12.5.
const HOLD_MS: u64 = 5;
/// Time between two beacons while rumors flow, milliseconds. A guess: views change more rarely.
const REDRAW_MS: u64 = 10_000;
/// A beacon of another origin is waited for so long after the last one, milliseconds.
const MISSED_MS: u64 = 3 * REDRAW_MS;
/// Whoever misses beacons waits for a time in this range before it begins, milliseconds: the former
/// origin comes first, and few begin at once.
const BEGIN_MS: std::ops::Range<u64> = 500..5_000;

/// What this node knows of the tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// This node's number, should it begin.
    own: u64,
    /// The last beacon, and when it came.
    last: Option<(Beacon, Millis)>,
    /// Links the last beacon came by before it was passed on, earliest first: none of these peers is
    /// behind this node in the tree.
    offers: Vec<NodeId>,
    parent: Option<NodeId>,
    /// When to pass the last beacon on.
    pass_at: Option<Millis>,
    /// When to send a beacon of our own.
    begin_at: Option<Millis>,
}

/// What passing a beacon on asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redraw {
    pub(super) beacon: Beacon,
    /// Who need not be told.
    pub(super) known_by: Vec<NodeId>,
    /// The link to attach to.
    pub(super) parent: Option<NodeId>,
    /// The former parent, if it is another one.
    pub(super) leave: Option<NodeId>,
}

impl Tree {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            own: rng.random(),
            last: None,
            offers: Vec::new(),
            parent: None,
            pass_at: None,
            begin_at: None,
        }
    }

    pub(super) fn parent(&self) -> Option<NodeId> {
        self.parent
    }

    /// Whether it has been redrawn lately, so that links outside of it are superfluous.
    pub(super) fn is_drawn(&self, now: Millis) -> bool {
        self.last.is_some_and(|(_, at)| now - at < MISSED_MS)
    }

    pub(super) fn next_due(&self) -> Option<Millis> {
        [self.pass_at, self.begin_at].into_iter().flatten().min()
    }

    /// A rumor passes: the tree is in use. It is drawn from a node where rumors begin, and goes on being
    /// drawn from there.
    pub(super) fn in_use(&mut self, now: Millis, published: bool, rng: &mut ChaCha8Rng) {
        if self.begin_at.is_some() {
            return;
        }
        self.begin_at = match self.last {
            Some((beacon, at)) if beacon.origin == self.own => Some(now.max(at + REDRAW_MS)),
            Some((_, at)) if now - at < MISSED_MS => None,
            _ => published.then(|| now + rng.random_range(BEGIN_MS)),
        };
    }

    /// A beacon came.
    pub(super) fn on_beacon(&mut self, now: Millis, from: NodeId, beacon: Beacon) {
        if let Some((last, at)) = self.last {
            if beacon == last {
                if self.pass_at.is_some() {
                    self.offers.push(from);
                }
                return;
            }
            let is_newer = if beacon.origin == last.origin {
                beacon.round > last.round
            } else {
                beacon.origin < last.origin || now - at >= MISSED_MS
            };
            if !is_newer || beacon.origin == self.own {
                return;
            }
        }
        self.last = Some((beacon, now));
        self.offers = vec![from];
        self.pass_at = Some(now + HOLD_MS);
        self.begin_at = None;
    }

    /// What is due, if anything.
    pub(super) fn poll(&mut self, now: Millis) -> Option<Redraw> {
        if self.begin_at.is_some_and(|at| at <= now) {
            self.begin_at = None;
            let round =
                self.last.filter(|(last, _)| last.origin == self.own).map_or(1, |(last, _)| last.round + 1);
            let beacon = Beacon { origin: self.own, round };
            self.last = Some((beacon, now));
            self.offers.clear();
            self.pass_at = Some(now);
        }
        self.pass_at.take_if(|at| *at <= now)?;
        let (beacon, _) = self.last?;
        let known_by = self.offers.clone();
        // A parent that is hardly later than the first stays: chance alone must not redraw the tree.
        let stays = self.parent.is_some_and(|parent| known_by.contains(&parent));
        let parent = if stays { self.parent } else { known_by.first().copied() };
        let before = std::mem::replace(&mut self.parent, parent);
        Some(Redraw { beacon, known_by, parent, leave: before.filter(|_| parent != before) })
    }

    /// The link is gone, or lazy at its other end. A new parent, if this was ours and there is one.
    pub(super) fn lost(&mut self, peer: NodeId) -> Option<NodeId> {
        self.offers.retain(|offer| *offer != peer);
        self.parent.take_if(|parent| *parent == peer)?;
        self.parent = self.offers.first().copied();
        self.parent
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const C: NodeId = NodeId([3; 32]);

    fn tree() -> (Tree, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        (Tree::new(&mut rng), rng)
    }

    fn beacon(origin: u64, round: u64) -> Beacon {
        Beacon { origin, round }
    }

    /// Everything due until nothing is, as (beacon, parent, leave).
    fn drain(tree: &mut Tree) -> Vec<(Beacon, Option<NodeId>, Option<NodeId>)> {
        let mut redraws = Vec::new();
        while let Some(now) = tree.next_due() {
            let redraw = tree.poll(now).expect("it is due");
            redraws.push((redraw.beacon, redraw.parent, redraw.leave));
        }
        redraws
    }

    #[test]
    fn the_first_link_leads_to_the_parent_and_a_parent_that_is_hardly_later_stays() {
        let (mut tree, _) = tree();
        tree.on_beacon(Millis(0), A, beacon(7, 1));
        tree.on_beacon(Millis(1), B, beacon(7, 1));
        assert_eq!(drain(&mut tree), [(beacon(7, 1), Some(A), None)]);
        tree.on_beacon(Millis(100), B, beacon(7, 2));
        tree.on_beacon(Millis(100 + HOLD_MS - 1), A, beacon(7, 2));
        assert_eq!(drain(&mut tree), [(beacon(7, 2), Some(A), None)]);
        tree.on_beacon(Millis(200), C, beacon(7, 3));
        assert_eq!(drain(&mut tree), [(beacon(7, 3), Some(C), Some(A))]);
        tree.on_beacon(Millis(201), A, beacon(7, 3));
        assert_eq!((drain(&mut tree), tree.parent()), (vec![], Some(C)), "it came too late");
    }

    #[test]
    fn the_smaller_origin_wins_until_it_is_missed() {
        let (mut tree, _) = tree();
        for (at, origin, round, passed) in [
            (0, 7, 5, true),
            (1, 9, 1, false),
            (2, 7, 4, false),
            (3, 3, 1, true),
            (3 + MISSED_MS, 9, 1, true),
        ] {
            tree.on_beacon(Millis(at), A, beacon(origin, round));
            assert_eq!(drain(&mut tree).len(), usize::from(passed), "origin {origin} round {round}");
        }
    }

    #[test]
    fn who_publishes_and_misses_beacons_begins_and_goes_on_only_while_rumors_flow() {
        let (mut tree, mut rng) = tree();
        tree.in_use(Millis(0), false, &mut rng);
        assert_eq!(tree.next_due(), None, "rumors of others");
        tree.in_use(Millis(0), true, &mut rng);
        let began = tree.next_due().expect("it begins");
        assert_eq!(drain(&mut tree), [(beacon(tree.own, 1), None, None)]);
        tree.in_use(began + 1, false, &mut rng);
        assert_eq!(tree.next_due(), Some(began + REDRAW_MS));
        assert_eq!(drain(&mut tree), [(beacon(tree.own, 2), None, None)]);
        assert_eq!(tree.next_due(), None, "nothing flows");
        tree.on_beacon(Millis(60_000), A, beacon(tree.own, 3));
        assert_eq!(tree.next_due(), None, "its own beacon says nothing new");
    }

    #[test]
    fn a_lost_parent_is_replaced_by_one_that_is_not_behind_us() {
        let (mut tree, _) = tree();
        for (at, from) in [(0, A), (1, B), (HOLD_MS + 1, C)] {
            tree.on_beacon(Millis(at), from, beacon(7, 1));
            if at == 1 {
                drain(&mut tree);
            }
        }
        assert_eq!((tree.lost(C), tree.lost(A), tree.lost(B)), (None, Some(B), None));
        assert_eq!(tree.parent(), None);
    }
}
