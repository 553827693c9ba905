//! What goes into a group and what comes out.

use bincode::{Decode, Encode};
use starling_kv::Error;

use super::change::ChangeError;
use super::wire::RaftMessage;
use super::{GroupId, Token};
use crate::api::{Answer, Failure, Options, Request};
use crate::log::LogError;
use crate::machine;
use crate::members::{MemberId, NodeKey};

/// Bytes of an entry on the wire beyond its contents, at most.
const ENTRY_BYTES: usize = 24;

/// A message between members.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum GroupMessage {
    /// Raft itself.
    Raft(RaftMessage),
    /// Notifies a node that takes itself for a member that it was removed.
    Gone {
        /// Its place in the group.
        member: MemberId,
        /// The nodes of the voters now: it may forget the group when most of them say so.
        voters: Vec<NodeKey>,
    },
    /// Asks for the chunk of a snapshot that begins at a cursor.
    Pull {
        /// The last entry that the snapshot contains.
        index: u64,
        /// Where the state machine's own format says the chunk begins.
        cursor: Vec<u8>,
        /// How large it should be, about.
        bytes: u32,
    },
    /// The chunk that [`GroupMessage::Pull`] asked for.
    Chunk {
        /// The last entry that the snapshot contains.
        index: u64,
        /// In the state machine's own format.
        bytes: Vec<u8>,
    },
    /// The snapshot of a [`GroupMessage::Pull`] is not there any more.
    NoSnapshot {
        /// The last entry that it contained.
        index: u64,
    },
    /// This member's state hash after an entry, to the leader.
    Hash {
        /// The entry.
        index: u64,
        /// The hash.
        hash: [u8; 32],
    },
    /// Asks whether the sender is still a member. [`GroupMessage::Gone`] is the reply if it is not; else there is
    /// none.
    CheckMembership {
        /// Its place in the group.
        member: MemberId,
    },
    /// Asks the leader for its commit index, once it has confirmed that it leads. From a follower that has reads
    /// to serve.
    AskIndex {
        /// Its name for them.
        name: u64,
    },
    /// The reply to [`GroupMessage::AskIndex`]: reads may be served once this entry is applied.
    Index {
        /// The follower's name for them.
        name: u64,
        /// The entry.
        index: u64,
    },
    /// Asks a voter for the last index of its log. From a follower that has reads to serve.
    AskLastIndex {
        /// Its name for them.
        name: u64,
    },
    /// The reply to [`GroupMessage::AskLastIndex`].
    LastIndex {
        /// The follower's name for them.
        name: u64,
        /// Whose log.
        member: MemberId,
        /// Its last entry.
        index: u64,
    },
}

impl GroupMessage {
    /// Bytes of what it carries; the rest is small.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Raft(message) => {
                message.entries.iter().map(|entry| ENTRY_BYTES + entry.data.len() + entry.context.len()).sum()
            }
            Self::Chunk { bytes, .. } => bytes.len(),
            Self::Gone { .. }
            | Self::CheckMembership { .. }
            | Self::Hash { .. }
            | Self::AskIndex { .. }
            | Self::Index { .. }
            | Self::AskLastIndex { .. }
            | Self::LastIndex { .. }
            | Self::Pull { .. }
            | Self::NoSnapshot { .. } => 0,
        }
    }
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// `Group::poll_timeout` has been reached.
    Timeout,
    /// A client asks.
    Request {
        /// Echoed with the answer.
        token: Token,
        /// What.
        request: Request,
        /// How.
        options: Options,
    },
    /// A member's message; the caller has made sure from which node.
    Message {
        /// The node.
        from: NodeKey,
        /// What it says.
        message: GroupMessage,
    },
    /// The link to a node broke, or it cannot be reached.
    PeerDown(NodeKey),
    /// Everything that was written when this [`Output::Sync`] came out is durable.
    Synced(u64),
    /// Make these nodes the voters, one careful step after the other.
    SetVoters {
        /// Echoed with the outcome.
        token: Token,
        /// The nodes.
        nodes: Vec<NodeKey>,
    },
    /// Let this node lead.
    Transfer {
        /// Echoed with the outcome: whether it was begun.
        token: Token,
        /// The node.
        to: NodeKey,
    },
}

/// What the group wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send to a member. May be lost.
    Send {
        /// The member's node.
        to: NodeKey,
        /// What.
        message: GroupMessage,
    },
    /// Sync the engine, and say [`Input::Synced`] with this number.
    Sync(u64),
    /// A request is answered.
    Answer {
        /// Which.
        token: Token,
        /// How.
        result: Result<Answer, Failure>,
    },
    /// A request was not carried out, and changed nothing: ask the leader.
    Redirect {
        /// Which.
        token: Token,
        /// Where the leader is, if it is known and another.
        leader: Option<NodeKey>,
    },
    /// A change of voters is done, or came to nothing.
    Changed {
        /// Which.
        token: Token,
        /// How.
        result: Result<(), ChangeError>,
    },
    /// A new member was added on this node and has to be made there.
    Invite {
        /// The node.
        node: NodeKey,
        /// Its place in the group.
        member: MemberId,
    },
    /// This member does not belong to the group any more; what it holds may be removed.
    Removed,
    /// For the log and its counters.
    Notice(Notice),
}

/// Something an operator may want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another member leads, or nobody that is known.
    Leader {
        /// Since this term.
        term: u64,
        /// On this node.
        node: Option<NodeKey>,
    },
    /// A member said what cannot be; it was ignored.
    Impossible {
        /// Its node.
        from: NodeKey,
        /// What.
        what: &'static str,
    },
    /// Raft refused a change of members that was committed; nothing changed, on any member.
    ChangeRefused(u64),
    /// The group could not be opened, made or removed on this node.
    NotOpened(String),
    /// Members differ in what they hold after this entry, and no majority of them agrees: nobody can say who
    /// is right.
    Disagreement(u64),
    /// The group has stopped on this node and serves nothing until it is opened again.
    Stopped(Stop),
}

/// Why a group has stopped on a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The engine failed. Opened again, the group goes on where it is durable.
    #[error(transparent)]
    Storage(#[from] Error),
    /// The log has an entry that this version of the program does not understand.
    #[error("entry {0} of the log was written by a newer version: update this node")]
    Unreadable(u64),
    /// This replica has found that it differs from the others.
    #[error("the replica differs from the others")]
    Diverged,
    /// Raft wants a snapshot to take effect that was not put together here.
    #[error("the snapshot that is to be installed is not there")]
    NoSnapshot,
}

/// Why a group does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its log does not.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its state machine does not.
    #[error(transparent)]
    Storage(#[from] Error),
    /// Log and state machine do not fit each other, or Raft refused them.
    #[error("log and state of the group do not fit: {0}")]
    Unfit(String),
}

/// Who and what a group is on this node.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group.
    pub group: GroupId,
    /// The keyspace's name, for errors.
    pub keyspace: String,
    /// This node.
    pub node: NodeKey,
    /// This node's place in the group.
    pub member: MemberId,
    /// Bounds of the state machine.
    pub machine: machine::Config,
}
