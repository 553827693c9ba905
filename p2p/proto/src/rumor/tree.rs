//! Redrawing the shared tree. Prunes and grafts keep the eager links a tree, but not a short one: which
//! link of a cycle is cut depends on the rumors that crossed it. So while rumors flow, one node
//! periodically floods a *beacon* over every link. Each node holds it for [`HOLD_MS`] before it forwards it, and
//! chooses the shallowest of the peers that it came from as its parent: a breadth-first tree, except that
//! quick links win over short paths. There is no election: any node that publishes and receives no beacons
//! begins, and the latest round wins. Rumors do not depend on beacons.
//!
//! A node that loses its parent chooses another neighbour that the beacon came from, if that one cannot be in its
//! subtree: places, which are (depth, node), only decrease on the way up. Without one it begins the next round.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::message::Beacon;
use crate::{Millis, NodeId};

/// How long a node holds a beacon before it chooses its parent and forwards it, milliseconds. A longer time makes
/// paths of fewer links, which take longer: at 1,000 nodes, links of 10 to 50 ms and five neighbours, 5 ms
/// make 13.7 links and 292 ms to the last node, 12 ms 12.5 and 315, 25 ms 11.9 and 335.
const HOLD_MS: u64 = 12;
/// Time between two beacons while rumors flow, milliseconds. A guess: views change more rarely.
const REDRAW_MS: u64 = 10_000;
/// Time without a beacon after which another origin begins, milliseconds.
const MISSED_MS: u64 = 3 * REDRAW_MS;
/// Least age of the last round before a node without a parent begins the next one, milliseconds. A guess: a round
/// takes less.
const AGAIN_MS: u64 = 5_000;
/// Random wait of a node that misses beacons before it begins, milliseconds: the former origin comes first, and few
/// nodes begin at once.
const BEGIN_MS: std::ops::Range<u64> = 500..5_000;

/// This node's state of the tree.
#[derive(Debug)]
pub(super) struct Tree {
    me: NodeId,
    /// The origin in beacons that this node begins.
    own: u64,
    /// The beacon of the last round, as this node forwards it, and when it arrived.
    last: Option<(Beacon, Millis)>,
    /// The peers that it came from, earliest first, and their depths.
    offers: Vec<(NodeId, u16)>,
    parent: Option<NodeId>,
    /// When to forward the last beacon.
    pass_at: Option<Millis>,
    /// When to begin a round.
    begin_at: Option<Millis>,
}

/// What to do when a beacon is forwarded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redraw {
    pub(super) beacon: Beacon,
    /// Peers that have the beacon already.
    pub(super) known_by: Vec<NodeId>,
    /// The link to attach to.
    pub(super) parent: Option<NodeId>,
    /// The former parent, if it is another one.
    pub(super) leave: Option<NodeId>,
}

impl Tree {
    pub(super) fn new(me: NodeId, rng: &mut ChaCha8Rng) -> Self {
        Self {
            me,
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

    /// Whether this node began the last round.
    pub(super) fn is_root(&self) -> bool {
        self.last.is_some_and(|(beacon, _)| beacon.origin == self.own)
    }

    /// The beacon to send to a new neighbour.
    pub(super) fn last_beacon(&self, now: Millis) -> Option<Beacon> {
        let (beacon, _) = self.last.filter(|_| self.is_drawn(now) && self.pass_at.is_none())?;
        Some(beacon)
    }

    /// Whether it has been redrawn lately, so that links outside of it are superfluous.
    pub(super) fn is_drawn(&self, now: Millis) -> bool {
        self.last.is_some_and(|(_, at)| now - at < MISSED_MS)
    }

    pub(super) fn next_due(&self) -> Option<Millis> {
        [self.pass_at, self.begin_at].into_iter().flatten().min()
    }

    /// Records that a rumor passes, so that the tree is in use. A node that publishes rumors begins the first round,
    /// and then the following ones.
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

    /// Handles a beacon.
    pub(super) fn on_beacon(&mut self, now: Millis, from: NodeId, beacon: Beacon) {
        if let Some((last, _)) = self.last {
            if (beacon.round, beacon.origin) == (last.round, last.origin) {
                self.offers.retain(|(peer, _)| *peer != from);
                self.offers.push((from, beacon.depth));
                return;
            }
            let is_newer =
                beacon.round > last.round || beacon.round == last.round && beacon.origin < last.origin;
            if !is_newer {
                return;
            }
        }
        self.last = Some((beacon, now));
        self.offers = vec![(from, beacon.depth)];
        self.pass_at = Some(now + HOLD_MS);
        self.begin_at = None;
    }

    /// The redrawing that is due, if there is one.
    pub(super) fn poll(&mut self, now: Millis) -> Option<Redraw> {
        if self.begin_at.is_some_and(|at| at <= now) {
            self.begin_at = None;
            let round = self.last.map_or(0, |(last, _)| last.round).saturating_add(1);
            self.last = Some((Beacon { round, origin: self.own, depth: 0 }, now));
            self.offers.clear();
            self.pass_at = Some(now);
        }
        self.pass_at.take_if(|at| *at <= now)?;
        // The shallowest peer; the present parent stays if none is shallower, so that chance does not change the tree.
        let offer = self.offers.iter().min_by_key(|(peer, depth)| (*depth, Some(*peer) != self.parent));
        if offer.is_none() && !self.is_root() {
            self.go_adrift(now);
            return None;
        }
        let (beacon, _) = self.last.as_mut()?;
        beacon.depth = offer.map_or(0, |(_, depth)| depth.saturating_add(1));
        let parent = offer.map(|(peer, _)| *peer);
        let beacon = *beacon;
        let before = std::mem::replace(&mut self.parent, parent);
        let known_by = self.offers.iter().map(|(peer, _)| *peer).collect();
        Some(Redraw { beacon, known_by, parent, leave: before.filter(|_| parent != before) })
    }

    /// Handles a link that is gone, or lazy at its other end. Returns a new parent, if that peer was the parent and
    /// there is one that is not in this node's subtree.
    pub(super) fn lost(&mut self, peer: NodeId) -> Option<NodeId> {
        self.offers.retain(|(offer, _)| *offer != peer);
        self.parent.take_if(|parent| *parent == peer)?;
        let (beacon, _) = self.last.as_mut()?;
        let above = self.offers.iter().filter(|(peer, depth)| (*depth, *peer) < (beacon.depth, self.me));
        let (parent, depth) = *above.min_by_key(|(_, depth)| *depth)?;
        beacon.depth = beacon.depth.min(depth.saturating_add(1));
        self.parent = Some(parent);
        self.parent
    }

    /// Makes a peer the parent until a beacon names a better one.
    pub(super) fn adopt(&mut self, parent: NodeId) {
        self.parent = Some(parent);
    }

    /// Lets this node begin the next round, because it has no parent.
    pub(super) fn go_adrift(&mut self, now: Millis) {
        if let Some((_, at)) = self.last {
            self.begin_at = Some(now.max(at + AGAIN_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const ME: NodeId = NodeId([3; 32]);
    const C: NodeId = NodeId([4; 32]);

    fn tree() -> (Tree, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        (Tree::new(ME, &mut rng), rng)
    }

    fn beacon(round: u64, origin: u64, depth: u16) -> Beacon {
        Beacon { round, origin, depth }
    }

    /// All redrawings that are due, as (beacon, parent, leave).
    fn drain(tree: &mut Tree) -> Vec<(Beacon, Option<NodeId>, Option<NodeId>)> {
        let mut redraws = Vec::new();
        while let Some(now) = tree.next_due() {
            let redraw = tree.poll(now).expect("it is due");
            redraws.push((redraw.beacon, redraw.parent, redraw.leave));
        }
        redraws
    }

    #[test]
    fn the_shallowest_in_time_is_the_parent_and_one_as_good_as_any_stays() {
        let (mut tree, _) = tree();
        tree.on_beacon(Millis(0), A, beacon(1, 7, 4));
        tree.on_beacon(Millis(1), B, beacon(1, 7, 3));
        assert_eq!(drain(&mut tree), [(beacon(1, 7, 4), Some(B), None)]);
        tree.on_beacon(Millis(100), A, beacon(2, 7, 3));
        tree.on_beacon(Millis(100 + HOLD_MS - 1), B, beacon(2, 7, 3));
        assert_eq!(drain(&mut tree), [(beacon(2, 7, 4), Some(B), None)]);
        tree.on_beacon(Millis(200), C, beacon(3, 7, 1));
        assert_eq!(drain(&mut tree), [(beacon(3, 7, 2), Some(C), Some(B))]);
        tree.on_beacon(Millis(201), A, beacon(3, 7, 0));
        assert_eq!((drain(&mut tree), tree.parent()), (vec![], Some(C)), "it came too late");
    }

    #[test]
    fn the_latest_round_goes_on_and_of_one_round_the_smaller_origin() {
        let (mut tree, _) = tree();
        for (round, origin, passed) in
            [(5, 7, true), (4, 3, false), (5, 9, false), (5, 3, true), (6, 9, true)]
        {
            tree.on_beacon(Millis(0), A, beacon(round, origin, 0));
            assert_eq!(drain(&mut tree).len(), usize::from(passed), "round {round} origin {origin}");
        }
        tree.on_beacon(Millis(0), A, beacon(u64::MAX, 7, u16::MAX));
        assert_eq!(drain(&mut tree), [(beacon(u64::MAX, 7, u16::MAX), Some(A), None)]);
        tree.go_adrift(Millis(0));
        assert_eq!(
            drain(&mut tree),
            [(beacon(u64::MAX, tree.own, 0), None, Some(A))],
            "numbers end somewhere"
        );
    }

    #[test]
    fn who_publishes_and_misses_beacons_begins_and_goes_on_only_while_rumors_flow() {
        let (mut tree, mut rng) = tree();
        tree.in_use(Millis(0), false, &mut rng);
        assert_eq!(tree.next_due(), None, "rumors of others");
        tree.in_use(Millis(0), true, &mut rng);
        let began = tree.next_due().expect("it begins");
        assert_eq!(drain(&mut tree), [(beacon(1, tree.own, 0), None, None)]);
        tree.in_use(began + 1, false, &mut rng);
        assert_eq!(tree.next_due(), Some(began + REDRAW_MS));
        assert_eq!(drain(&mut tree), [(beacon(2, tree.own, 0), None, None)]);
        assert_eq!(tree.next_due(), None, "nothing flows");
    }

    #[test]
    fn a_lost_parent_is_replaced_by_one_that_is_not_behind_us() {
        let (mut tree, _) = tree();
        for (from, depth) in [(B, 4), (A, 5), (C, 5)] {
            tree.on_beacon(Millis(0), from, beacon(1, 7, depth));
        }
        assert_eq!(drain(&mut tree), [(beacon(1, 7, 5), Some(B), None)]);
        assert_eq!((tree.lost(C), tree.lost(B)), (None, Some(A)), "as deep, and smaller");
        tree.on_beacon(Millis(9), C, beacon(1, 7, 5));
        tree.on_beacon(Millis(9), B, beacon(1, 7, 6));
        assert_eq!((tree.lost(A), tree.parent()), (None, None), "as deep and greater, or deeper");
        tree.go_adrift(Millis(10));
        assert_eq!(tree.next_due(), Some(Millis(AGAIN_MS)));
        assert_eq!(drain(&mut tree), [(beacon(2, tree.own, 0), None, None)]);
    }
}
