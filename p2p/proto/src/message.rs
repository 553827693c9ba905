//! The messages between two nodes after the handshake.
#![allow(missing_docs, reason = "each variant's docs explain its fields")]

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::trust::{Certificate, Statement};
use crate::wire::Protocol;
use crate::{ActorGroup, ActorId, DotRange, DotRanges, NodeId, NodeRecord};
pub use starling_types::{Root, SPAN_FANOUT, SPAN_LEAF};

/// A class of traffic: one long-lived substream, one bounded queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Views, heartbeats, announcements, grafts, crawls, credentials: small and urgent.
    Control,
    /// Full rumors.
    Rumor,
    /// Anti-entropy sessions: bulk.
    Sync,
    /// Strong keyspaces: urgent, and large at times.
    Strong,
}

impl Class {
    /// Every class, in the order of their substreams.
    pub const ALL: [Self; 4] = [Self::Control, Self::Rumor, Self::Sync, Self::Strong];
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Membership.
    View(ViewMessage),
    /// Liveness.
    Heartbeat(Heartbeat),
    /// Dissemination.
    Rumor(RumorMessage),
    /// Anti-entropy.
    Sync(SyncMessage),
    /// Crawling the overlay.
    Crawl(CrawlMessage),
    /// Credentials.
    Trust(TrustMessage),
    /// Strong keyspaces, encoded by their own codec.
    Strong(Payload),
}

impl Message {
    /// The class of the message's substream. Only full rumors are bulk among rumor messages: a graft must
    /// not wait behind payloads.
    pub fn class(&self) -> Class {
        match self {
            Self::Rumor(RumorMessage::Full { .. }) => Class::Rumor,
            Self::Sync(_) => Class::Sync,
            Self::Strong(_) => Class::Strong,
            _ => Class::Control,
        }
    }
}

/// `HyParView` (Leitao, Pereira, Rodrigues, DSN 2007, algorithm 1), with signed records in place of
/// addresses, and probes for the healing of split overlays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewMessage {
    /// A new node joins. The receiver has its record from the handshake.
    Join,
    /// A join on its random walk; `ttl` hops left.
    ForwardJoin { joiner: NodeRecord, ttl: u8 },
    /// Asks to enter the receiver's active view; with `high` it must accept (the sender lacks two neighbours or more).
    Neighbor { high: bool },
    /// The answer to `Neighbor`.
    NeighborReply { accepted: bool },
    /// Notifies the receiver that it has left the sender's active view. The connection stays open until it has reacted.
    Disconnect,
    /// A sample of the origin's views on a random walk.
    Shuffle { origin: NodeRecord, ttl: u8, sample: Vec<NodeRecord> },
    /// The sample in return, sent to the origin directly.
    ShuffleReply { sample: Vec<NodeRecord> },
    /// Asks for a sign of life and a sample of peers (for healing, and from a joiner to a seed).
    Probe,
    /// The reply: live peers that the sender has lately heard of.
    ProbeReply { sample: Vec<NodeRecord> },
}

/// Signs of life on an active link. Any other frame counts as one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// Asks for a `Pong`. Contains the sender's wall clock, milliseconds since the Unix epoch.
    Ping { wall_ms: u64 },
    /// The reply, with its sender's wall clock.
    Pong { wall_ms: u64 },
}

/// A rumor's id: the dots that its origin created for it, which are consecutive.
pub type RumorId = DotRange;

/// Rumor mongering with per-link interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RumorMessage {
    /// A rumor with its payload (an encoded delta of the store), `hops` links away from its origin.
    Full { id: RumorId, hops: u16, payload: Payload },
    /// Announces rumors that the sender has: the lazy push.
    Announce { ids: Vec<RumorId> },
    /// Asks for rumors, and for eager pushes from now on.
    Graft { ids: Vec<RumorId> },
    /// Asks for lazy pushes from now on, because the receiver has sent a rumor that was known already.
    Prune,
    /// Redraws the shared tree; flooded over every link.
    Beacon(Beacon),
    /// Asks the receiver to become the sender's parent, whose old one is gone (or, if not `as_child`, to push eagerly
    /// until that turns out to be superfluous). `ids` are the rumors that the sender has received in the last seconds,
    /// at most `RUMOR_IDS_MAX`.
    Rejoin { as_child: bool, ids: Vec<RumorId> },
}

/// One redrawing of the tree that rumors are pushed along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Beacon {
    /// The number of the redrawing; the highest one wins.
    pub round: u64,
    /// A number that the beginning node draws at random at each start; of two with one round the smaller one wins.
    pub origin: u64,
    /// The sender's distance from the origin in the tree, links.
    pub depth: u16,
}

/// Opaque bytes of the store, shared and not copied when a message goes to several links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl Encode for Payload {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        self.0.as_ref().encode(encoder)
    }
}

impl<C> Decode<C> for Payload {
    fn decode<D: bincode::de::Decoder<Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        use bincode::de::read::Reader;
        let length = usize::decode(decoder)?;
        decoder.claim_container_read::<u8>(length)?;
        // A length that the frame does not hold allocates nothing.
        let bytes = decoder.reader().peek_read(length).map(Bytes::copy_from_slice);
        let bytes = bytes.ok_or(bincode::error::DecodeError::UnexpectedEnd { additional: length })?;
        decoder.reader().consume(length);
        Ok(Self(bytes))
    }
}

bincode::impl_borrow_decode!(Payload);

/// A summary of what a replica has of one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ActorSummary {
    /// The actor.
    pub actor: ActorId,
    /// The highest sequence number seen of it.
    pub max: u64,
    /// Salted hash over everything seen and live of it.
    pub hash: u64,
}

/// A node of the tree over one actor's sequence numbers: [`SPAN_LEAF`] of them at level 0,
/// [`SPAN_FANOUT`] times more at each level above. Only sequence numbers up to `limit` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Span {
    /// The actor.
    pub actor: ActorId,
    /// Sequence numbers above it are not compared (one of the two has not seen them).
    pub limit: u64,
    /// 0 is a leaf.
    pub level: u8,
    /// Covers sequence numbers `index * width ..` with `width = SPAN_LEAF * SPAN_FANOUT^level`.
    pub index: u64,
}

/// One leaf in full.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Leaf {
    /// The leaf's span; its level is 0.
    pub span: Span,
    /// Bit i: sequence number `64 * index + i` is in the causal context.
    pub seen: u64,
    /// Bit i: it is live. A subset of `seen`.
    pub live: u64,
    /// A salted short hash per live dot, in order.
    pub hashes: Vec<u32>,
}

/// Push-pull anti-entropy, driven by the initiator; the responder keeps no state. Every request
/// carries the session's salt, so that a collision of short hashes does not persist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncMessage {
    /// Initiator: here is my root; is yours the same? If it is not, the answer is `Digests` with `by_digest` (since version 4
    /// of the protocol), and `Groups` or `Actors` without.
    Open { session: u32, salt: u64, root: Root, by_digest: bool },
    /// Responder: it is.
    Equal { session: u32 },
    /// Responder: not now (too many sessions, or fingerprints are being rebuilt).
    Busy { session: u32 },
    /// Responder, many actors: hashes of its actors grouped by the id's first byte.
    Groups { session: u32, groups: Vec<(u8, u64)> },
    /// Initiator: list your actors of these groups.
    ListActors { session: u32, salt: u64, groups: Vec<u8> },
    /// Responder: its actors, either all (`groups` empty) or those of the groups asked for.
    Actors { session: u32, groups: Vec<u8>, actors: Vec<ActorSummary> },
    /// Initiator: what do you have of these groups of actors?
    ListGroups { session: u32, salt: u64, groups: Vec<ActorGroup> },
    /// Responder, to `ListGroups` and (with the group of all actors) to `Open`: what it has of the first `groups` asked for,
    /// as many as one message holds. Of a group with many actors, the digests of its parts; of the others the actors.
    /// Parts without actors are left out.
    Digests {
        session: u32,
        groups: Vec<ActorGroup>,
        digests: Vec<(ActorGroup, u64)>,
        actors: Vec<ActorSummary>,
    },
    /// Initiator: my hashes of the children of these spans; which differ from yours?
    Compare { session: u32, salt: u64, spans: Vec<(Span, Vec<u32>)> },
    /// Responder: for each span asked, bit i is set if child i differs.
    Differ { session: u32, spans: Vec<(Span, u16)> },
    /// Initiator: leaves that differ, in full. The answer's delta should have no more than about
    /// `bytes_max`, since the link may be slow; at least one entry.
    Leaves { session: u32, salt: u64, leaves: Vec<Leaf>, bytes_max: u32 },
    /// Initiator: send me what you have of these dots; `bytes_max` as in `Leaves`. No ranges: which dots have you seen
    /// since the session began, or since I last asked this? They come as the answer's `rest`, with those that the responder
    /// has not seen below others of the same actor as `want` (as many as one message holds) if `bytes_max` is 0; otherwise
    /// as entries, and `rest` did not fit.
    Fetch { session: u32, ranges: DotRanges, bytes_max: u32 },
    /// Initiator: which of these dots do you know to be dead? They are live here, at places where
    /// you had newer ones.
    Suspect { session: u32, suspects: DotRanges },
    /// Responder, to `Leaves`, `Fetch` and `Suspect`: a delta to be joined at once. `rest` did not
    /// fit: fetch it. `want`: dots the initiator has and the responder lacks.
    Delta { session: u32, delta: Payload, rest: DotRanges, want: DotRanges },
    /// Initiator: what the responder lacks.
    Push { session: u32, delta: Payload },
    /// Responder: joined. `suspects` are dots at the same places that the initiator may know to be
    /// dead.
    Pushed { session: u32, suspects: DotRanges },
    /// Initiator: that was all.
    Close { session: u32 },
}

/// A crawl asks each node for its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrawlMessage {
    /// Asks for a description.
    Describe,
    /// The reply.
    Description(Box<Description>),
}

/// Changes of credentials while a link is open. Since version 5 of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustMessage {
    /// Statements of the authority that the sender has just received, at most `STATEMENTS_AT_ONCE_MAX`.
    Statements(Vec<Statement>),
    /// The sender's new certificate.
    Renewed(Certificate),
}

/// A node's own credentials, for a crawl.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Standing {
    /// The authority that it follows.
    pub authority: NodeId,
    /// The digest of the statements that it has.
    pub digest: [u8; 16],
    /// Who has given its certificate, and when it expires, milliseconds since the Unix epoch; `None` without one.
    pub certificate: Option<(NodeId, u64)>,
}

/// The capabilities of a node's software.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Abilities {
    /// The versions of the protocol that it speaks.
    pub protocol: Protocol,
    /// The newest version of stored and replicated data that it reads.
    pub data_newest: u16,
    /// The version of data that is in force, as far as the node knows.
    pub data_in_force: u16,
}

/// A node's description of itself for a crawl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its own record.
    pub record: NodeRecord,
    /// Version of its software.
    pub version: String,
    /// Its active view.
    pub active: Vec<NodeId>,
    /// Records of its active and passive views, with which the crawl continues.
    pub known: Vec<NodeRecord>,
    /// Its root, absent while fingerprints are rebuilt and on seeds.
    pub root: Option<Root>,
    /// Live entries it holds.
    pub entries: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Since version 3 of the protocol; `None` if the two nodes speak an older one.
    pub abilities: Option<Abilities>,
    /// Since version 5 of the protocol; `None` without an authority.
    pub standing: Option<Standing>,
}
