//! Gaps: rumors whose predecessors of the same actor are missing. The predecessors usually arrive a moment later over
//! another link; those that do not are fetched by an anti-entropy session.

use std::collections::BTreeMap;

use starling_proto::{ActorId, DotRange, Millis, NodeId};

/// How long a predecessor may be late before a session begins, milliseconds. Longer than announcement plus graft
/// (50 + 100 ms by default), so that rumor mongering comes first.
const GRACE_MS: u64 = 400;
/// Actors whose gaps are watched at a time, at most; periodic sessions repair further ones.
const GAPS_MAX: usize = 1024;

struct Gap {
    /// The actor's sequence number up to which everything should arrive.
    last: u64,
    /// The peer that sent the later rumor.
    peer: NodeId,
    due: Millis,
}

/// The gaps that are being watched.
#[derive(Default)]
pub struct Gaps {
    by_actor: BTreeMap<ActorId, Gap>,
}

impl Gaps {
    /// Records a gap: `peer` sent a rumor of `actor` that begins at `first`, and some of what precedes it is missing.
    pub fn note(&mut self, now: Millis, actor: ActorId, first: u64, peer: NodeId) {
        if let Some(gap) = self.by_actor.get_mut(&actor) {
            gap.last = gap.last.max(first - 1);
        } else if self.by_actor.len() < GAPS_MAX {
            self.by_actor.insert(actor, Gap { last: first - 1, peer, due: now + GRACE_MS });
        }
    }

    /// The number of actors with gaps.
    pub fn len(&self) -> usize {
        self.by_actor.len()
    }

    /// Removes and returns the ranges that should be complete by now, with the peers to ask if they are not.
    pub fn due(&mut self, now: Millis) -> Vec<(DotRange, NodeId)> {
        let due: Vec<ActorId> =
            self.by_actor.iter().filter(|(_, gap)| gap.due <= now).map(|(actor, _)| *actor).collect();
        due.into_iter()
            .filter_map(|actor| {
                let gap = self.by_actor.remove(&actor)?;
                Some((DotRange { actor, first: 1, last: gap.last }, gap.peer))
            })
            .collect()
    }

    /// When the next call of [`Gaps::due`] is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.by_actor.values().map(|gap| gap.due).min()
    }
}
