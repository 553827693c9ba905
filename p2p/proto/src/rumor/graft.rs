//! Rumors that were announced and have not arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::message::RumorId;
use crate::{ActorId, Millis, NodeId};

/// Rumors waited for, at most; sessions repair further ones.
const WANTED_MAX: usize = 8192;
/// Announcers remembered of one rumor, at most: about as many as an active view has.
const ANNOUNCERS_MAX: usize = 8;
/// Grafts sent to each announcer, at most: a graft or the rumor may be lost.
const ROUNDS_MAX: u32 = 4;
/// Actors whose progress is remembered, at most; others are grafted without regard to it.
const PROGRESS_MAX: usize = 1024;
/// Random addition to a node's wait, thousandths, at most. Without it all nodes on one side of a cut would graft at
/// once, although one graft reconnects them all: the others make cycles, which pruning then cuts again. Measured with
/// [`super::link::PRUNE_SPREAD_MS`].
const PATIENCE_MAX: u64 = 1000;

/// Grafted rumors that are remembered, at most.
const GRAFTED_MAX: usize = 64;
/// Longest time by which an announcement is assumed to precede its rumor, milliseconds: a rumor that was lost and
/// grafted further up trails it by more.
const TRAIL_MS_MAX: u64 = 300;
/// Bytes of payload from which on a rumor is large: a burst of such rumors fills links and receivers, and the announcements
/// overtake it. A guess.
pub(super) const LARGE_BYTES: usize = 8 << 10;
/// Longest time that grafts wait for the next large rumor, milliseconds: what a link of 1 Mbit/s takes for two batches of
/// an import, 60 kB each. Otherwise it is three times the time between the last two.
const LARGE_GAP_MS_MAX: u64 = 1000;
/// Longest time that grafts of an announced rumor are postponed while large rumors arrive, milliseconds. A guess: a
/// rumor that was lost in a burst is late by so much more.
const POSTPONED_MS_MAX: u64 = 3000;
/// Each new rumor reduces the estimate of how much rumors trail their announcements by this part.
const TRAIL_FADES: u64 = 64;

/// One rumor waited for.
#[derive(Debug)]
struct Wanted {
    since: Millis,
    /// Announcers to send a graft to in this round, in turn.
    announcers: VecDeque<NodeId>,
    /// Announcers that got a graft in this round, the last one last.
    asked: VecDeque<NodeId>,
    /// Completed rounds.
    round: u32,
    due: Millis,
}

impl Wanted {
    fn new(since: Millis, due: Millis) -> Self {
        Self { since, announcers: VecDeque::new(), asked: VecDeque::new(), round: 0, due }
    }
}

/// The next step for a rumor that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Graft it from this peer.
    Ask {
        /// An announcer.
        peer: NodeId,
        /// The rumor.
        id: RumorId,
    },
    /// No announcer has sent it; `last` is the last one that is still a neighbour.
    GiveUp {
        /// The peer to begin a session with.
        last: Option<NodeId>,
    },
}

/// The table of rumors waited for.
#[derive(Debug)]
pub(super) struct Grafts {
    graft_ms: u64,
    again_ms: u64,
    /// How much longer than necessary this node waits, in thousandths; drawn again for each outage.
    patience: u64,
    wanted: BTreeMap<RumorId, Wanted>,
    due: BTreeSet<(Millis, RumorId)>,
    /// When the last full rumor of an actor arrived, and its last dot. Rumors of one actor arrive in order while the
    /// tree is connected: while earlier ones are still arriving, a later one is queued behind them and not lost.
    /// Without this a burst, whose announcements overtake it, would be grafted on top.
    progress: BTreeMap<ActorId, (Millis, u64)>,
    /// The longest time between an announcement and its rumor, if that was not lost, as lately observed,
    /// milliseconds: announcements take the shortest path through the mesh, rumors the one through the tree.
    trail_ms: u64,
    /// When the last large rumor, or a part of one, arrived, and until when the next one may take.
    large: Option<(Millis, Millis)>,
    /// Grafted rumors, and when they were announced: those that arrive over the tree as well were not lost.
    grafted: VecDeque<(RumorId, Millis)>,
}

impl Grafts {
    pub(super) fn new(graft_ms: u64, again_ms: u64) -> Self {
        Self {
            graft_ms,
            again_ms,
            patience: 0,
            wanted: BTreeMap::new(),
            due: BTreeSet::new(),
            progress: BTreeMap::new(),
            trail_ms: 0,
            large: None,
            grafted: VecDeque::new(),
        }
    }

    pub(super) fn next_due(&self) -> Option<Millis> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Rumors waited for.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Removes all rumors waited for.
    #[cfg(planted)]
    pub(super) fn forget(&mut self) {
        self.wanted.clear();
        self.due.clear();
    }

    /// Records the announcement of an unknown rumor. Returns `false` if the table is full.
    pub(super) fn announced(&mut self, now: Millis, id: RumorId, from: NodeId, rng: &mut ChaCha8Rng) -> bool {
        if let Some(wanted) = self.wanted.get_mut(&id) {
            let mut known = wanted.announcers.iter().chain(&wanted.asked);
            if wanted.announcers.len() + wanted.asked.len() < ANNOUNCERS_MAX
                && known.all(|peer| *peer != from)
            {
                wanted.announcers.push_back(from);
            }
            return true;
        }
        if self.wanted.len() >= WANTED_MAX {
            return false;
        }
        if self.wanted.is_empty() {
            self.patience = rng.random_range(0..=PATIENCE_MAX);
        }
        let due = now + self.trail_ms + self.graft_ms + self.graft_ms * self.patience / 1000;
        self.due.insert((due, id));
        self.wanted.insert(id, Wanted { announcers: [from].into(), ..Wanted::new(now, due) });
        true
    }

    /// Records that an unknown rumor was asked of this peer at once. The others that announced it get a graft if it
    /// does not arrive.
    pub(super) fn asked(&mut self, now: Millis, id: RumorId, of: NodeId) {
        let wanted = self.wanted.remove(&id);
        if wanted.is_none() && self.wanted.len() >= WANTED_MAX {
            return;
        }
        let mut wanted = wanted.unwrap_or(Wanted::new(now, now));
        self.due.remove(&(wanted.due, id));
        wanted.announcers.retain(|announcer| *announcer != of);
        self.wait_for(now, id, wanted, of);
    }

    /// Records the size of a full rumor that arrived. While large ones do, announced rumors are queued behind them, here or
    /// further up, and not lost.
    pub(super) fn received(&mut self, now: Millis, bytes: usize) {
        if bytes < LARGE_BYTES {
            return;
        }
        let gap_ms = self.large.map_or(0, |(at, _)| now - at);
        let next_ms = if gap_ms > LARGE_GAP_MS_MAX { 0 } else { 3 * gap_ms };
        self.large = Some((now, now + next_ms.min(LARGE_GAP_MS_MAX).max(self.graft_ms)));
    }

    /// Records the arrival of a frame's part.
    pub(super) fn progress(&mut self, now: Millis) {
        self.received(now, LARGE_BYTES);
    }

    /// Records the arrival of a full rumor.
    pub(super) fn arrived(&mut self, now: Millis, id: &RumorId, from: NodeId) {
        let mut grafted = false;
        if let Some(wanted) = self.wanted.remove(id) {
            self.due.remove(&(wanted.due, *id));
            grafted = wanted.asked.contains(&from) || wanted.round > 0;
            if grafted {
                if self.grafted.len() == GRAFTED_MAX {
                    self.grafted.pop_front();
                }
                self.grafted.push_back((*id, wanted.since));
            } else {
                self.learn_trail(now, now - wanted.since);
            }
        }
        if self.progress.len() >= PROGRESS_MAX {
            self.progress.retain(|_, (at, _)| now - *at < self.graft_ms);
        }
        if !grafted && (self.progress.len() < PROGRESS_MAX || self.progress.contains_key(&id.actor)) {
            self.progress.insert(id.actor, (now, id.last));
        }
    }

    /// Records the arrival of a full rumor that was known already.
    pub(super) fn came_again(&mut self, now: Millis, id: &RumorId) {
        if let Some(index) = self.grafted.iter().position(|(grafted, _)| grafted == id)
            && let Some((_, since)) = self.grafted.remove(index)
        {
            self.learn_trail(now, now - since);
        }
    }

    fn learn_trail(&mut self, now: Millis, trail_ms: u64) {
        // In a burst rumors trail by what is queued before them, which says nothing about the next ones.
        if self.large.is_some_and(|(_, until)| until > now) {
            return;
        }
        let faded_ms = self.trail_ms - self.trail_ms.div_ceil(TRAIL_FADES);
        self.trail_ms = faded_ms.max(trail_ms).min(TRAIL_MS_MAX);
    }

    /// Whether earlier rumors of the same actor are arriving now.
    fn is_on_its_way(&self, now: Millis, id: &RumorId) -> bool {
        self.progress.get(&id.actor).is_some_and(|(at, last)| now - *at < self.graft_ms && *last < id.first)
    }

    /// The next step for a rumor that is due and still unknown.
    pub(super) fn pop_due(
        &mut self,
        now: Millis,
        knows: &dyn Fn(&RumorId) -> bool,
        is_linked: impl Fn(&NodeId) -> bool,
        is_eager: impl Fn(&NodeId) -> bool,
    ) -> Option<Due> {
        while self.next_due().is_some_and(|due| due <= now) {
            let (_, id) = self.due.pop_first()?;
            let Some(mut wanted) = self.wanted.remove(&id) else { continue };
            if knows(&id) {
                continue;
            }
            if self.is_on_its_way(now, &id) {
                self.wait(id, wanted, now + self.graft_ms);
                continue;
            }
            let postponed = self.large.map(|(_, until)| until.min(wanted.since + POSTPONED_MS_MAX));
            if let Some(until) = postponed.filter(|until| *until > now) {
                self.wait(id, wanted, until);
                continue;
            }
            wanted.announcers.retain(&is_linked);
            wanted.asked.retain(&is_linked);
            if wanted.announcers.is_empty() && wanted.round + 1 < ROUNDS_MAX {
                wanted.announcers = std::mem::take(&mut wanted.asked);
                wanted.round += 1;
            }
            // A graft over a link that is eager already makes no cycle.
            let cheapest = wanted.announcers.iter().position(&is_eager).unwrap_or(0);
            let Some(peer) = wanted.announcers.remove(cheapest) else {
                return Some(Due::GiveUp { last: wanted.asked.pop_back() });
            };
            self.wait_for(now, id, wanted, peer);
            return Some(Due::Ask { peer, id });
        }
        None
    }

    /// Records a graft to a peer, after which the next peer is due. The wait doubles with each round.
    fn wait_for(&mut self, now: Millis, id: RumorId, mut wanted: Wanted, peer: NodeId) {
        wanted.asked.push_back(peer);
        let ends = u32::from(wanted.announcers.is_empty());
        let due = now + (self.again_ms << (wanted.round + ends));
        self.wait(id, wanted, due);
    }

    fn wait(&mut self, id: RumorId, wanted: Wanted, due: Millis) {
        self.due.insert((due, id));
        self.wanted.insert(id, Wanted { due, ..wanted });
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const GRAFT_MS: u64 = 100;

    fn rumor(seq: u64) -> RumorId {
        RumorId { actor: ActorId([1; 16]), first: seq, last: seq }
    }

    fn announced(seqs: &[u64], from: &[u8]) -> Grafts {
        let mut grafts = Grafts::new(GRAFT_MS, 50);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (seq, from) in seqs.iter().flat_map(|seq| from.iter().map(move |from| (*seq, *from))) {
            assert!(grafts.announced(Millis(0), rumor(seq), NodeId([from; 32]), &mut rng));
        }
        grafts
    }

    /// All steps with their times, until no rumor is waited for.
    fn drain(grafts: &mut Grafts) -> Vec<(Millis, Due)> {
        let mut dues = Vec::new();
        while let Some(now) = grafts.next_due() {
            while let Some(due) = grafts.pop_due(now, &|_| false, |_| true, |peer| peer.0[0] == 3) {
                dues.push((now, due));
            }
        }
        dues
    }

    #[test]
    fn announcers_are_asked_in_turn_eager_ones_first() {
        let dues = drain(&mut announced(&[7], &[1, 2, 3]));
        let asked: Vec<(u64, Option<u8>)> = dues
            .iter()
            .map(|(at, due)| match due {
                Due::Ask { peer, .. } => (*at - dues[0].0, Some(peer.0[0])),
                Due::GiveUp { .. } => (*at - dues[0].0, None),
            })
            .collect();
        let (first, again) = asked.split_at(3);
        assert_eq!(first, [(0, Some(3)), (50, Some(1)), (100, Some(2))]);
        assert_eq!(again[0..3], [(200, Some(3)), (300, Some(1)), (400, Some(2))], "twice as slowly");
        assert_eq!(
            asked.last(),
            Some(&(50 * (1 + 1 + 2) + 100 * (1 + 1 + 2) + 200 * (1 + 1 + 2) + 400 * (1 + 1 + 2), None))
        );
        assert!(dues[0].0 >= Millis(GRAFT_MS));
    }

    /// When the rumor is grafted while another actor's rumors of this size arrive every 80 ms.
    fn grafted_at(bytes: usize) -> Millis {
        let mut grafts = announced(&[20], &[1]);
        let mut now = Millis(0);
        loop {
            now = now + 80;
            grafts.received(now, bytes);
            if grafts.pop_due(now, &|_| false, |_| true, |_| false).is_some() {
                return now;
            }
        }
    }

    #[test]
    fn grafts_wait_while_large_rumors_arrive_but_not_for_ever() {
        assert!(grafted_at(LARGE_BYTES - 1) <= Millis(240));
        assert!((Millis(POSTPONED_MS_MAX)..Millis(POSTPONED_MS_MAX + 80)).contains(&grafted_at(LARGE_BYTES)));
    }

    /// Announcements overtake a burst: rumors that are still under way must not be sent twice.
    #[test]
    fn a_rumor_behind_others_of_its_actor_is_waited_for() {
        let mut grafts = announced(&[20], &[1]);
        let mut now = Millis(0);
        for seq in 1..20 {
            grafts.arrived(now, &rumor(seq), NodeId([9; 32]));
            now = now + GRAFT_MS / 2;
            assert_eq!(grafts.pop_due(now, &|_| false, |_| true, |_| false), None, "{seq} has just come");
        }
        let dues = drain(&mut grafts);
        assert!(matches!(dues[0], (at, Due::Ask { .. }) if at < now + 2 * GRAFT_MS), "{dues:?}");
    }

    #[test]
    fn a_rumor_that_others_of_its_actor_overtook_is_lost() {
        let mut grafts = announced(&[20], &[1]);
        let due = grafts.next_due().expect("one");
        grafts.arrived(due, &rumor(21), NodeId([9; 32]));
        let lost = grafts.pop_due(due, &|_| false, |_| true, |_| false);
        assert_eq!(lost, Some(Due::Ask { peer: NodeId([1; 32]), id: rumor(20) }));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut grafts = announced(&[1], &[1]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut announce = |seq| grafts.announced(Millis(0), rumor(seq), NodeId([1; 32]), &mut rng);
        assert!((2..=WANTED_MAX as u64).all(&mut announce));
        assert!(!announce(1 << 20));
        for n in 0..3000_u64 {
            let actor = ActorId((u128::from(n)).to_be_bytes());
            grafts.arrived(Millis(n), &RumorId { actor, first: 1, last: 1 }, NodeId([1; 32]));
        }
        assert!(grafts.progress.len() <= PROGRESS_MAX);
    }
}
