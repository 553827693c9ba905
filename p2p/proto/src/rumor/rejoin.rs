//! A node that loses its parent in the tree is cut off from the others together with all that is behind
//! it, until somebody's patience with an announced rumor ends. It is the first to know: so it turns to
//! another neighbour at once and says what came lately, and each of the two gives the other what that one
//! missed. One round trip mends what a lost link cost.

use std::collections::BTreeSet;

use crate::message::{RumorId, RumorMessage};
use crate::wire::bounds::RUMOR_IDS_MAX;
use crate::{Millis, NodeId};

use super::Rumors;
use super::link::Link;

/// What came in this time is told, milliseconds: longer than a silent neighbour is trusted by default.
const TOLD_MS: u64 = 6_000;
/// Of what came in this time and was not told, this node concludes that it is missing, milliseconds: so
/// much less that clocks of rumors on their way do not matter.
const MISSING_MS: u64 = TOLD_MS / 2;
/// No more of the latest rumors are concluded to be missing: a busy node tells no more than
/// [`RUMOR_IDS_MAX`].
const MISSING_MAX: usize = RUMOR_IDS_MAX / 2;
/// Most bytes of payload given at once; the rest is announced. A guess.
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

    /// Whether no link leads anywhere but to nodes behind this one.
    fn is_cut_off(&self) -> bool {
        let mut eager = self.links.values().filter(|link| link.eager);
        if self.tree.is_root() { eager.next().is_none() } else { eager.all(Link::is_child) }
    }

    /// Turns to the parent that the tree names; or else to all neighbours, as if it had just come, and to one
    /// of them as to a parent: one that brought news last and is not known to be behind this node. Never to
    /// the one that is `gone`: two nodes that have only each other would go on for ever.
    fn rejoin(&mut self, now: Millis, next: Option<NodeId>, gone: NodeId) {
        let Some(parent) = next.or_else(|| self.brought_news_last(Some(gone))) else { return };
        let told = self.cache.since(Millis(now.0.saturating_sub(TOLD_MS)));
        let ids: Vec<RumorId> = told.map(|(id, _)| id).take(RUMOR_IDS_MAX).collect();
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

    /// The neighbour that did, if possible one that is not known to be behind this node.
    pub(super) fn brought_news_last(&self, except: Option<NodeId>) -> Option<NodeId> {
        let links = self.links.iter().filter(|(peer, _)| Some(**peer) != except);
        links.max_by_key(|(_, link)| (!link.is_child(), link.news_at)).map(|(peer, _)| *peer)
    }

    /// A node that has seen no beacon takes the first that brings news for its parent.
    pub(super) fn adopt(&mut self, now: Millis, bringer: NodeId) {
        let is_child = self.links.get(&bringer).is_none_or(Link::is_child);
        if self.tree.parent().is_none() && !self.tree.is_drawn(now) && !is_child {
            self.tree.adopt(bringer);
            self.attach_to(bringer);
        }
    }

    /// A neighbour has lost its way to the others, and this node is to be it.
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
        if as_child {
            link.attached();
            // Then this node was behind it, and is cut off as well.
            if self.tree.parent() == Some(from) {
                let next = self.tree.lost(from);
                self.rejoin(now, next, from);
            }
        }
        let told: BTreeSet<RumorId> = ids.iter().copied().collect();
        let missed: Vec<RumorId> = told.iter().filter(|id| !knows(id)).copied().collect();
        if !missed.is_empty() {
            self.stats.grafts_sent += missed.len() as u64;
            for id in &missed {
                self.grafts.asked(now, *id, from);
            }
            self.send(vec![from], RumorMessage::Graft { ids: missed });
        }
        self.give(now, from, &told);
    }

    /// Pushes what came lately, the earliest first, except what the peer has.
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
