//! The initiator of a session: what is known to be missing on either side, and what is still to be compared.

mod groups;

use std::collections::VecDeque;

use super::pace::Pace;
use super::{Ending, Part, Replica, ReplicaError, SessionReport};
use crate::message::{Payload, Root, SPAN_FANOUT, SPAN_LEAF, Span, SyncMessage};
use crate::wire::bounds::RANGES_MAX;
use crate::{ActorGroup, ActorId, DotRange, DotRanges, Millis, NodeId};

/// Requests of one kind in flight, at most: the link stays busy while the peer works on one.
const WINDOW: usize = 2;
/// Spans or leaves in one request, at most 24 KiB of leaves.
const SPANS_ASKED_MAX: usize = 64;
/// Ranges in one request.
const RANGES_ASKED_MAX: usize = 2048;
/// Dots in the first fetch. Later ones follow the size of the answers.
const FETCH_DOTS: u64 = 1024;
/// Dots in the smallest fetch.
const FETCH_DOTS_MIN: u64 = 64;
/// Ranges to fetch, ranges to push, suspects and spans that are remembered, at most, each. The next session handles
/// any further ones.
const FRONTIER_MAX: usize = 65_536;

/// Turns of one round, at most: with more, both sides write faster than the link carries, or the peer does not mean it. The
/// next session tries again.
const TURNS_MAX: usize = 64;

/// Ranges of dead dots that are joined in one step, at most: each may remove an entry, which takes some 20 microseconds.
const BURIED_MAX: usize = 512;

/// A request without an answer yet. Answers arrive in the order of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Open,
    List,
    Compare,
    Leaves,
    Fetch,
    /// What the peer has seen since the session began.
    News,
    Suspect,
    Push,
}

/// Why a session stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// It has ended.
    End(Ending),
    /// The replica failed.
    Replica(ReplicaError),
}

impl From<ReplicaError> for Stop {
    fn from(error: ReplicaError) -> Self {
        Self::Replica(error)
    }
}

/// The messages to send after a step, or why the session stops.
pub(super) type Step = Result<Vec<SyncMessage>, Stop>;

/// What died, which is exchanged in rounds, each after all that lives. The lists have at most [`FRONTIER_MAX`] ranges; the
/// next session finds any further ones.
#[derive(Debug, Default)]
struct Deaths {
    /// Dead at the peer, to be joined here.
    theirs: Vec<DotRange>,
    /// Dead here, to be pushed.
    ours: Vec<DotRange>,
    /// What was seen here after this mark is still to be pushed before a round.
    mark: u64,
    /// Whether a round is due: something was found that died.
    is_due: bool,
    /// Whether `ours` wait for the end of the comparison.
    ours_wait: bool,
    round: Option<Round>,
}

/// A round: the deaths that were found before it. Those found during it belong to the next one, if there is any.
#[derive(Debug, Default)]
struct Round {
    theirs: Vec<DotRange>,
    ours: Vec<DotRange>,
    stage: Stage,
    /// How often the two sides have told each other what they had seen since.
    turns: usize,
}

/// The stages of a round. A dot that dies between two of them is followed by one that was seen since the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The peer lists what it has seen since the session began, and what it lacks; both are exchanged.
    #[default]
    Lists,
    /// The peer sends the entries that it has seen since its list.
    Entries,
    /// The peer is sent the entries that were seen here since the session began.
    Told,
    /// The peer is sent what died here.
    Pushed,
    /// What died at the peer is joined here.
    Buried,
}

/// One own session.
#[derive(Debug)]
pub(super) struct Session {
    /// Its number, this node's own.
    pub(super) id: u32,
    /// The peer.
    pub(super) peer: NodeId,
    /// When it began.
    pub(super) started: Millis,
    /// When the peer last answered.
    pub(super) heard: Millis,
    /// The report so far.
    pub(super) report: SessionReport,
    salt: u64,
    /// Each with its time, and the bytes of a pushed delta.
    asked: VecDeque<(Asked, Millis, usize)>,
    pace: Pace,
    fetch: VecDeque<DotRange>,
    fetch_dots: u64,
    /// Dots that are live here, at places where the peer had newer ones.
    suspects: Vec<DotRange>,
    push: VecDeque<DotRange>,
    /// Dots that are live at the peer, at places where this node had newer ones.
    accused: Vec<DotRange>,
    /// Spans to compare, depth first.
    spans: Vec<Span>,
    /// Groups of actors to compare, in order.
    groups: VecDeque<ActorGroup>,
    /// Whether the peer compares them as version 3 of the protocol does.
    by_hash: bool,
    deaths: Deaths,
    #[cfg(planted)]
    whole: Vec<DotRange>,
}

impl Session {
    /// A new session and its first message.
    pub(super) fn open(
        now: Millis,
        id: u32,
        peer: NodeId,
        salt: u64,
        (root, mark): (Root, u64),
    ) -> (Self, SyncMessage) {
        let report = SessionReport {
            ending: Ending::Broken,
            duration_ms: 0,
            delta_bytes_in: 0,
            delta_bytes_out: 0,
            entries_in: 0,
            changed: false,
        };
        let session = Self {
            id,
            peer,
            started: now,
            heard: now,
            report,
            salt,
            asked: [(Asked::Open, now, 0)].into(),
            pace: Pace::default(),
            fetch: VecDeque::new(),
            fetch_dots: FETCH_DOTS,
            suspects: Vec::new(),
            push: VecDeque::new(),
            accused: Vec::new(),
            spans: Vec::new(),
            groups: [ActorGroup::All].into(),
            by_hash: false,
            deaths: Deaths { mark, ..Deaths::default() },
            #[cfg(planted)]
            whole: Vec::new(),
        };
        (session, SyncMessage::Open { session: id, salt, root, by_digest: true })
    }

    /// Handles an answer, and returns the requests that follow from it.
    pub(super) fn on_answer(&mut self, now: Millis, answer: SyncMessage, replica: &mut impl Replica) -> Step {
        self.heard = now;
        // Answers that do not fit the oldest request mean that one was lost on the way.
        let (asked, at, pushed) = self.asked.pop_front().ok_or(Stop::End(Ending::Broken))?;
        let fetched = if let SyncMessage::Delta { delta, .. } = &answer { delta.0.len() } else { 0 };
        self.pace.took(now - at, pushed + fetched);
        match (asked, answer) {
            (_, SyncMessage::Busy { .. }) => return Err(Stop::End(Ending::Busy)),
            (Asked::Open, SyncMessage::Equal { .. }) => return Err(Stop::End(Ending::Equal)),
            (Asked::Open, SyncMessage::Groups { groups, .. }) => self.on_groups(&groups, replica),
            (Asked::Open | Asked::List, SyncMessage::Actors { groups, actors, .. }) => {
                self.on_actors(&groups, &actors, replica);
            }
            (Asked::Open | Asked::List, SyncMessage::Digests { groups, digests, actors, .. }) => {
                self.on_digests(&groups, &digests, &actors, replica)?;
            }
            (Asked::Compare, SyncMessage::Differ { spans, .. }) => self.on_differ(&spans),
            (Asked::Leaves | Asked::Fetch | Asked::Suspect, SyncMessage::Delta { delta, rest, want, .. }) => {
                self.on_delta(asked, &delta.0, rest.0, want.0, replica)?;
            }
            (Asked::News, SyncMessage::Delta { delta, rest, want, .. }) => {
                self.on_news(&delta.0, &rest.0, want.0, replica)?;
            }
            (Asked::Push, SyncMessage::Pushed { suspects, .. }) => extend(&mut self.accused, suspects.0),
            _ => return Err(Stop::End(Ending::Broken)),
        }
        #[cfg(planted)]
        if self.asked.is_empty() && starling_planted::on(starling_planted::Bug::WholeContextClaimed) {
            for range in
                self.whole.iter().flat_map(|range| replica.missing(range, RANGES_MAX)).collect::<Vec<_>>()
            {
                replica.join(&starling_planted::dead(range.actor.0, range.first, range.last))?;
            }
        }
        self.proceed(now, replica)
    }

    /// Compares an actor. Dots that one side has not seen need no comparison: they are fetched or pushed whole.
    fn on_actor(&mut self, actor: ActorId, ours: u64, theirs: u64, replica: &impl Replica) {
        #[cfg(planted)]
        self.whole.extend((theirs > 0).then_some(DotRange { actor, first: 1, last: theirs }));
        let common = ours.min(theirs);
        if common > 0 {
            let room = RANGES_MAX.saturating_sub(self.fetch.len());
            let all = DotRange { actor, first: 1, last: common };
            self.fetch.extend(replica.missing(&all, room));
            if self.spans.len() < FRONTIER_MAX {
                self.spans.push(whole(actor, common));
            }
        }
        if theirs > ours {
            self.fetch.push_back(DotRange { actor, first: ours + 1, last: theirs });
        }
        if ours > theirs {
            self.push.push_back(DotRange { actor, first: theirs + 1, last: ours });
        }
    }

    fn on_differ(&mut self, spans: &[(Span, u16)]) {
        for (span, mask) in spans {
            let children = (0..SPAN_FANOUT).rev().filter(|i| mask >> i & 1 == 1);
            for i in children {
                let child = Span { level: span.level - 1, index: span.index * SPAN_FANOUT + i, ..*span };
                let width_log2 = SPAN_LEAF.ilog2() + SPAN_FANOUT.ilog2() * u32::from(child.level);
                let begins = u128::from(child.index) << width_log2 <= u128::from(child.limit);
                if begins && self.spans.len() < FRONTIER_MAX {
                    self.spans.push(child);
                }
            }
        }
    }

    fn on_delta(
        &mut self,
        asked: Asked,
        delta: &[u8],
        rest: Vec<DotRange>,
        want: Vec<DotRange>,
        replica: &mut impl Replica,
    ) -> Result<(), Stop> {
        if asked == Asked::Fetch {
            self.adapt_fetches(delta.len(), rest.is_empty());
        }
        if !delta.is_empty() {
            self.report.delta_bytes_in += delta.len() as u64;
            let room = FRONTIER_MAX.saturating_sub(self.deaths.theirs.len());
            #[cfg(planted)]
            if starling_planted::on(starling_planted::Bug::DeathsBeforeEntries) {
                replica.join(delta)?;
            }
            let joined = replica.join_part(delta, room)?;
            self.report.entries_in += joined.entries;
            self.report.changed |= joined.changed;
            extend(&mut self.suspects, joined.suspects);
            self.deaths.is_due |= self.deaths.round.is_none() && !joined.withheld.is_empty();
            self.deaths.theirs.extend(joined.withheld);
        } else if !rest.is_empty() && asked != Asked::News {
            return Err(Stop::End(Ending::Broken));
        }
        let room = FRONTIER_MAX.saturating_sub(self.fetch.len());
        rest.into_iter().take(room).rev().for_each(|range| self.fetch.push_front(range));
        let room = FRONTIER_MAX.saturating_sub(self.push.len());
        self.push.extend(want.into_iter().take(room));
        Ok(())
    }

    /// Handles what the peer has seen since the session began, or since it was last asked, and what it lacks.
    fn on_news(
        &mut self,
        delta: &[u8],
        news: &[DotRange],
        lacks: Vec<DotRange>,
        replica: &mut impl Replica,
    ) -> Result<(), Stop> {
        let has_all = news.is_empty();
        let news: Vec<DotRange> = news.iter().flat_map(|range| replica.missing(range, RANGES_MAX)).collect();
        self.on_delta(Asked::News, delta, news, Vec::new(), replica)?;
        let Some(round) = &mut self.deaths.round else { return Ok(()) };
        if round.stage == Stage::Entries {
            round.stage = if has_all { Stage::Told } else { Stage::Entries };
            return Ok(());
        }
        round.stage = if round.theirs.is_empty() { Stage::Told } else { Stage::Entries };
        if lacks.len() == RANGES_MAX && !self.spans.is_empty() {
            // The peer may lack more; the comparison finds it.
            extend(&mut self.deaths.ours, std::mem::take(&mut round.ours));
            self.deaths.ours_wait = true;
        }
        if !round.ours.is_empty() {
            self.push.extend(lacks);
        }
        Ok(())
    }

    /// Adapts the size of fetches to about as many dots as fit one answer. Doubling without limit also crosses a
    /// sparse stretch of any length in a few requests.
    fn adapt_fetches(&mut self, delta_bytes: usize, complete: bool) {
        if !complete {
            self.fetch_dots = (self.fetch_dots / 2).max(FETCH_DOTS_MIN);
        } else if delta_bytes < self.pace.bytes() / 4 {
            self.fetch_dots = self.fetch_dots.saturating_mul(2);
        }
    }

    /// Returns the requests that may be sent now: first for dots that are known to be missing (joining them makes the
    /// comparison smaller), then the next groups of actors, a round of deaths that is due, and comparisons.
    fn pump(&mut self, now: Millis, replica: &impl Replica) -> Step {
        let mut requests = Vec::new();
        while let Some((asked, request)) = self.next_request(replica)? {
            let pushed = if let SyncMessage::Push { delta, .. } = &request { delta.0.len() } else { 0 };
            self.asked.push_back((asked, now, pushed));
            requests.push(request);
        }
        Ok(requests)
    }

    fn next_request(&mut self, replica: &impl Replica) -> Result<Option<(Asked, SyncMessage)>, Stop> {
        let (session, bytes_max) = (self.id, self.pace.bytes() as u32);
        if self.in_flight(&[Asked::Fetch, Asked::Suspect]) < WINDOW {
            if !self.fetch.is_empty() {
                let ranges = DotRanges(take_dots(&mut self.fetch, self.fetch_dots));
                return Ok(Some((Asked::Fetch, SyncMessage::Fetch { session, ranges, bytes_max })));
            }
            if !self.suspects.is_empty() {
                let suspects = take_suspects(&mut self.suspects);
                return Ok(Some((Asked::Suspect, SyncMessage::Suspect { session, suspects })));
            }
        }
        if self.in_flight(&[Asked::Push]) < WINDOW
            && let Some(delta) = self.next_push(replica)?
        {
            self.report.delta_bytes_out += delta.0.len() as u64;
            return Ok(Some((Asked::Push, SyncMessage::Push { session, delta })));
        }
        let is_idle = self.asked.is_empty();
        if self.in_flight(&[Asked::Fetch, Asked::Suspect, Asked::Push]) > 0 || self.asked.len() >= WINDOW {
            return Ok(None);
        }
        if !self.groups.is_empty() {
            return Ok(is_idle.then(|| (Asked::List, self.next_list())));
        }
        self.deaths.is_due |= self.spans.is_empty() && std::mem::take(&mut self.deaths.ours_wait);
        if self.deaths.is_due || self.deaths.round.is_some() {
            let next = if is_idle { self.next_of_round(replica)? } else { None };
            if next.is_some() || self.deaths.round.is_some() || !is_idle {
                return Ok(next);
            }
        }
        Ok((!self.spans.is_empty()).then(|| self.next_comparison(replica)))
    }

    /// The next request of a round; `None` when there is none, or none before what died at the peer is joined here.
    fn next_of_round(&mut self, replica: &impl Replica) -> Result<Option<(Asked, SyncMessage)>, Stop> {
        let (session, bytes) = (self.id, self.pace.bytes());
        let deaths = &mut self.deaths;
        if deaths.round.is_none() && std::mem::take(&mut deaths.is_due) {
            let (theirs, ours) = (std::mem::take(&mut deaths.theirs), std::mem::take(&mut deaths.ours));
            deaths.round = Some(Round { theirs, ours, ..Round::default() });
        }
        let Some(round) = &mut deaths.round else { return Ok(None) };
        round.turns += 1;
        if round.turns > TURNS_MAX && round.stage < Stage::Pushed {
            return Err(Stop::End(Ending::Broken));
        }
        if let Stage::Lists | Stage::Entries = round.stage {
            let bytes_max = if round.stage == Stage::Lists { 0 } else { bytes as u32 };
            let request = SyncMessage::Fetch { session, ranges: DotRanges::default(), bytes_max };
            return Ok(Some((Asked::News, request)));
        }
        if round.stage == Stage::Told && !round.ours.is_empty() {
            let news = replica.seen_since(deaths.mark);
            deaths.mark = replica.mark();
            let part = if let Some(news) = news {
                replica.live(&DotRanges::normalized(news).0, bytes)?
            } else {
                round.ours.clear();
                Part::default()
            };
            if part.rest.is_empty() {
                round.stage = Stage::Pushed;
            }
            self.push.extend(part.rest);
            if !part.delta.is_empty() {
                return Ok(Some((Asked::Push, SyncMessage::Push { session, delta: Payload(part.delta) })));
            }
        }
        if !round.ours.is_empty() {
            let count = round.ours.len().min(RANGES_ASKED_MAX);
            let ranges: Vec<DotRange> = round.ours.drain(..count).collect();
            let delta = Payload(replica.deaths(&ranges));
            return Ok(Some((Asked::Push, SyncMessage::Push { session, delta })));
        }
        round.stage = Stage::Buried;
        if round.theirs.is_empty() {
            deaths.round = None;
        }
        Ok(None)
    }

    /// Whether it waits for nothing but the joining of what died at the peer.
    pub(super) fn is_burying(&self) -> bool {
        self.asked.is_empty() && self.deaths.round.as_ref().is_some_and(|round| round.stage == Stage::Buried)
    }

    /// Joins some of what died at the peer, and returns the requests that follow.
    pub(super) fn bury(&mut self, now: Millis, replica: &mut impl Replica) -> Step {
        self.heard = now;
        if let Some(round) = &mut self.deaths.round {
            let count = round.theirs.len().min(BURIED_MAX);
            let ranges: Vec<DotRange> = round.theirs.drain(..count).collect();
            self.report.changed |= replica.join(&replica.deaths(&ranges))?.changed;
        }
        self.proceed(now, replica)
    }

    /// Returns the requests that may be sent now, or the end.
    fn proceed(&mut self, now: Millis, replica: &impl Replica) -> Step {
        let requests = self.pump(now, replica)?;
        let ends = self.asked.is_empty() && !self.is_burying();
        if ends { Err(Stop::End(Ending::Reconciled)) } else { Ok(requests) }
    }

    /// Bytes of the pushed deltas that are not answered yet.
    pub(super) fn pushed_bytes(&self) -> u64 {
        self.asked.iter().map(|(.., pushed)| *pushed as u64).sum()
    }

    fn in_flight(&self, kinds: &[Asked]) -> usize {
        self.asked.iter().filter(|(asked, ..)| kinds.contains(asked)).count()
    }

    /// The next delta for the peer, if it lacks anything.
    fn next_push(&mut self, replica: &impl Replica) -> Result<Option<Payload>, Stop> {
        while !self.accused.is_empty() {
            let dead = replica.dead_among(&take_suspects(&mut self.accused))?;
            if !dead.is_empty() {
                return Ok(Some(Payload(dead)));
            }
        }
        while !self.push.is_empty() {
            let count = self.push.len().min(RANGES_ASKED_MAX);
            let ranges: Vec<DotRange> = self.push.drain(..count).collect();
            let part = replica.live(&ranges, self.pace.bytes())?;
            self.deaths.is_due |= self.deaths.round.is_none() && !part.dead.is_empty();
            extend(&mut self.deaths.ours, part.dead);
            part.rest.into_iter().rev().for_each(|range| self.push.push_front(range));
            if !part.delta.is_empty() {
                return Ok(Some(Payload(part.delta)));
            }
        }
        Ok(None)
    }

    /// The deepest spans, either leaves or inner ones.
    fn next_comparison(&mut self, replica: &impl Replica) -> (Asked, SyncMessage) {
        let (session, salt) = (self.id, self.salt);
        let are_leaves = self.spans.last().is_some_and(|span| span.level == 0);
        let same = self.spans.iter().rev().take_while(|span| (span.level == 0) == are_leaves);
        let count = same.count().min(SPANS_ASKED_MAX);
        let spans = self.spans.split_off(self.spans.len() - count);
        if are_leaves {
            let leaves = spans.iter().map(|span| replica.leaf(span, salt)).collect();
            return (
                Asked::Leaves,
                SyncMessage::Leaves { session, salt, leaves, bytes_max: self.pace.bytes() as u32 },
            );
        }
        let spans = spans.into_iter().map(|span| (span, replica.child_hashes(&span, salt))).collect();
        (Asked::Compare, SyncMessage::Compare { session, salt, spans })
    }
}

/// The smallest span over sequence numbers up to `limit`.
fn whole(actor: ActorId, limit: u64) -> Span {
    let mut level = 0;
    let mut leaves = limit / SPAN_LEAF;
    while leaves > 0 {
        leaves /= SPAN_FANOUT;
        level += 1;
    }
    Span { actor, limit, level, index: 0 }
}

/// Cuts up to `dots` dots off the front, in at most [`RANGES_ASKED_MAX`] ranges.
fn take_dots(ranges: &mut VecDeque<DotRange>, dots: u64) -> Vec<DotRange> {
    let mut taken = Vec::new();
    let mut left = dots;
    while left > 0
        && taken.len() < RANGES_ASKED_MAX
        && let Some(range) = ranges.pop_front()
    {
        // One less than the number of dots, which may not fit.
        let span = range.last - range.first;
        if span >= left {
            let last = range.first + (left - 1);
            taken.push(DotRange { last, ..range });
            ranges.push_front(DotRange { first: last + 1, ..range });
            break;
        }
        left -= span + 1;
        taken.push(range);
    }
    taken
}

/// Cuts up to [`RANGES_ASKED_MAX`] ranges off a list of suspects.
fn take_suspects(suspects: &mut Vec<DotRange>) -> DotRanges {
    let mut normal = DotRanges::normalized(std::mem::take(suspects));
    *suspects = normal.0.split_off(normal.0.len().min(RANGES_ASKED_MAX));
    normal
}

fn extend(list: &mut Vec<DotRange>, more: Vec<DotRange>) {
    list.extend(more.into_iter().take(FRONTIER_MAX.saturating_sub(list.len())));
}
