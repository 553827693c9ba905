//! The inputs, outputs, messages, notices and errors of a group.

use bincode::{Decode, Encode};
use starling_kv::engine::Family;
use starling_kv::{Engine, Error};

use super::change::ChangeError;
use super::promises::Promises;
use super::wire::RaftMessage;
use super::{GroupId, History, Token};
use crate::api::{Answer, Failure, Options, Request};
use crate::log::{LogError, LogPosition};
use crate::machine;
use crate::members::{MemberId, NodeKey};

/// Bytes of an entry on the wire beyond data and context, at most.
const ENTRY_BYTES: usize = 24;

/// A message between members.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum GroupMessage {
    /// A message of Raft itself.
    Raft(RaftMessage),
    /// Notifies a node that its member was removed from the group.
    Gone {
        /// The number of the removed member.
        member: MemberId,
        /// The nodes of the current voters. The node may remove its replica when most of them have notified it.
        voters: Vec<NodeKey>,
    },
    /// Asks for the chunk of a snapshot that begins at a cursor.
    Pull {
        /// The last entry that the snapshot contains.
        index: u64,
        /// Where the chunk begins, as [`machine::Cursor`] encodes it.
        cursor: Vec<u8>,
        /// Size of the chunk, bytes, about.
        bytes: u32,
    },
    /// The chunk that [`GroupMessage::Pull`] asked for.
    Chunk {
        /// The last entry that the snapshot contains.
        index: u64,
        /// The chunk, as [`machine::Snapshot::chunk`] encodes it.
        bytes: Vec<u8>,
    },
    /// The reply to a [`GroupMessage::Pull`] whose snapshot does not exist any more.
    NoSnapshot {
        /// The last entry that it contained.
        index: u64,
    },
    /// Sends the leader this member's state hash after an entry.
    Hash {
        /// The entry.
        index: u64,
        /// The hash.
        hash: [u8; 32],
    },
    /// Asks whether the sender is still a member. [`GroupMessage::Gone`] is the reply if it is not; else there is
    /// none.
    CheckMembership {
        /// The number of the sender's member.
        member: MemberId,
    },
    /// Asks the leader to confirm that it leads and to send its commit index. From a follower that has reads to
    /// serve.
    AskIndex {
        /// The follower's name for the round.
        name: u64,
    },
    /// The reply to [`GroupMessage::AskIndex`]: the reads may be served once this entry is applied.
    Index {
        /// The follower's name for the round.
        name: u64,
        /// The leader's commit index.
        index: u64,
    },
    /// Asks a voter for the last index of its log. From a follower that has reads to serve.
    AskLastIndex {
        /// The follower's name for the round.
        name: u64,
    },
    /// The reply to [`GroupMessage::AskLastIndex`].
    LastIndex {
        /// The follower's name for the round.
        name: u64,
        /// The replying member.
        member: MemberId,
        /// The last index of its log.
        index: u64,
    },
    /// Asks a member what the sender may have promised before its process started; see `promises`. Sent while data
    /// version 3 is in force.
    AskPromises {
        /// The sender's name for the question.
        name: u64,
        /// The number of the sender's member.
        member: MemberId,
        /// The end of the sender's log.
        last: LogPosition,
    },
    /// The reply to [`GroupMessage::AskPromises`].
    Promises {
        /// The name of the question.
        name: u64,
        /// The reply.
        reply: Promises,
    },
    /// Asks a member who the members are: the sender has got a message of one that it does not know. Sent while data
    /// version 3 is in force.
    AskMembers,
    /// The reply to [`GroupMessage::AskMembers`].
    Members {
        /// The numbers of the members and their nodes.
        members: Vec<(MemberId, NodeKey)>,
    },
}

impl GroupMessage {
    /// Whether a node that this member does not know may send it: it is checked further, or only asks for what anybody may
    /// know.
    pub(super) fn is_from_anyone(&self) -> bool {
        matches!(
            self,
            Self::Raft(_)
                | Self::Gone { .. }
                | Self::CheckMembership { .. }
                | Self::AskPromises { .. }
                | Self::AskMembers
        )
    }

    /// Bytes of the entries or the chunk in this message, about; everything else in a message is small.
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
            | Self::AskPromises { .. }
            | Self::Promises { .. }
            | Self::AskMembers
            | Self::Members { .. }
            | Self::Pull { .. }
            | Self::NoSnapshot { .. } => 0,
        }
    }
}

/// An event that a group handles.
#[derive(Debug)]
pub enum Input {
    /// The time of `Group::poll_timeout` has come.
    Timeout,
    /// A client's request.
    Request {
        /// The caller's name for the request, returned with its answer.
        token: Token,
        /// The request.
        request: Request,
        /// Its deadline, consistency and request id.
        options: Options,
    },
    /// A message from another member. The caller has authenticated the node.
    Message {
        /// The sender's node.
        from: NodeKey,
        /// The message.
        message: GroupMessage,
    },
    /// The link to a node broke, or the node cannot be reached.
    PeerDown(NodeKey),
    /// Everything written before the [`Output::Sync`] with this number is durable.
    Synced(u64),
    /// Changes the voters to the members on these nodes, in steps that keep a majority; see `change`.
    SetVoters {
        /// The caller's name for the change, returned with its result.
        token: Token,
        /// The nodes of the new voters.
        nodes: Vec<NodeKey>,
    },
    /// Transfers leadership to the member on this node.
    Transfer {
        /// The caller's name for the transfer, returned with its result.
        token: Token,
        /// The node of the new leader.
        to: NodeKey,
    },
    /// Drops the keyspace. Only for a group that has adopted data version 3.
    Drop {
        /// The caller's name for the request, returned with its result.
        token: Token,
    },
    /// A node that was invited ([`Output::Invite`]) does not create the replica of its member.
    Declined {
        /// The node.
        node: NodeKey,
        /// Why not, for people.
        reason: String,
    },
}

/// What the caller has to carry out for the group.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message to a member. It may be lost.
    Send {
        /// The member's node.
        to: NodeKey,
        /// The message.
        message: GroupMessage,
    },
    /// Sync the engine, then pass [`Input::Synced`] with this number.
    Sync(u64),
    /// Answer a request.
    Answer {
        /// The name of the request.
        token: Token,
        /// The answer to it.
        result: Result<Answer, Failure>,
    },
    /// Send a request to the leader: it was not carried out here, and changed nothing.
    Redirect {
        /// The name of the request.
        token: Token,
        /// The leader's node; `None` if it is unknown.
        leader: Option<NodeKey>,
    },
    /// Report that a change of voters, a transfer of leadership or a drop is done, or has failed.
    Changed {
        /// The name of the change.
        token: Token,
        /// Its result.
        result: Result<(), ChangeError>,
    },
    /// Ask a node to create the replica of a member that was added.
    Invite {
        /// The new member's node.
        node: NodeKey,
        /// The number of the new member.
        member: MemberId,
    },
    /// Remove the replica: this node is not a member of the group any more.
    Removed,
    /// Remove the replica: the keyspace was dropped.
    Dropped,
    /// Write a notice to the log, and count it.
    Notice(Notice),
}

/// An event for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The leader or the term has changed.
    Leader {
        /// The current term.
        term: u64,
        /// The leader's node; `None` if no leader is known.
        node: Option<NodeKey>,
    },
    /// A member sent an invalid message, which was dropped.
    Impossible {
        /// The sender's node.
        from: NodeKey,
        /// The part of the message that is invalid.
        what: &'static str,
    },
    /// Raft rejected the change of members in this committed entry; nothing changed, on any member.
    ChangeRefused(u64),
    /// The group could not be opened, created or removed on this node.
    NotOpened(String),
    /// The members' states differ after this entry, and no majority of the voters agrees.
    Disagreement(u64),
    /// This member's log ended before entries that it had acknowledged when it was opened: an older copy was restored, or
    /// the disk has lost them.
    RolledBack {
        /// The last committed entry that the member had acknowledged.
        acknowledged: u64,
        /// The last entry of its log.
        found: u64,
    },
    /// As [`Notice::RolledBack`], of another member; from the leader.
    MemberRolledBack {
        /// The member's node.
        node: NodeKey,
        /// The last committed entry that the member had acknowledged.
        acknowledged: u64,
        /// The last entry of its log.
        found: u64,
    },
    /// Another group was created under the keyspace's name, apart from it, and gives way.
    Rival,
    /// Another group has the keyspace's name, which was created apart from it. The keyspace has this one now.
    GaveWay {
        /// Its name from now on.
        name: String,
    },
    /// A node asks for something that an operator decides. At the member that has to do it, once for each request.
    Asked {
        /// The node that asks: any node asks for its operator.
        by: NodeKey,
        /// For what.
        what: Asked,
    },
    /// The keyspace was dropped.
    Dropped,
    /// This node is not a member of the group any more, and keeps its replica aside.
    KeptAside {
        /// For how long, milliseconds.
        keep_ms: u64,
    },
    /// The replica that was kept aside is removed.
    AsideRemoved {
        /// Why.
        reason: &'static str,
    },
    /// This node is to join the group again, and does not as long as a replica is kept aside that may have writes which
    /// the group lacks.
    AsideInTheWay,
    /// The group has stopped on this node and serves nothing until it is opened again.
    Stopped(Stop),
}

/// What only operators ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A replica of a new keyspace.
    Create,
    /// The end of the keyspace.
    Drop,
    /// Other voters, on these nodes.
    Voters(Vec<NodeKey>),
    /// Another leader, on this node.
    Transfer(NodeKey),
    /// Unsafe recovery by the replica here.
    Recover,
}

/// Why a group has stopped on a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The engine failed. When the group is opened again, it continues with what is durable.
    #[error(transparent)]
    Storage(#[from] Error),
    /// The log has an entry that this version of the program does not understand.
    #[error("entry {0} of the log was written by a newer version: update this node")]
    Unreadable(u64),
    /// This replica's state differs from that of the majority.
    #[error("the replica differs from the others")]
    Diverged,
    /// Raft installs a snapshot that this member has not received.
    #[error("the snapshot to be installed was not received")]
    NoSnapshot,
}

/// Why a group does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its log does not open.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its state machine does not open.
    #[error(transparent)]
    Storage(#[from] Error),
    /// Log and state machine do not fit each other, or Raft rejected them.
    #[error("log and state of the group do not fit: {0}")]
    Unfit(String),
}

impl OpenError {
    /// Whether the engine failed. The replica may be sound, and open later.
    pub fn is_storage(&self) -> bool {
        let error = match self {
            Self::Log(LogError::Storage(error)) | Self::Storage(error) => error,
            Self::Log(_) | Self::Unfit(_) => return false,
        };
        !matches!(error, Error::Corrupt { .. } | Error::Format { .. })
    }
}

/// The identity of a group and of this node's member.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group's id.
    pub group: GroupId,
    /// The keyspace's name, for errors.
    pub keyspace: String,
    /// This node's key.
    pub node: NodeKey,
    /// The number of this node's member.
    pub member: MemberId,
    /// Configuration of the state machine.
    pub machine: machine::Config,
    /// The history that the leader keeps.
    pub history: History,
    /// Applied entries that stay in the log for followers that are a little behind; a log with twice as many is cut.
    pub kept_entries: u64,
    /// Whether the log of a new replica is in the engine's journal, if it has one. Release 0.1.0 does not open it.
    pub in_journal: bool,
}

/// The usual [`GroupConfig::kept_entries`]. A guess.
pub const KEPT_ENTRIES: u64 = 10_000;

impl GroupConfig {
    /// Where the log of a new replica is.
    pub(super) fn family<E: Engine>(&self, engine: &E) -> Family {
        if self.in_journal && engine.has_journal() { Family::Journal } else { Family::Raft }
    }
}
