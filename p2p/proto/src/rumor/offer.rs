//! Large rumors over links that are not known to be in the tree. A new link is eager, and in a new network all are: pushed
//! over every one of them, the first rumors of a burst would arrive once per neighbour before the first prunes count. A
//! large rumor is therefore pushed only over links whose other end has grafted, or is the parent. Over the others it
//! is announced, and at once if there is no tree yet: it is *offered*. A node without a parent takes the first offer,
//! which makes that neighbour its parent. So the first large rumor draws the tree that the others follow, at the cost
//! of one round trip for each link.
//!
//! ```text
//! A            B            C        C is a neighbour of both
//! |--announce->|            |
//! |--announce--------------->|
//! |<---graft---|            |
//! |<---graft----------------|
//! |----full--->|            |
//! |----full----------------->|
//! |            |--announce->|        C has it: nothing follows
//! ```

use crate::message::{RumorId, RumorMessage};
use crate::{Millis, NodeId};

use super::Rumors;
use super::link::Link;

impl Rumors {
    /// Announces a large rumor at once.
    pub(super) fn offer(&mut self, to: Vec<NodeId>, id: RumorId) {
        self.stats.announced += to.len() as u64;
        self.send(to, RumorMessage::Announce { ids: vec![id] });
    }

    /// Whether announced rumors are grafted from this peer without waiting: no tree brings them. A parent that
    /// announces a rumor does not know yet that it is the parent.
    pub(super) fn takes_offers(&self, now: Millis, from: NodeId) -> bool {
        let is_above = |link: &Link| link.eager && !link.is_child();
        !self.tree.is_drawn(now)
            && self.tree.parent().is_none_or(|parent| parent == from)
            && self.links.get(&from).is_some_and(is_above)
    }

    /// Grafts offered rumors from a peer, and makes it the parent.
    pub(super) fn take_offer(&mut self, now: Millis, from: NodeId, ids: Vec<RumorId>) {
        if self.tree.parent().is_none() {
            self.tree.adopt(from);
            self.attach_to(from);
        }
        self.graft_now(now, from, ids);
    }

    /// Grafts rumors from a peer at once.
    pub(super) fn graft_now(&mut self, now: Millis, from: NodeId, ids: Vec<RumorId>) {
        self.stats.grafts_sent += ids.len() as u64;
        for id in &ids {
            self.grafts.asked(now, *id, from);
        }
        self.send(vec![from], RumorMessage::Graft { ids });
    }
}
