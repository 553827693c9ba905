//! The state of one link: eager or lazy.

use std::collections::BTreeSet;

use crate::Millis;
use crate::message::RumorId;

/// A link is pruned by the first known rumor that arrives a random time, up to this many milliseconds, after an
/// earlier one.
///
/// Where rumors of several origins cross, a cycle of eager links shows duplicates at each of its
/// links in turn; pruning at once would cut it in several places before the first cut has an
/// effect, and every graft that repairs the cut makes new cycles. Measured on 64 nodes, about 150 ms from end to
/// end, with a rumor every 10 ms from anywhere (`tests/rumors.rs`): 1.18 copies per node, against
/// 1.5 when links were pruned, and rumors grafted, without this patience.
pub(super) const PRUNE_SPREAD_MS: u64 = 1000;
/// Least time between two prunes of a link, milliseconds: rumors already under way are duplicates too. A guess at the
/// longest round trip. Prunes are repeated because a prune and a graft may cross, after which the two ends have
/// different states of the link.
const PRUNE_AGAIN_MS: u64 = 1000;

/// The state of a link of the active view at one end.
#[derive(Debug)]
pub(super) struct Link {
    /// Whether full rumors are pushed over it.
    pub(super) eager: bool,
    /// Whether the peer has grafted over it since the link was last pruned.
    grafted: bool,
    /// Redrawings of the tree for which the peer still counts as a child of this node.
    child_for: u8,
    /// When a new rumor last arrived over it.
    pub(super) news_at: Millis,
    /// When a known rumor last arrived, and from when on the next one prunes the link.
    duplicates: Option<(Millis, Millis)>,
    pruned_at: Option<Millis>,
    /// Ids to announce, at most `RUMOR_IDS_MAX`: then they are sent at once.
    announcements: BTreeSet<RumorId>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            eager: true,
            grafted: false,
            child_for: 0,
            news_at: Millis::default(),
            duplicates: None,
            pruned_at: None,
            announcements: BTreeSet::new(),
        }
    }
}

impl Link {
    /// Records a graft by the peer.
    pub(super) fn grafted(&mut self) {
        self.grafted = true;
    }

    /// Whether the peer has grafted over the link since it was last pruned.
    pub(super) fn is_grafted(&self) -> bool {
        self.grafted
    }

    /// Makes the link lazy because the peer has pruned it.
    pub(super) fn on_prune(&mut self) {
        self.eager = false;
        self.grafted = false;
        self.detached();
    }

    /// Records that the peer is a child in the tree. It repeats its message at every redrawing, a moment after this
    /// node has forwarded the beacon.
    pub(super) fn attached(&mut self) {
        self.child_for = 2;
    }

    /// Records that the peer is no longer a child.
    pub(super) fn detached(&mut self) {
        self.child_for = 0;
    }

    /// Records a redrawing of the tree.
    pub(super) fn redrawn(&mut self) {
        self.child_for = self.child_for.saturating_sub(1);
    }

    /// Whether the peer is a child in the tree.
    pub(super) fn is_child(&self) -> bool {
        self.child_for > 0
    }

    /// Records a new rumor: the link becomes eager.
    pub(super) fn on_news(&mut self, now: Millis) {
        self.eager = true;
        self.news_at = now;
        self.pruned_at = None;
    }

    /// Records a known rumor; `patience_ms` is drawn at random. Returns whether the link is to be pruned.
    pub(super) fn on_duplicate(&mut self, now: Millis, patience_ms: u64) -> bool {
        let since = self.duplicates.filter(|(last, _)| now - *last < 2 * PRUNE_SPREAD_MS);
        let counts_from = since.map_or(now + patience_ms, |(_, counts_from)| counts_from);
        self.duplicates = Some((now, counts_from));
        !self.eager || counts_from <= now
    }

    /// Makes the link lazy. Returns whether a prune has to be sent.
    pub(super) fn prune(&mut self, now: Millis) -> bool {
        self.on_prune();
        self.duplicates = None;
        let was_sent = self.pruned_at.is_some_and(|at| now - at < PRUNE_AGAIN_MS);
        if !was_sent {
            self.pruned_at = Some(now);
        }
        !was_sent
    }

    /// Adds an id to announce. Returns how many there are now.
    pub(super) fn announce_later(&mut self, id: RumorId) -> usize {
        self.announcements.insert(id);
        self.announcements.len()
    }

    /// Removes an id that the peer has already.
    pub(super) fn forget_announcement(&mut self, id: &RumorId) {
        self.announcements.remove(id);
    }

    pub(super) fn has_announcements(&self) -> bool {
        !self.announcements.is_empty()
    }

    pub(super) fn take_announcements(&mut self) -> Vec<RumorId> {
        std::mem::take(&mut self.announcements).into_iter().collect()
    }
}
