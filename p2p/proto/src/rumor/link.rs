//! One link's interest.

use std::collections::BTreeSet;

use crate::Millis;
use crate::message::RumorId;

/// A link is pruned by the first old news that comes a random time up to this after the earliest.
///
/// Where rumors of several origins cross, a cycle of eager links shows duplicates at each of its
/// links in turn; pruning at once would cut it in several places before the first cut shows, and
/// every graft that mends the cut makes new cycles. Measured on 64 nodes, about 150 ms from end to
/// end, with a rumor every 10 ms from anywhere (`tests/rumors.rs`): 1.18 copies per node, against
/// 1.5 when links were pruned, and rumors grafted, without this patience.
pub(super) const DOUBT_MS: u64 = 1000;
/// A prune is not repeated sooner: rumors already on their way are old news too. A guess at the
/// longest round trip; repeated at all because a prune and a graft may cross and leave the two ends
/// with different ideas of the link.
const PRUNE_AGAIN_MS: u64 = 1000;

/// What one end keeps of a link of the active view.
#[derive(Debug)]
pub(super) struct Link {
    /// Full rumors are pushed over it.
    pub(super) eager: bool,
    /// Redrawings of the tree for which the peer is still believed to be attached here, as a child.
    child_for: u8,
    /// When it last brought news.
    pub(super) news_at: Millis,
    /// When old news came last, and from when on it counts against the link.
    doubt: Option<(Millis, Millis)>,
    pruned_at: Option<Millis>,
    /// Names to announce. At most `RUMOR_IDS_MAX`: then they are sent at once.
    announcements: BTreeSet<RumorId>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            eager: true,
            child_for: 0,
            news_at: Millis::default(),
            doubt: None,
            pruned_at: None,
            announcements: BTreeSet::new(),
        }
    }
}

impl Link {
    /// The peer takes this node for its parent in the tree. It says so again at every redrawing, a
    /// moment after this node has passed it on.
    pub(super) fn attached(&mut self) {
        self.child_for = 2;
    }

    /// It does no more.
    pub(super) fn detached(&mut self) {
        self.child_for = 0;
    }

    /// The tree has been redrawn.
    pub(super) fn redrawn(&mut self) {
        self.child_for = self.child_for.saturating_sub(1);
    }

    /// Whether the peer is a child in the tree.
    pub(super) fn is_child(&self) -> bool {
        self.child_for > 0
    }

    /// News came by it: it is worth being eager about.
    pub(super) fn heard_news(&mut self, now: Millis) {
        self.eager = true;
        self.news_at = now;
        self.pruned_at = None;
    }

    /// Old news came by it; `patience_ms` is drawn at random. Whether the link has lost interest.
    pub(super) fn heard_old_news(&mut self, now: Millis, patience_ms: u64) -> bool {
        let since = self.doubt.filter(|(last, _)| now - *last < 2 * DOUBT_MS);
        let counts_from = since.map_or(now + patience_ms, |(_, counts_from)| counts_from);
        self.doubt = Some((now, counts_from));
        !self.eager || counts_from <= now
    }

    /// Makes it lazy. Whether the peer has to be told.
    pub(super) fn prune(&mut self, now: Millis) -> bool {
        self.eager = false;
        self.detached();
        self.doubt = None;
        let told = self.pruned_at.is_some_and(|at| now - at < PRUNE_AGAIN_MS);
        if !told {
            self.pruned_at = Some(now);
        }
        !told
    }

    /// Puts a name on the list; how many are on it now.
    pub(super) fn announce_later(&mut self, id: RumorId) -> usize {
        self.announcements.insert(id);
        self.announcements.len()
    }

    /// The peer has this one already.
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
