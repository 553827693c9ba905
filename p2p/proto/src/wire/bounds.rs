//! The bounds of every message.

use super::WireError;
use crate::message::{
    Abilities, CrawlMessage, Leaf, Message, RumorId, RumorMessage, SPAN_FANOUT, SPAN_LEAF, Span, SyncMessage,
    TrustMessage, ViewMessage,
};
use crate::trust::{Signed, Statement};
use crate::{ActorGroup, ActorId, DotRanges, NodeRecord};

/// Records in one message (a sample, a crawl's answer), at most: an active and a passive view of the default sizes, and
/// few enough that the largest records fit a control frame.
pub const RECORDS_MAX: usize = 40;
/// Neighbours in a crawl's answer, at most.
pub const ACTIVE_MAX: usize = 64;
/// Longest software version in a crawl's answer, bytes.
pub const VERSION_BYTES_MAX: usize = 64;
/// Hops that a random walk may have left, at most. The paper's walks have 6.
pub const WALK_TTL_MAX: u8 = 16;
/// Rumor ids in one announcement or graft, at most: 17 KiB.
pub const RUMOR_IDS_MAX: usize = 512;
/// Actors in one message, at most: 1.1 MiB.
pub const ACTORS_MAX: usize = 32_768;
/// Groups of actors in one request, and answers to them in one message, at most: a guess, far above what sessions need.
pub const GROUPS_MAX: usize = 8192;
/// Spans in one comparison, and leaves in one message, at most.
pub const SPANS_MAX: usize = 256;
/// Ranges of dots in each list of one message, at most: every second dot of [`SPANS_MAX`] leaves.
pub const RANGES_MAX: usize = 8192;
/// Statements in one message, at most: the largest ones take half a control frame.
pub const STATEMENTS_AT_ONCE_MAX: usize = 40;
/// Highest level of a span: level 14 covers 2^62 sequence numbers, level 15 all of them.
pub const LEVEL_MAX: u8 = 15;

/// Checks that everything in the message is within its bound.
pub(super) fn check(message: &Message) -> Result<(), WireError> {
    match message {
        Message::View(message) => view(message),
        // Messages of strong keyspaces are bounded when they are decoded.
        Message::Heartbeat(_) | Message::Strong(_) => Ok(()),
        Message::Rumor(message) => rumor(message),
        Message::Sync(message) => sync(message),
        Message::Crawl(message) => crawl(message),
        Message::Trust(message) => trust(message),
    }
}

fn require(holds: bool, what: &'static str) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::OutOfBounds { what }) }
}

fn records(records: &[NodeRecord]) -> Result<(), WireError> {
    require(records.len() <= RECORDS_MAX, "number of records")?;
    require(records.iter().all(NodeRecord::is_bounded), "size of a record")
}

fn walk(origin: &NodeRecord, ttl: u8) -> Result<(), WireError> {
    require(ttl <= WALK_TTL_MAX, "ttl of a walk")?;
    require(origin.is_bounded(), "size of a record")
}

fn view(message: &ViewMessage) -> Result<(), WireError> {
    match message {
        ViewMessage::ForwardJoin { joiner, ttl } => walk(joiner, *ttl),
        ViewMessage::Shuffle { origin, ttl, sample } => {
            walk(origin, *ttl)?;
            records(sample)
        }
        ViewMessage::ShuffleReply { sample } | ViewMessage::ProbeReply { sample } => records(sample),
        ViewMessage::Join
        | ViewMessage::Neighbor { .. }
        | ViewMessage::NeighborReply { .. }
        | ViewMessage::Disconnect
        | ViewMessage::Probe => Ok(()),
    }
}

fn crawl(message: &CrawlMessage) -> Result<(), WireError> {
    let CrawlMessage::Description(description) = message else { return Ok(()) };
    require(description.record.is_bounded(), "size of a record")?;
    require(description.version.len() <= VERSION_BYTES_MAX, "length of a version")?;
    let is_range = |it: Abilities| it.protocol.min <= it.protocol.max;
    require(description.abilities.is_none_or(is_range), "versions of the protocol")?;
    require(description.active.len() <= ACTIVE_MAX, "number of neighbours")?;
    records(&description.known)
}

fn trust(message: &TrustMessage) -> Result<(), WireError> {
    match message {
        TrustMessage::Statements(statements) => {
            require(statements.len() <= STATEMENTS_AT_ONCE_MAX, "number of statements")?;
            require(statements.iter().all(Statement::is_bounded), "size of a statement")
        }
        TrustMessage::Renewed(certificate) => require(certificate.is_bounded(), "size of a certificate"),
    }
}

fn rumor(message: &RumorMessage) -> Result<(), WireError> {
    match message {
        RumorMessage::Full { id, .. } => rumor_ids(&[*id]),
        RumorMessage::Announce { ids } | RumorMessage::Graft { ids } | RumorMessage::Rejoin { ids, .. } => {
            rumor_ids(ids)
        }
        RumorMessage::Prune | RumorMessage::Beacon(_) => Ok(()),
    }
}

fn rumor_ids(ids: &[RumorId]) -> Result<(), WireError> {
    require(ids.len() <= RUMOR_IDS_MAX, "number of rumors")?;
    require(ids.iter().all(|id| 1 <= id.first && id.first <= id.last), "dots of a rumor")
}

fn ranges(ranges: &DotRanges) -> Result<(), WireError> {
    require(ranges.0.len() <= RANGES_MAX, "number of ranges")
}

/// Whether the span is a node of the tree: its first sequence number fits 64 bits.
fn is_span(span: &Span) -> bool {
    let shift = SPAN_LEAF.ilog2() + SPAN_FANOUT.ilog2() * u32::from(span.level.min(LEVEL_MAX));
    span.level <= LEVEL_MAX && u128::from(span.index) << shift <= u128::from(u64::MAX)
}

fn leaf(leaf: &Leaf) -> bool {
    let zeroth = leaf.span.index == 0 && leaf.seen & 1 == 1;
    leaf.span.level == 0
        && is_span(&leaf.span)
        && !zeroth
        && leaf.live & !leaf.seen == 0
        && leaf.hashes.len() == leaf.live.count_ones() as usize
}

fn ascending<T: Ord>(mut items: impl Iterator<Item = T>) -> bool {
    let Some(mut last) = items.next() else { return true };
    items.all(|item| std::mem::replace(&mut last, item) < last)
}

/// Groups ascend and share no actor.
fn actor_groups(groups: impl ExactSizeIterator<Item = ActorGroup>) -> Result<(), WireError> {
    require(groups.len() <= GROUPS_MAX, "number of groups")?;
    let ends = groups.flat_map(|group| <[ActorId; 2]>::from(group.ids().into_inner()));
    require(ascending(ends), "order of groups")
}

fn sync(message: &SyncMessage) -> Result<(), WireError> {
    match message {
        SyncMessage::Groups { groups, .. } => {
            require(ascending(groups.iter().map(|g| g.0)), "order of groups")
        }
        SyncMessage::ListActors { groups, .. } => require(ascending(groups.iter()), "order of groups"),
        SyncMessage::Actors { groups, actors, .. } => {
            require(ascending(groups.iter()), "order of groups")?;
            require(actors.len() <= ACTORS_MAX, "number of actors")?;
            require(ascending(actors.iter().map(|a| a.actor)), "order of actors")
        }
        SyncMessage::ListGroups { groups, .. } => actor_groups(groups.iter().copied()),
        SyncMessage::Digests { groups, digests, actors, .. } => {
            actor_groups(groups.iter().copied())?;
            actor_groups(digests.iter().map(|(group, _)| *group))?;
            require(actors.len() <= ACTORS_MAX, "number of actors")?;
            require(ascending(actors.iter().map(|a| a.actor)), "order of actors")
        }
        SyncMessage::Compare { spans, .. } => {
            require(spans.len() <= SPANS_MAX, "number of spans")?;
            require(spans.iter().all(|(span, _)| is_span(span) && span.level > 0), "a span")?;
            require(
                spans.iter().all(|(_, hashes)| hashes.len() <= SPAN_FANOUT as usize),
                "number of children",
            )
        }
        SyncMessage::Differ { spans, .. } => {
            require(spans.len() <= SPANS_MAX, "number of spans")?;
            require(spans.iter().all(|(span, _)| is_span(span) && span.level > 0), "a span")
        }
        SyncMessage::Leaves { leaves, .. } => {
            require(leaves.len() <= SPANS_MAX, "number of leaves")?;
            require(leaves.iter().all(leaf), "a leaf")
        }
        SyncMessage::Fetch { ranges: wanted, .. } => ranges(wanted),
        SyncMessage::Delta { rest, want, .. } => {
            ranges(rest)?;
            ranges(want)
        }
        SyncMessage::Suspect { suspects, .. } | SyncMessage::Pushed { suspects, .. } => ranges(suspects),
        SyncMessage::Open { .. }
        | SyncMessage::Equal { .. }
        | SyncMessage::Busy { .. }
        | SyncMessage::Push { .. }
        | SyncMessage::Close { .. } => Ok(()),
    }
}
