//! The responder of a session. Its only state of a session is a seat.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{DELTA_BYTES_MAX, JoinReport, Replica, ReplicaError, SEATS_MAX};
use crate::message::{ActorSummary, Leaf, Payload, Root, SPAN_LEAF, Span, SyncMessage};
use crate::wire::bounds::{ACTORS_MAX, RANGES_MAX};
use crate::{ActorGroup, DotRange, DotRanges, Millis, NodeId};

/// Actors up to which they are compared one by one, not by groups first. At 33 bytes an actor they take about as much
/// as 256 groups.
const ACTORS_UNGROUPED_MAX: u64 = 64;
/// Actors of a group below that of all up to which they are listed, and not the digests of its parts: 8 KiB.
const GROUP_LISTED_MAX: u64 = 256;
/// Actors in one answer with digests after which it has no further group: 68 KiB.
const ACTORS_BESIDE_DIGESTS_MAX: usize = 2048;
/// Digests in one answer after which it has no further group: 40 KiB.
const DIGESTS_LISTED_MAX: usize = 4096;
/// Actors in one answer, at most, except that the first group is always whole.
const ACTORS_LISTED_MAX: usize = 1024;
/// Time without a message after which an initiator loses its seat, milliseconds. A guess, above the time to join one
/// delta.
const SEAT_IDLE_MS: u64 = 3000;

/// The initiators that are being answered, at most [`SEATS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: BTreeMap<NodeId, Millis>,
}

impl Seats {
    /// Whether the initiator has, or now gets, a seat.
    pub(super) fn sit(&mut self, now: Millis, peer: NodeId) -> bool {
        self.taken.retain(|_, last| now - *last < SEAT_IDLE_MS);
        let room = self.taken.len() < SEATS_MAX || self.taken.contains_key(&peer);
        if room {
            self.taken.insert(peer, now);
        }
        room
    }

    /// Keeps the seat of an initiator whose next message is arriving.
    pub(super) fn extend(&mut self, now: Millis, peer: &NodeId) {
        if let Some(last) = self.taken.get_mut(peer) {
            *last = now;
        }
    }

    pub(super) fn leave(&mut self, peer: &NodeId) {
        self.taken.remove(peer);
    }
}

/// An answer, and the result of joining a push.
pub(super) struct Answer {
    pub(super) message: SyncMessage,
    pub(super) joined: Option<JoinReport>,
}

/// Answers a request; `None` for a message that is not one. `since` marks when the session began, or when it was
/// last asked what was seen since.
pub(super) fn answer(
    request: SyncMessage,
    since: Option<u64>,
    replica: &mut impl Replica,
) -> Result<Option<Answer>, ReplicaError> {
    let message = match request {
        SyncMessage::Open { session, salt, root, by_digest } => open(session, salt, root, by_digest, replica),
        SyncMessage::ListGroups { session, salt, groups } => digests(session, salt, &groups, replica),
        SyncMessage::ListActors { session, salt, groups } => list(session, salt, &groups, replica),
        SyncMessage::Compare { session, salt, spans } => {
            let differ = |(span, theirs): (Span, Vec<u32>)| {
                let mask = differing(&replica.child_hashes(&span, salt), &theirs);
                (mask != 0).then_some((span, mask))
            };
            SyncMessage::Differ { session, spans: spans.into_iter().filter_map(differ).collect() }
        }
        SyncMessage::Leaves { session, salt, leaves, bytes_max } => {
            let (send, want) = exchange(salt, &leaves, replica);
            delta(session, &send, want, bytes_max, replica)?
        }
        SyncMessage::Fetch { session, ranges, bytes_max } if ranges.0.is_empty() => {
            news(session, since, bytes_max, replica)?
        }
        SyncMessage::Fetch { session, ranges, bytes_max } => {
            delta(session, &ranges.0, Vec::new(), bytes_max, replica)?
        }
        SyncMessage::Suspect { session, suspects } => SyncMessage::Delta {
            session,
            delta: Payload(replica.dead_among(&suspects)?),
            rest: DotRanges::default(),
            want: DotRanges::default(),
        },
        SyncMessage::Push { session, delta } => {
            let joined = replica.join(&delta.0)?;
            let mut suspects = DotRanges::normalized(joined.suspects.clone());
            // The descent finds the suspects that are left out here.
            suspects.0.truncate(RANGES_MAX);
            let message = SyncMessage::Pushed { session, suspects };
            return Ok(Some(Answer { message, joined: Some(joined) }));
        }
        _ => return Ok(None),
    };
    Ok(Some(Answer { message, joined: None }))
}

/// The dots that were seen here since a mark, as entries if `bytes_max` is not 0, otherwise with the gaps among the dots
/// that were ever seen.
fn news(
    session: u32,
    since: Option<u64>,
    bytes_max: u32,
    replica: &impl Replica,
) -> Result<SyncMessage, ReplicaError> {
    let Some(news) = since.and_then(|mark| replica.seen_since(mark)).map(DotRanges::normalized) else {
        return Ok(SyncMessage::Busy { session });
    };
    let (delta, rest, want) = if bytes_max == 0 {
        (Bytes::new(), news.0, replica.gaps(RANGES_MAX))
    } else {
        let part = replica.live(&news.0, DELTA_BYTES_MAX.min(bytes_max as usize))?;
        (part.delta, part.rest, Vec::new())
    };
    if rest.len() > RANGES_MAX {
        return Ok(SyncMessage::Busy { session });
    }
    let (rest, want) = (DotRanges::normalized(rest), DotRanges::normalized(want));
    Ok(SyncMessage::Delta { session, delta: Payload(delta), rest, want })
}

fn open(session: u32, salt: u64, root: Root, by_digest: bool, replica: &impl Replica) -> SyncMessage {
    let all = ActorGroup::All;
    match replica.root() {
        None => SyncMessage::Busy { session },
        Some(own) if own == root => SyncMessage::Equal { session },
        Some(_) if by_digest => digests(session, salt, &[all], replica),
        Some(_) if replica.actor_count(all) > ACTORS_UNGROUPED_MAX => {
            SyncMessage::Groups { session, groups: replica.groups(salt) }
        }
        Some(_) => SyncMessage::Actors { session, groups: Vec::new(), actors: replica.actors(all, salt) },
    }
}

/// The digests of the parts of the first groups asked for, or their actors if there are few, of as many groups as one
/// message holds. Of a group that has no parts and more than [`ACTORS_MAX`] actors the first ones only, as [`list`] does.
fn digests(session: u32, salt: u64, asked: &[ActorGroup], replica: &impl Replica) -> SyncMessage {
    let (mut groups, mut digests, mut actors) = (Vec::new(), Vec::new(), Vec::new());
    for group in asked {
        let listed_max = if *group == ActorGroup::All { ACTORS_UNGROUPED_MAX } else { GROUP_LISTED_MAX };
        let parts = match group {
            ActorGroup::FirstTwo(..) => Vec::new(),
            group if replica.actor_count(*group) <= listed_max => Vec::new(),
            group => replica.digests(*group, salt),
        };
        if parts.is_empty() {
            actors.extend(replica.actors(*group, salt));
        }
        digests.extend(parts);
        groups.push(*group);
        if actors.len() >= ACTORS_BESIDE_DIGESTS_MAX || digests.len() >= DIGESTS_LISTED_MAX {
            break;
        }
    }
    actors.truncate(ACTORS_MAX);
    SyncMessage::Digests { session, groups, digests, actors }
}

/// The actors of the first groups asked for, of as many groups as one message holds. Of a group
/// with more than [`ACTORS_MAX`] actors the first ones only: the rest look to the initiator as if
/// this replica lacked them, and are pushed in vain.
fn list(session: u32, salt: u64, asked: &[u8], replica: &impl Replica) -> SyncMessage {
    let mut groups = Vec::new();
    let mut actors: Vec<ActorSummary> = Vec::new();
    for group in asked {
        let before = actors.len();
        actors.extend(replica.actors(ActorGroup::First(*group), salt));
        if before > 0 && actors.len() > ACTORS_LISTED_MAX {
            actors.truncate(before);
            break;
        }
        groups.push(*group);
    }
    actors.truncate(ACTORS_MAX);
    SyncMessage::Actors { session, groups, actors }
}

/// A mask in which bit i is set if hash i differs; a missing hash is that of an empty child.
fn differing(ours: &[u32], theirs: &[u32]) -> u16 {
    let hash = |hashes: &[u32], i: usize| hashes.get(i).copied().unwrap_or(0);
    (0..16).filter(|i| hash(ours, *i) != hash(theirs, *i)).fold(0, |mask, i| mask | 1 << i)
}

/// Joins two leaves point by point: the dots to send, which are further along here (unseen < live < dead),
/// and those to ask for, which are further along there; a dot with two contents is among both.
fn exchange(salt: u64, leaves: &[Leaf], replica: &impl Replica) -> (Vec<DotRange>, Vec<DotRange>) {
    let mut send = Vec::new();
    let mut want = Vec::new();
    for theirs in leaves {
        let ours = replica.leaf(&theirs.span, salt);
        let contested = contested(&ours, theirs);
        let ahead = |a: &Leaf, b: &Leaf| (a.seen & !b.seen) | (a.seen & !a.live & b.live);
        #[cfg(planted)]
        let ahead = |a: &Leaf, b: &Leaf| {
            let lost = starling_planted::on(starling_planted::Bug::DeletionsNotRepaired);
            if lost { a.seen & !b.seen } else { ahead(a, b) }
        };
        push_ranges(&mut send, &theirs.span, ahead(&ours, theirs) | contested);
        push_ranges(&mut want, &theirs.span, ahead(theirs, &ours) | contested);
    }
    (send, want)
}

/// Dots live on both sides with different contents.
fn contested(ours: &Leaf, theirs: &Leaf) -> u64 {
    let both = ours.live & theirs.live;
    let hash = |leaf: &Leaf, bit: u32| {
        let rank = (leaf.live & ((1_u64 << bit) - 1)).count_ones();
        leaf.hashes.get(rank as usize).copied()
    };
    (0..64)
        .filter(|bit| both >> bit & 1 == 1 && hash(ours, *bit) != hash(theirs, *bit))
        .fold(0, |m, b| m | 1 << b)
}

/// The runs of set bits as ranges of dots.
fn push_ranges(ranges: &mut Vec<DotRange>, span: &Span, mut bits: u64) {
    let base = span.index * SPAN_LEAF;
    let mut at = 0;
    while bits != 0 {
        let skip = bits.trailing_zeros();
        let run = (bits >> skip).trailing_ones();
        at += skip;
        let first = base + u64::from(at);
        ranges.push(DotRange { actor: span.actor, first, last: first + (u64::from(run) - 1) });
        at += run;
        bits = bits.checked_shr(skip + run).unwrap_or(0);
    }
}

fn delta(
    session: u32,
    ranges: &[DotRange],
    want: Vec<DotRange>,
    bytes_max: u32,
    replica: &impl Replica,
) -> Result<SyncMessage, ReplicaError> {
    let (delta, mut rest) = if ranges.is_empty() {
        (Bytes::new(), Vec::new())
    } else {
        replica.delta(ranges, DELTA_BYTES_MAX.min(bytes_max as usize))?
    };
    rest.truncate(RANGES_MAX);
    Ok(SyncMessage::Delta { session, delta: Payload(delta), rest: DotRanges(rest), want: DotRanges(want) })
}
