//! The kinds of messages: their numbers and the layouts of their bodies.
//!
//! A number is assigned to one kind and never reused. A body's layout is frozen per version of its kind: the
//! fields in the order of the table, in bincode 2's standard configuration, which cannot skip a field.
//! A new field makes a new version of the kind, sent only to peers that speak the version of the
//! protocol that brought it ([`body_version`]).

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::Protocol;
use crate::Message;
use crate::message::{
    CrawlMessage, Description, Heartbeat, RumorMessage, SyncMessage, TrustMessage, ViewMessage,
};

/// [`CrawlMessage::Description`]'s number.
const DESCRIPTION: u8 = 0x51;
/// [`Message::Strong`]'s number.
pub(super) const STRONG: u8 = 0x60;
/// The first version of the protocol whose frames carry a kind.
const FIRST_PROTOCOL: u8 = 2;

/// The first version of the protocol with version 2 of a description.
const DESCRIBES_ABILITIES: u8 = 3;
/// [`SyncMessage::Open`]'s number.
const OPEN: u8 = 0x30;
/// [`SyncMessage::ListGroups`]'s number.
const LIST_GROUPS: u8 = 0x3f;
/// [`SyncMessage::Digests`]'s number.
const DIGESTS: u8 = 0x40;
/// [`TrustMessage::Statements`]'s number.
const STATEMENTS: u8 = 0x70;
/// [`TrustMessage::Renewed`]'s number.
const RENEWED: u8 = 0x71;
/// The first version of the protocol with version 2 of [`SyncMessage::Open`], and with the messages that it leads to.
const COMPARES_DIGESTS: u8 = 4;

/// Kind and version of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: u8,
    pub version: u8,
}

impl Head {
    /// Whether [`decode`](Body) can read it.
    pub fn is_known(self) -> bool {
        body_version(self.kind, u8::MAX).is_some_and(|newest| (1..=newest).contains(&self.version))
    }
}

/// A body to be encoded.
pub(super) struct Body<'a> {
    pub message: &'a Message,
    pub version: u8,
}

/// A body that was decoded.
pub(super) struct Decoded(pub Message);

macro_rules! kinds {
    ($($number:literal $outer:ident $inner:ident::$variant:ident
       $({ $($field:ident),+ })? $(( $only:ident ))?;)*) => {
        /// The number of a message's kind.
        pub(super) fn number(message: &Message) -> u8 {
            match message {
                $(Message::$outer($inner::$variant { .. }) => $number,)*
                Message::Sync(SyncMessage::Open { .. }) => OPEN,
                Message::Crawl(CrawlMessage::Description(_)) => DESCRIPTION,
                Message::Strong(_) => STRONG,
            }
        }

        /// The newest version of a kind's body that a version of the protocol knows; `None` if it
        /// does not know the kind.
        pub(super) fn body_version(kind: u8, protocol: u8) -> Option<u8> {
            match kind {
                _ if protocol < FIRST_PROTOCOL => None,
                LIST_GROUPS | DIGESTS if protocol < COMPARES_DIGESTS => None,
                STATEMENTS | RENEWED if protocol < Protocol::SHOWS_PAPERS => None,
                $($number)|* | STRONG => Some(1),
                OPEN => Some(if protocol < COMPARES_DIGESTS { 1 } else { 2 }),
                DESCRIPTION if protocol < DESCRIBES_ABILITIES => Some(1),
                DESCRIPTION => Some(if protocol < Protocol::SHOWS_PAPERS { 2 } else { 3 }),
                _ => None,
            }
        }

        impl Encode for Body<'_> {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                match self.message {
                    $(Message::$outer($inner::$variant $({ $($field),+ })? $(( $only ))?) => {
                        $($($field.encode(encoder)?;)+)?
                        $($only.encode(encoder)?;)?
                        Ok(())
                    })*
                    Message::Sync(SyncMessage::Open { session, salt, root, by_digest }) => {
                        (session, salt, root).encode(encoder)?;
                        if self.version >= 2 { by_digest.encode(encoder) } else { Ok(()) }
                    }
                    Message::Crawl(CrawlMessage::Description(description)) => {
                        encode_description(description, self.version, encoder)
                    }
                    // The frame's length is its length: nothing precedes the bytes.
                    Message::Strong(payload) => encoder.writer().write(&payload.0),
                }
            }
        }

        impl Decode<Head> for Decoded {
            fn decode<D: Decoder<Context = Head>>(decoder: &mut D) -> Result<Self, DecodeError> {
                let Head { kind, version } = *decoder.context();
                Ok(Self(match kind {
                    $($number => Message::$outer($inner::$variant
                        $({ $($field: Decode::decode(decoder)?),+ })?
                        $(({ let $only = Decode::decode(decoder)?; $only }))?),)*
                    OPEN => {
                        let (session, salt, root) = Decode::decode(decoder)?;
                        let by_digest = version >= 2 && Decode::decode(decoder)?;
                        Message::Sync(SyncMessage::Open { session, salt, root, by_digest })
                    }
                    DESCRIPTION => {
                        let description = decode_description(version, decoder)?;
                        Message::Crawl(CrawlMessage::Description(Box::new(description)))
                    }
                    _ => return Err(DecodeError::Other("an unknown kind")),
                }))
            }
        }
    };
}

kinds! {
    0x01 View ViewMessage::Join;
    0x02 View ViewMessage::ForwardJoin { joiner, ttl };
    0x03 View ViewMessage::Neighbor { high };
    0x04 View ViewMessage::NeighborReply { accepted };
    0x05 View ViewMessage::Disconnect;
    0x06 View ViewMessage::Shuffle { origin, ttl, sample };
    0x07 View ViewMessage::ShuffleReply { sample };
    0x08 View ViewMessage::Probe;
    0x09 View ViewMessage::ProbeReply { sample };
    0x10 Heartbeat Heartbeat::Ping { wall_ms };
    0x11 Heartbeat Heartbeat::Pong { wall_ms };
    0x20 Rumor RumorMessage::Full { id, hops, payload };
    0x21 Rumor RumorMessage::Announce { ids };
    0x22 Rumor RumorMessage::Graft { ids };
    0x23 Rumor RumorMessage::Prune;
    0x24 Rumor RumorMessage::Beacon(beacon);
    0x25 Rumor RumorMessage::Rejoin { as_child, ids };
    0x31 Sync SyncMessage::Equal { session };
    0x32 Sync SyncMessage::Busy { session };
    0x33 Sync SyncMessage::Groups { session, groups };
    0x34 Sync SyncMessage::ListActors { session, salt, groups };
    0x35 Sync SyncMessage::Actors { session, groups, actors };
    0x36 Sync SyncMessage::Compare { session, salt, spans };
    0x37 Sync SyncMessage::Differ { session, spans };
    0x38 Sync SyncMessage::Leaves { session, salt, leaves, bytes_max };
    0x39 Sync SyncMessage::Fetch { session, ranges, bytes_max };
    0x3a Sync SyncMessage::Suspect { session, suspects };
    0x3b Sync SyncMessage::Delta { session, delta, rest, want };
    0x3c Sync SyncMessage::Push { session, delta };
    0x3d Sync SyncMessage::Pushed { session, suspects };
    0x3e Sync SyncMessage::Close { session };
    0x3f Sync SyncMessage::ListGroups { session, salt, groups };
    0x40 Sync SyncMessage::Digests { session, groups, digests, actors };
    0x50 Crawl CrawlMessage::Describe;
    0x70 Trust TrustMessage::Statements(statements);
    0x71 Trust TrustMessage::Renewed(certificate);
}

/// Layout 2 adds the abilities, layout 3 the credentials.
fn encode_description<E: Encoder>(it: &Description, layout: u8, encoder: &mut E) -> Result<(), EncodeError> {
    let Description { record, version, active, known, root, entries, uptime_ms, abilities, standing } = it;
    (record, version, active, known, root, entries, uptime_ms).encode(encoder)?;
    if layout >= 2 {
        abilities.encode(encoder)?;
    }
    if layout >= 3 { standing.encode(encoder) } else { Ok(()) }
}

fn decode_description<D: Decoder<Context = Head>>(
    layout: u8,
    decoder: &mut D,
) -> Result<Description, DecodeError> {
    let (record, version, active, known, root, entries, uptime_ms) = Decode::decode(decoder)?;
    let abilities = if layout >= 2 { Decode::decode(decoder)? } else { None };
    let standing = if layout >= 3 { Decode::decode(decoder)? } else { None };
    Ok(Description { record, version, active, known, root, entries, uptime_ms, abilities, standing })
}
