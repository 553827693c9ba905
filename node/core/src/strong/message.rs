//! Messages between nodes about strong keyspaces. Several travel in the body of one
//! `starling_proto::Message::Strong`, each as
//!
//! ```text
//! length  LEB128, of everything after it
//! version one byte, of this kind's fields
//! kind    one byte, the variant's place in [`StrongMessage`]
//! fields  bincode 2 (standard configuration)
//! ```
//!
//! A receiver skips and counts a message of a kind, or of a version of a kind, that it does not know. A
//! variant never changes its place, and its fields are frozen per version: new variants go to the end.
#![allow(missing_docs, reason = "each variant's docs explain its fields")]

use bincode::{Decode, Encode};
use bytes::Bytes;
use starling_proto::{NodeRecord, message::Payload, wire::STRONG_FRAME_BYTES_MAX};
use starling_strong::api::{
    Answer, Failure, Options, Read, Refusal, Request, Revision, Status, Watch, WatchUpdate,
};
use starling_strong::codec::{self, Malformed, Nesting};
use starling_strong::group::{ChangeError, GroupId, GroupMessage, Probed};
use starling_strong::log::{LogPosition, Recoveries};
use starling_strong::members::{MemberId, NodeKey, is_member_id};

use super::surveys::ReplicaState;

/// First byte of a location without unsafe recoveries: all that release 0.1.0 reads.
const LOCATION_FORMAT_FIRST: u8 = 1;
/// First byte of a location with unsafe recoveries. Published while data version 3 is in force.
const LOCATION_FORMAT: u8 = 2;
/// Version of the fields of every kind.
const VERSION: u8 = 1;
/// Kinds of messages that this node knows.
const KINDS: u8 = 26;
/// Messages in one frame, at most.
const MESSAGES_MAX: usize = 4096;
/// Bytes of messages in one frame, about; one message is sent whatever its size. A frame is decoded only after all of
/// it has arrived, which takes long on a narrow link.
const FRAME_BYTES: usize = 64 << 10;
/// Bytes of one message, at most: so much less than a frame that it fits behind other messages.
const MESSAGE_BYTES_MAX: usize = STRONG_FRAME_BYTES_MAX - 2 * FRAME_BYTES;
/// Bytes of the longest length of a message, as LEB128.
const LENGTH_BYTES_MAX: usize = 4;
/// Messages of groups in one [`StrongMessage::Groups`], at most.
pub const BUNDLE_MAX: usize = 1024;
/// Bytes of messages in one [`StrongMessage::Groups`], about; one is sent whatever its size.
const BUNDLE_BYTES: usize = FRAME_BYTES;
/// The highest revision in a message. No keyspace reaches it, and clients of etcd's API know signed numbers only.
const REVISION_MAX: Revision = 1 << 62;
/// Records of nodes in one message, at most: the members of a group.
const RECORDS_MAX: usize = starling_strong::members::MEMBERS_MAX;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum StrongMessage {
    /// Messages between members of groups.
    Groups(Vec<(GroupId, GroupMessage)>),
    /// Asks an initial member of a group to create its replica.
    Create { group: GroupId, keyspace: String, members: Vec<NodeRecord>, manual: bool },
    /// The outcome of [`StrongMessage::Create`]: why the replica was not created, if it was not. In reply to
    /// [`StrongMessage::Invite`]: why the sender declines to be a member.
    CreateReply { group: GroupId, refusal: Option<String> },
    /// Asks a node that was added to a group to create its replica.
    Invite { group: GroupId, keyspace: String, member: MemberId, members: Vec<NodeRecord>, manual: bool },
    /// Says that a group was dropped, and that the sender has no replica of it; or, from the node that created it, that its
    /// creation failed.
    Drop { group: GroupId },
    /// A client's request, to a member.
    Request { id: u64, group: GroupId, request: Request, options: Options },
    /// The outcome of [`StrongMessage::Request`].
    Response { id: u64, result: Result<Answer, Failure> },
    /// The receiver of a request does not lead, and changed nothing. `leader`: the node that does. `missing`:
    /// voters that the sender has no connection to.
    Redirect { id: u64, leader: Option<NodeKey>, missing: Vec<NodeKey> },
    /// Changes the voters or the leader.
    Manage { id: u64, group: GroupId, change: Manage },
    /// The outcome of [`StrongMessage::Manage`].
    ManageReply { id: u64, result: Result<(), ChangeError> },
    /// Asks a member for the status of its group.
    Status { id: u64, group: GroupId },
    /// The status, as the sender sees it.
    StatusReply { id: u64, status: Status },
    /// Asks a member to serve a watch, with at most this many updates before [`StrongMessage::More`].
    Watch { id: u64, group: GroupId, watch: Watch, updates: u32 },
    /// Grants a watch more updates.
    More { id: u64, updates: u32 },
    /// Asks for the revision that a watch has reached.
    Progress { id: u64 },
    /// One update of a watch, and the number of those before it: the receiver notices a lost one.
    Update { id: u64, number: u64, update: WatchUpdate },
    /// Ends a watch.
    Unwatch { id: u64 },
    /// From the receiver of a watch that got no update for a while: how many it has received, and how many more
    /// it accepts.
    Check { id: u64, received: u64, updates: u32 },
    /// The number of updates that were sent, all of them before this message.
    CheckReply { id: u64, sent: u64 },
    /// Asks a member for the last index of its log, and the leader for what it reads.
    Probe { id: u64, group: GroupId, read: Option<Read> },
    /// The reply to [`StrongMessage::Probe`]; `None`: the read has to go to the leader.
    ProbeReply { id: u64, probed: Option<Probed> },
    /// Asks a member whether its replica of this group has this name: another group is published under it too. Sent
    /// while data version 3 is in force.
    CheckName { group: GroupId, keyspace: String },
    /// The reply to [`StrongMessage::CheckName`] of a member whose replica has the name.
    NameConfirmed { group: GroupId, keyspace: String },
    /// Asks a node for the state of its replica of a group, whether it works or not. Sent while data version 3 is in
    /// force.
    AskReplica { id: u64, group: GroupId },
    /// The reply to [`StrongMessage::AskReplica`]; `None`: the node has no replica.
    Replica { id: u64, found: Option<ReplicaState> },
    /// Asks the leader of a group to drop its keyspace. [`StrongMessage::ManageReply`] is the outcome.
    DropGroup { id: u64, group: GroupId },
}

/// A change of a group's voters or leader.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Manage {
    /// The nodes of the new voters.
    Voters(Vec<NodeRecord>),
    /// The node that is to lead.
    Transfer(NodeKey),
}

/// The location of a group, as its leader publishes it in the reserved eventual keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLocation {
    /// The group.
    pub group: GroupId,
    /// The term in which this was true: of two locations of a group the later one counts.
    pub term: u64,
    /// The members' nodes, the leader first.
    pub members: Vec<NodeRecord>,
    /// How many of them vote.
    pub voters: u8,
    /// The group's unsafe recoveries.
    pub recoveries: Recoveries,
}

impl StrongMessage {
    /// The request of this node that a message replies to.
    pub fn replies_to(&self) -> Option<u64> {
        match self {
            Self::Response { id, .. }
            | Self::Redirect { id, .. }
            | Self::ManageReply { id, .. }
            | Self::StatusReply { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// What is sent instead of a message that fits into no frame: a client has to get an answer. Nothing else is that
    /// large, and nothing is sent instead of it.
    fn refusal(&self, length: usize) -> Option<Self> {
        let Self::Response { id, .. } = self else { return None };
        let what = "answer from another node".into();
        let refusal = Refusal::TooLarge { what, bytes: length as u64, max: MESSAGE_BYTES_MAX as u64 };
        Some(Self::Response { id: *id, result: Err(refusal.into()) })
    }

    fn is_bounded(&self) -> bool {
        match self {
            Self::Groups(bundle) => bundle.len() <= BUNDLE_MAX,
            Self::Create { members: records, keyspace, .. } => are_bounded_in(records, keyspace),
            Self::Invite { members: records, keyspace, member, .. } => {
                are_bounded_in(records, keyspace) && is_member_id(*member)
            }
            Self::Manage { change: Manage::Voters(records), .. } => are_bounded(records),
            Self::CheckName { keyspace, .. } | Self::NameConfirmed { keyspace, .. } => {
                keyspace.len() <= super::KEYSPACE_BYTES_MAX
            }
            Self::Redirect { missing, .. } => missing.len() <= RECORDS_MAX,
            Self::Response { result: Ok(answer), .. } => answer.revision <= REVISION_MAX,
            Self::StatusReply { status, .. } => status.revision <= REVISION_MAX,
            Self::Update {
                update:
                    WatchUpdate::Created { revision }
                    | WatchUpdate::Events { revision, .. }
                    | WatchUpdate::Progress { revision }
                    | WatchUpdate::Compacted { oldest: revision },
                ..
            } => *revision <= REVISION_MAX,
            Self::ProbeReply { probed: Some(Probed { found: Some(found), .. }), .. } => found.is_bounded(),
            _ => true,
        }
    }
}

/// Encodes messages to one peer, in order, in frames within their bounds: the messages of one instant share an
/// encryption and a system call.
pub fn encode_frames(messages: &[StrongMessage]) -> Vec<Payload> {
    let (mut frames, mut frame, mut count) = (Vec::new(), Vec::new(), 0);
    for message in messages {
        if count == MESSAGES_MAX || frame.len() >= FRAME_BYTES {
            frames.push(Payload(std::mem::take(&mut frame).into()));
            count = 0;
        }
        let (mut length, mut instead) = (codec::encoded_len(message), None);
        if length > MESSAGE_BYTES_MAX {
            let Some(refusal) = message.refusal(length) else { continue };
            length = codec::encoded_len(&refusal);
            instead = Some(refusal);
        }
        put_length(1 + length, &mut frame);
        frame.push(VERSION);
        codec::encode_into(instead.as_ref().unwrap_or(message), &mut frame);
        count += 1;
    }
    if count > 0 {
        frames.push(Payload(frame.into()));
    }
    frames
}

fn put_length(mut length: usize, frame: &mut Vec<u8>) {
    while length >= 0x80 {
        frame.push(length as u8 | 0x80);
        length >>= 7;
    }
    frame.push(length as u8);
}

/// The length that `bytes` begin with, and what follows it.
fn take_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for (i, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[i + 1..]));
        }
    }
    None
}

/// The messages of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrongFrame {
    /// Those that this node knows, in order.
    pub messages: Vec<StrongMessage>,
    /// Messages that were skipped: of a kind, or of a version of a kind, that this node does not know.
    pub skipped: u64,
}

/// Decodes a peer's frame, which has at least one message.
pub fn decode_frame(frame: &Payload) -> Result<StrongFrame, Malformed> {
    let malformed = Malformed { what: "message about strong keyspaces" };
    let mut decoded = StrongFrame::default();
    let mut rest = &frame.0[..];
    for _ in 0..MESSAGES_MAX {
        let (length, after) = take_length(rest).ok_or(malformed)?;
        let (message, after) = after.split_at_checked(length).ok_or(malformed)?;
        let (&version, message) = message.split_first().ok_or(malformed)?;
        let &kind = message.first().ok_or(malformed)?;
        if version != VERSION || kind >= KINDS {
            decoded.skipped += 1;
        } else {
            let message: StrongMessage = codec::decode(message, malformed.what)?;
            if !message.is_bounded() {
                return Err(Malformed { what: "message out of bounds" });
            }
            decoded.messages.push(message);
        }
        rest = after;
        if rest.is_empty() {
            return Ok(decoded);
        }
    }
    Err(Malformed { what: "message out of bounds" })
}

/// Splits messages of groups into bundles within their bounds.
pub fn split(bundle: Vec<(GroupId, GroupMessage)>) -> Vec<Vec<(GroupId, GroupMessage)>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for (group, message) in bundle {
        let more = message.payload_bytes();
        let is_full = |part: &Vec<_>| part.len() == BUNDLE_MAX || (bytes + more > BUNDLE_BYTES && bytes > 0);
        if parts.last().is_some_and(is_full) {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.push((group, message));
        }
    }
    parts
}

fn are_bounded(records: &[NodeRecord]) -> bool {
    records.len() <= RECORDS_MAX && records.iter().all(NodeRecord::is_bounded)
}

fn are_bounded_in(records: &[NodeRecord], keyspace: &str) -> bool {
    are_bounded(records) && keyspace.len() <= super::KEYSPACE_BYTES_MAX
}

impl GroupLocation {
    /// The node that led in that term.
    pub fn leader(&self) -> Option<NodeKey> {
        self.members.first().map(|record| record.id.0)
    }

    /// The value of the group's field in the reserved keyspace.
    pub fn encode(&self) -> Bytes {
        let Self { group, term, members, voters, recoveries } = self;
        let format = if recoveries.is_empty() { LOCATION_FORMAT_FIRST } else { LOCATION_FORMAT };
        let mut bytes = vec![format];
        codec::encode_into(&(group, term, members, voters), &mut bytes);
        if format == LOCATION_FORMAT {
            codec::encode_into(recoveries, &mut bytes);
        }
        bytes.into()
    }

    /// Parses such a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let ((group, term, members, voters), recoveries) = match bytes.split_first() {
            Some((&LOCATION_FORMAT_FIRST, rest)) => (codec::decode(rest, "location")?, Recoveries::default()),
            Some((&LOCATION_FORMAT, rest)) => codec::decode(rest, "location")?,
            _ => return Err(Malformed { what: "location" }),
        };
        let location = Self { group, term, members, voters, recoveries };
        let has_voters = location.voters != 0;
        let is_term = LogPosition { term: location.term, index: 0 }.is_bounded();
        if are_bounded(&location.members) && location.recoveries.is_bounded() && has_voters && is_term {
            Ok(location)
        } else {
            Err(Malformed { what: "location out of bounds" })
        }
    }
}

#[cfg(test)]
mod tests {
    use starling_strong::api::Body;

    use super::*;

    #[test]
    fn an_invitation_with_an_impossible_member_id_is_malformed() {
        let decoded = |member| {
            let (group, keyspace) = ([7; 16], "k".to_owned());
            let invite =
                StrongMessage::Invite { group, keyspace, member, members: Vec::new(), manual: false };
            decode_frame(&encode_frames(&[invite])[0])
        };
        assert!(decoded(1).is_ok());
        for member in [0, u64::MAX] {
            assert!(decoded(member).is_err(), "{member}");
        }
    }

    #[test]
    fn an_answer_that_fits_into_no_frame_becomes_a_refusal() {
        let leases = (0..1_000_000).map(|n| i64::MAX - n).collect();
        let answer = Answer { revision: 1, body: Body::Leases { leases } };
        let frames = encode_frames(&[StrongMessage::Response { id: 7, result: Ok(answer) }]);
        assert!(frames.iter().all(|frame| frame.0.len() <= STRONG_FRAME_BYTES_MAX));
        let decoded = decode_frame(&frames[0]).expect("a frame").messages;
        let [StrongMessage::Response { id: 7, result: Err(Failure::Refused(Refusal::TooLarge { .. })) }] =
            &decoded[..]
        else {
            panic!("not a refusal: {decoded:?}")
        };
    }

    #[test]
    fn messages_of_a_later_version_are_skipped_and_their_neighbours_are_read() {
        let drop = StrongMessage::Drop { group: [7; 16] };
        let known = &encode_frames(std::slice::from_ref(&drop))[0].0[..];
        let last = StrongMessage::DropGroup { id: 1, group: [7; 16] };
        assert_eq!(encode_frames(&[last])[0].0[2], KINDS - 1, "the kind of the last variant");
        let unknown_kind = &[3, VERSION, KINDS, 9][..];
        let unknown_version = &[4, VERSION + 1, 4, 9, 9][..];
        let frame = [known, unknown_kind, unknown_version, known].concat();
        let expected = StrongFrame { messages: vec![drop.clone(), drop], skipped: 2 };
        assert_eq!(decode_frame(&Payload(frame.into())), Ok(expected));
        let unknown = Payload(unknown_kind.repeat(MESSAGES_MAX).into());
        assert_eq!(decode_frame(&unknown).map(|frame| frame.skipped), Ok(MESSAGES_MAX as u64));
        let flood = Payload(unknown_kind.repeat(MESSAGES_MAX + 1).into());
        assert!(decode_frame(&flood).is_err(), "skipped ones count towards the bound");
        for broken in [&[][..], &[0], &[1, VERSION], &[9, VERSION, 4], &[0x80, 0x80, 0x80, 0x80, 1]] {
            assert!(decode_frame(&Payload(broken.to_vec().into())).is_err(), "{broken:?}");
        }
    }
}
