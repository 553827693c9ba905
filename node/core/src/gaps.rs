//! Gaps: a rumor whose predecessors of the same actor are missing. They usually arrive a moment later
//! by another link; what has not come by then is fetched by a session.

use std::collections::BTreeMap;

use starling_proto::{ActorId, DotRange, Millis, NodeId};

/// How long a predecessor may be late before a session is asked for, milliseconds. Longer than
/// announcement plus graft (50 + 100 ms by default), so that rumor mongering comes first.
const GRACE_MS: u64 = 400;
/// Most actors watched at a time; beyond it periodic sessions repair.
const GAPS_MAX: usize = 1024;

struct Gap {
    /// Everything of the actor up to here should arrive.
    last: u64,
    /// Who told us the later rumor.
    peer: NodeId,
    due: Millis,
}

/// The gaps seen lately.
#[derive(Default)]
pub struct Gaps {
    by_actor: BTreeMap<ActorId, Gap>,
}

impl Gaps {
    /// `peer` told a rumor of `actor` that begins at `first`, and not everything before it is here.
    pub fn note(&mut self, now: Millis, actor: ActorId, first: u64, peer: NodeId) {
        if let Some(gap) = self.by_actor.get_mut(&actor) {
            gap.last = gap.last.max(first - 1);
        } else if self.by_actor.len() < GAPS_MAX {
            self.by_actor.insert(actor, Gap { last: first - 1, peer, due: now + GRACE_MS });
        }
    }

    /// Actors watched.
    pub fn len(&self) -> usize {
        self.by_actor.len()
    }

    /// Ranges that should be complete by now, with whom to ask if they are not.
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

    /// When [`Gaps::due`] is worth asking.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.by_actor.values().map(|gap| gap.due).min()
    }
}
