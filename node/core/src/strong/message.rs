//! What nodes say to each other about strong keyspaces, inside `starling_proto::Message::Strong`.
#![allow(missing_docs, reason = "each variant's docs explain its fields")]

use bincode::{Decode, Encode};
use bytes::Bytes;
use starling_proto::{NodeRecord, message::Payload};
use starling_strong::api::{Answer, Failure, Options, Read, Request, Status, Watch, WatchUpdate};
use starling_strong::codec::{self, Malformed, Nesting};
use starling_strong::group::{ChangeError, GroupId, GroupMessage, Probed};
use starling_strong::members::{MemberId, NodeKey, is_member_id};

/// First byte of every frame and hint.
const FORMAT: u8 = 1;
/// Most messages in one frame.
const MESSAGES_MAX: usize = 4096;
/// Bytes of them in one frame, about; one message is sent whatever its size. A frame is of use when all of it has
/// come, which on a narrow link takes its time.
const FRAME_BYTES: usize = 64 << 10;
/// Before each message of a frame: its length, little endian.
const LENGTH_BYTES: usize = 4;
/// Most messages of groups in one [`StrongMessage::Groups`].
pub const BUNDLE_MAX: usize = 1024;
/// Bytes of them, about; one is sent whatever its size.
const BUNDLE_BYTES: usize = FRAME_BYTES;
/// Most records of nodes in one message: the members of a group.
const RECORDS_MAX: usize = starling_strong::members::MEMBERS_MAX;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum StrongMessage {
    /// Members of groups to each other.
    Groups(Vec<(GroupId, GroupMessage)>),
    /// "Found this group with us", to every founder.
    Found { group: GroupId, keyspace: String, founders: Vec<NodeRecord>, manual: bool },
    /// The answer: why not, if not.
    Founded { group: GroupId, refusal: Option<String> },
    /// "You are a member of this group now."
    Invite { group: GroupId, keyspace: String, member: MemberId, members: Vec<NodeRecord>, manual: bool },
    /// "Forget this group": its keyspace was dropped, or never came to be.
    Drop { group: GroupId },
    /// A client's request, to a member.
    Ask { id: u64, group: GroupId, request: Request, options: Options },
    /// What came of it.
    Answered { id: u64, result: Result<Answer, Failure> },
    /// Nothing was changed. `leader`: ask there. `missing`: voters that the member has no word from.
    Elsewhere { id: u64, leader: Option<NodeKey>, missing: Vec<NodeKey> },
    /// Changes the voters, or who leads.
    Manage { id: u64, group: GroupId, change: Manage },
    /// What came of it.
    Managed { id: u64, result: Result<(), ChangeError> },
    /// "How does this group stand?"
    Describe { id: u64, group: GroupId },
    /// As the member that was asked sees it.
    Described { id: u64, status: Status },
    /// Watches; so many updates may come before more are asked for.
    Watch { id: u64, group: GroupId, watch: Watch, updates: u32 },
    /// So many more may come.
    More { id: u64, updates: u32 },
    /// "Say how far this watch has come."
    Progress { id: u64 },
    /// One update of a watch, and how many came before it: what is shed on the way is noticed.
    Update { id: u64, number: u64, update: WatchUpdate },
    /// The watch has ended.
    Unwatch { id: u64 },
    /// A watch that was told nothing for a while: so many updates have come, and so many more may.
    Check { id: u64, heard: u64, updates: u32 },
    /// So many updates were sent, all of them before this.
    Checked { id: u64, told: u64 },
    /// "How far does your log reach?", and of the leader: "what do you find?"
    Probe { id: u64, group: GroupId, read: Option<Read> },
    /// The answer; `None`: ask as ever.
    Probed { id: u64, probed: Option<Probed> },
}

/// A change of who belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Manage {
    /// These become the voters.
    Voters(Vec<NodeRecord>),
    /// This one leads.
    Transfer(NodeKey),
}

/// Where a group lives, as its leader says it in the reserved eventual keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hint {
    /// The group.
    pub group: GroupId,
    /// The term in which this was true: of two hints the later one counts.
    pub term: u64,
    /// The members' nodes, the leader first.
    pub members: Vec<NodeRecord>,
    /// How many of them vote.
    pub voters: u8,
}

impl StrongMessage {
    fn is_bounded(&self) -> bool {
        match self {
            Self::Groups(bundle) => bundle.len() <= BUNDLE_MAX,
            Self::Found { founders: records, keyspace, .. } => are_bounded_in(records, keyspace),
            Self::Invite { members: records, keyspace, member, .. } => {
                are_bounded_in(records, keyspace) && is_member_id(*member)
            }
            Self::Manage { change: Manage::Voters(records), .. } => are_bounded(records),
            Self::Elsewhere { missing, .. } => missing.len() <= RECORDS_MAX,
            Self::Probed { probed: Some(Probed { found: Some(found), .. }), .. } => found.is_bounded(),
            _ => true,
        }
    }
}

/// Messages to one peer, in order, in frames that are not too large: what is said at one instant costs one
/// encryption and one system call.
pub fn encode_frames(messages: &[StrongMessage]) -> Vec<Payload> {
    let (mut frames, mut frame, mut count) = (Vec::new(), Vec::new(), 0);
    for message in messages {
        if count == MESSAGES_MAX || frame.len() >= FRAME_BYTES {
            frames.push(Payload(std::mem::take(&mut frame).into()));
            count = 0;
        }
        if count == 0 {
            frame.push(FORMAT);
        }
        let start = frame.len() + LENGTH_BYTES;
        frame.resize(start, 0);
        codec::encode_into(message, &mut frame);
        let length = (frame.len() - start) as u32;
        frame[start - LENGTH_BYTES..start].copy_from_slice(&length.to_le_bytes());
        count += 1;
    }
    if count > 0 {
        frames.push(Payload(frame.into()));
    }
    frames
}

/// What a peer sent: at least one message, or all of it is malformed.
pub fn decode_frame(frame: &Payload) -> Result<Vec<StrongMessage>, Malformed> {
    let malformed = Malformed { what: "message about strong keyspaces" };
    let mut rest = match frame.0.split_first() {
        Some((&FORMAT, rest)) if !rest.is_empty() => rest,
        _ => return Err(malformed),
    };
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(malformed)?;
        let (message, after) =
            after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(malformed)?;
        let message: StrongMessage = codec::decode(message, malformed.what)?;
        if messages.len() == MESSAGES_MAX || !message.is_bounded() {
            return Err(Malformed { what: "message out of bounds" });
        }
        messages.push(message);
        rest = after;
    }
    Ok(messages)
}

/// Messages of groups in bundles that are not too large.
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

impl Hint {
    /// Who led then.
    pub fn leader(&self) -> Option<NodeKey> {
        self.members.first().map(|record| record.id.0)
    }

    /// For the reserved keyspace.
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![FORMAT];
        codec::encode_into(self, &mut bytes);
        bytes.into()
    }

    /// What was found there.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let hint: Self = match bytes.split_first() {
            Some((&FORMAT, rest)) => codec::decode(rest, "hint")?,
            _ => return Err(Malformed { what: "hint" }),
        };
        if are_bounded(&hint.members) { Ok(hint) } else { Err(Malformed { what: "hint out of bounds" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_to_a_place_that_nobody_can_have_is_malformed() {
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
}
