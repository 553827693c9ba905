//! Rejoining the tree after the loss of the parent. Such a node is cut off together with its subtree until a graft
//! of an announced rumor is due. It notices the loss first, so it turns to another neighbour at once and sends the
//! ids of the rumors that it has lately received. Then each of the two sends the rumors that the other one missed: the
//! loss of a link costs one round trip.

use std::collections::BTreeSet;

use crate::message::{RumorId, RumorMessage};
use crate::wire::bounds::RUMOR_IDS_MAX;
use crate::{Millis, NodeId};

use super::Rumors;
use super::link::Link;

/// Age of rumors whose ids are sent, milliseconds, at most: longer than the default time until a silent neighbour is
/// suspected.
const NAMED_MS: u64 = 6_000;
/// Age of rumors that the receiver treats as missing if they were not named, milliseconds, at most. So much less that
/// the time of rumors under way does not matter.
const MISSING_MS: u64 = NAMED_MS / 2;
/// Rumors that are treated as missing, at most, the latest ones: a busy node names no more than [`RUMOR_IDS_MAX`].
const MISSING_MAX: usize = RUMOR_IDS_MAX / 2;
/// Bytes of payload sent at once, at most; the rest is announced. A guess.
const GIVEN_BYTES_MAX: usize = 256 << 10;

impl Rumors {
    pub(super) fn handle_link_down(&mut self, now: Millis, peer: NodeId) {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::LinkDownNotTold) {
            return;
        }
        if self.links.remove(&peer).is_none() {
            return;
        }
        self.leaving.remove(&peer);
        let was_parent = self.tree.parent() == Some(peer);
        let next = self.tree.lost(peer);
        if was_parent || self.is_cut_off() {
            self.rejoin(now, next, peer);
        }
    }

    /// Whether all links lead to nodes of this node's subtree.
    fn is_cut_off(&self) -> bool {
        let mut eager = self.links.values().filter(|link| link.eager);
        if self.tree.is_root() { eager.next().is_none() } else { eager.all(Link::is_child) }
    }

    /// Rejoins at the parent that the tree names. Without one, at all neighbours, as if this node had just joined, with
    /// one of them as the parent: the one that sent a new rumor last and is not known to be in this node's subtree.
    /// Never at `gone`: two nodes that have only each other would repeat this without end.
    fn rejoin(&mut self, now: Millis, next: Option<NodeId>, gone: NodeId) {
        let Some(parent) = next.or_else(|| self.brought_news_last(Some(gone))) else { return };
        let named = self.cache.since(Millis(now.0.saturating_sub(NAMED_MS)));
        let ids: Vec<RumorId> = named.map(|(id, _)| id).take(RUMOR_IDS_MAX).collect();
        if let Some(link) = self.links.get_mut(&parent) {
            link.eager = true;
            link.detached();
        }
        self.leaving.remove(&parent);
        self.tree.adopt(parent);
        if next.is_none() {
            self.tree.go_adrift(now);
            self.links.values_mut().for_each(|link| link.eager = true);
            let others = self.links.keys().copied().filter(|peer| *peer != parent && *peer != gone).collect();
            self.send(others, RumorMessage::Rejoin { as_child: false, ids: ids.clone() });
        }
        self.send(vec![parent], RumorMessage::Rejoin { as_child: true, ids });
    }

    /// The neighbour that sent a new rumor last, if possible one that is not known to be in this node's subtree.
    pub(super) fn brought_news_last(&self, except: Option<NodeId>) -> Option<NodeId> {
        let links = self.links.iter().filter(|(peer, _)| Some(**peer) != except);
        links.max_by_key(|(_, link)| (!link.is_child(), link.news_at)).map(|(peer, _)| *peer)
    }

    /// Makes the first peer that sends a new rumor the parent, if this node has received no beacon yet.
    pub(super) fn adopt(&mut self, now: Millis, bringer: NodeId) {
        let is_child = self.links.get(&bringer).is_none_or(Link::is_child);
        if self.tree.parent().is_none() && !self.tree.is_drawn(now) && !is_child {
            self.tree.adopt(bringer);
            self.attach_to(bringer);
        }
    }

    /// Handles the rejoining of a neighbour at this node.
    pub(super) fn on_rejoin(
        &mut self,
        now: Millis,
        from: NodeId,
        as_child: bool,
        ids: &[RumorId],
        knows: &dyn Fn(&RumorId) -> bool,
    ) {
        let Some(link) = self.links.get_mut(&from) else { return };
        link.eager = true;
        link.grafted();
        if as_child {
            link.attached();
            // This node is in the neighbour's subtree, and cut off as well.
            if self.tree.parent() == Some(from) {
                let next = self.tree.lost(from);
                self.rejoin(now, next, from);
            }
        }
        let named: BTreeSet<RumorId> = ids.iter().copied().collect();
        let missed: Vec<RumorId> = named.iter().filter(|id| !knows(id)).copied().collect();
        if !missed.is_empty() {
            self.graft_now(now, from, missed);
        }
        self.give(now, from, &named);
    }

    /// Pushes the rumors that arrived lately, the earliest first, except those that the peer has.
    fn give(&mut self, now: Millis, to: NodeId, has: &BTreeSet<RumorId>) {
        let latest = self.cache.since(Millis(now.0.saturating_sub(MISSING_MS))).take(MISSING_MAX);
        let missing = latest.filter(|(id, rumor)| !has.contains(id) && rumor.bringer != Some(to));
        let mut missing: Vec<_> =
            missing.map(|(id, rumor)| (id, rumor.hops.saturating_add(1), rumor.payload.clone())).collect();
        missing.reverse();
        let mut bytes = 0;
        for (id, hops, payload) in missing {
            bytes += payload.len();
            if bytes <= GIVEN_BYTES_MAX {
                self.push(vec![to], id, hops, payload);
            } else if self.links.get_mut(&to).is_some_and(|link| link.announce_later(id) >= RUMOR_IDS_MAX) {
                self.announce(to);
            }
        }
        self.announce(to);
    }
}
