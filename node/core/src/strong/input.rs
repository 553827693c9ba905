//! What clients of strong keyspaces ask of a node ([`crate::Input::Strong`]), what they get
//! ([`crate::Output::Strong`]), and what [`super::Strong`] asks of the node that runs it.

use starling_proto::message::Payload;
use starling_proto::{NodeId, NodeRecord};
use starling_strong::api::{Answer, Failure, Options, Request, Status, Watch, WatchUpdate};
use starling_strong::group::{ChangeError, GroupId, Notice};
use starling_strong::log::LogEnd;
use starling_strong::members::NodeKey;

use super::message::StrongMessage;
use super::surveys::ReplicaState;
use super::{CreateError, GroupLocation};
use crate::Token;

/// A client's request to a strong keyspace, or about one. The outcome carries the same token.
#[derive(Debug)]
pub enum StrongInput {
    /// A read or a write, answered within the time that its options give.
    Request {
        /// Echoed with [`StrongOutput::Answer`].
        token: Token,
        /// Its name.
        keyspace: String,
        /// The operation.
        request: Request,
        /// Deadline, and the rest of what applies to any operation.
        options: Options,
    },
    /// Opens a watch.
    Watch {
        /// Names the watch from now on.
        token: Token,
        /// Its name.
        keyspace: String,
        /// The keys, and the revision to begin with.
        watch: Watch,
        /// Updates that may be sent before [`StrongInput::More`].
        updates: u32,
    },
    /// The client accepts more updates of its watch.
    More {
        /// The watch.
        token: Token,
        /// How many more.
        updates: u32,
    },
    /// The client asks for [`WatchUpdate::Progress`] behind all updates that its watch has by now.
    Progress {
        /// The watch.
        token: Token,
    },
    /// Clients close their watches.
    Unwatch {
        /// The watches.
        tokens: Vec<Token>,
    },
    /// Creates a keyspace.
    Create {
        /// Echoed with [`StrongOutput::Created`].
        token: Token,
        /// Its name.
        keyspace: String,
        /// Number of voters where `on` is empty.
        voters: u8,
        /// The voters' nodes; empty: the node chooses.
        on: Vec<NodeId>,
        /// Whether lost voters are replaced by an operator only.
        manual: bool,
    },
    /// Removes a keyspace with all its data.
    Drop {
        /// Echoed with [`StrongOutput::Managed`].
        token: Token,
        /// Its name.
        keyspace: String,
    },
    /// Replaces the voters of a keyspace.
    SetVoters {
        /// Echoed with [`StrongOutput::Managed`].
        token: Token,
        /// Its name.
        keyspace: String,
        /// The nodes of the new voters.
        nodes: Vec<NodeId>,
    },
    /// Makes another node a voter of a keyspace instead of this one, which is about to leave the network.
    Vacate {
        /// Echoed with [`StrongOutput::Managed`].
        token: Token,
        /// Its name.
        keyspace: String,
    },
    /// Transfers the leadership of a keyspace.
    Transfer {
        /// Echoed with [`StrongOutput::Managed`].
        token: Token,
        /// Its name.
        keyspace: String,
        /// The node that is to lead.
        to: NodeId,
    },
    /// Asks for the status of a keyspace.
    Status {
        /// Echoed with [`StrongOutput::Status`].
        token: Token,
        /// Its name.
        keyspace: String,
        /// Whether the leader's status is preferred: it knows more than the other members.
        of_leader: bool,
    },
    /// Asks for the replicas of a keyspace on all nodes that can be reached.
    Survey {
        /// Echoed with [`StrongOutput::Surveyed`].
        token: Token,
        /// Its name.
        keyspace: String,
    },
    /// Unsafe recovery after a loss of quorum: the replica on this node becomes the only member. What the
    /// others acknowledged and this replica does not have is lost.
    Recover {
        /// Echoed with [`StrongOutput::Managed`].
        token: Token,
        /// Its name.
        keyspace: String,
        /// Entries of the longest log within reach that this replica may lack.
        accept_loss: u64,
    },
    /// Removes the replicas of a keyspace that this node keeps aside, if there are any.
    Discard {
        /// Echoed with [`StrongOutput::Managed`].
        token: Token,
        /// Its name.
        keyspace: String,
    },
}

/// The outcome of a [`StrongInput`], by its token.
#[derive(Debug)]
pub enum StrongOutput {
    /// The outcome of a [`StrongInput::Request`].
    Answer {
        /// Of the request.
        token: Token,
        /// What the keyspace answered, or why there is no answer.
        result: Result<Answer, Failure>,
    },
    /// The next update of a watch.
    Update {
        /// Of the watch.
        token: Token,
        /// Events, progress, or the end of the watch.
        update: WatchUpdate,
    },
    /// The outcome of a [`StrongInput::Create`].
    Created {
        /// Of the request.
        token: Token,
        /// The location of the new group, or why there is none.
        result: Result<GroupLocation, CreateError>,
    },
    /// The outcome of a [`StrongInput::Status`].
    Status {
        /// Of the request.
        token: Token,
        /// The status, or why it is not known.
        result: Result<Status, Failure>,
    },
    /// The outcome of a [`StrongInput::Survey`].
    Surveyed {
        /// Of the request.
        token: Token,
        /// The replicas, or why they are not known.
        result: Result<Surveyed, ManageError>,
    },
    /// The outcome of [`StrongInput::Drop`], [`StrongInput::SetVoters`], [`StrongInput::Vacate`],
    /// [`StrongInput::Transfer`], [`StrongInput::Recover`] and [`StrongInput::Discard`].
    Managed {
        /// Of the request.
        token: Token,
        /// Why the change was not made, if it was not.
        result: Result<(), ManageError>,
    },
}

/// The replicas of a keyspace on the nodes that were reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// The replicas, in the order of their nodes' keys.
    pub replicas: Vec<SurveyedReplica>,
    /// Names of members that did not reply, in order.
    pub silent: Vec<String>,
}

/// One of these replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedReplica {
    /// Its node.
    pub node: NodeKey,
    /// The node's name.
    pub name: String,
    /// The replica.
    pub state: ReplicaState,
    /// Whether it may have acknowledged entries that the longest log lacks, because of an unsafe recovery in between.
    pub may_have_more: bool,
}

impl Surveyed {
    /// The longest of the logs, if any can be read.
    pub fn longest(&self) -> Option<LogEnd> {
        let ends = self.replicas.iter().filter_map(|replica| replica.state.end);
        ends.max_by_key(|end| (end.term, end.index))
    }
}

/// Why the members of a keyspace were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// The group refused the change.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// No keyspace of this name is known.
    #[error("there is no strong keyspace {0:?}")]
    NoSuchKeyspace(String),
    /// The node that is asked must have a replica, and has none.
    #[error("this node has no replica of {0:?}")]
    NoReplica(String),
    /// The group needs no unsafe recovery: the replica here is its only member, and works.
    #[error("{0} has one voter, this node, and works")]
    IsAlone(String),
    /// No node is known to be up that could take this node's place.
    #[error("no other node is up that could take its place")]
    NoSpare,
    /// None of the nodes that are up takes this node's place.
    #[error("no other node takes its place: {}", reasons.join("; "))]
    AllDecline {
        /// Why, by each of them.
        reasons: Vec<String>,
    },
    /// Voters of the keyspace are replaced by an operator only.
    #[error("its voters are replaced by hand only")]
    Manual,
    /// The group needs no unsafe recovery, as far as this node knows.
    #[error(
        "this node has heard from its leader or from a majority of its voters in the last {} s",
        super::replicas::SILENT_MS / 1_000
    )]
    HasQuorum,
    /// The replica here has not listened for long enough to know that the group needs unsafe recovery.
    #[error(
        "this node opened its replica less than {} s ago, and cannot know yet that no majority of its voters is up",
        super::replicas::SILENT_MS / 1_000
    )]
    JustOpened {
        /// Seconds until it has.
        left_s: u64,
    },
    /// The replica here does not open, and its group has other members.
    #[error("the replica here does not open, and cannot know whether a majority of its voters is up")]
    QuorumUnknown,
    /// The group needs no unsafe recovery, as far as this other node knows.
    #[error(
        "{node} has heard from the leader or from a majority of the voters in the last {} s, or has just opened its replica",
        super::replicas::SILENT_MS / 1_000
    )]
    QuorumAt {
        /// Its name.
        node: String,
    },
    /// Another log within reach has entries that the one here lacks.
    #[error("the log on {node} has up to {entries} entries that the one here lacks: they would be lost")]
    Shorter {
        /// The name of its node.
        node: String,
        /// How many entries.
        entries: u64,
    },
    /// The replica does not open.
    #[error("the replica here does not open: {0}")]
    NotOpened(String),
    /// The outcome is not known: the change may have been made.
    #[error("{0}; look at its members before trying again")]
    Failed(Failure),
}

/// What [`super::Strong`] wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send a frame, after dialing the node if there is no link to it.
    Send {
        /// The receiver.
        to: Box<NodeRecord>,
        /// Encoded messages.
        frame: Payload,
    },
    /// Sync the engine, then call [`super::Strong::handle_synced`] with this number. One is under way at a time.
    Sync(u64),
    /// Hand this to the client.
    Client(StrongOutput),
    /// Write this to the log.
    Notice {
        /// The keyspace that it concerns.
        keyspace: String,
        /// What happened.
        notice: Notice,
    },
    /// Consult the rest of the node.
    Call(CoreCall),
}

/// What [`super::Strong`] needs of the rest of the node: its peers, and its eventual store.
#[derive(Debug)]
pub enum CoreCall {
    /// Call [`super::Strong::handle_spares`] with the replicas that are connected: one of them replaces a lost
    /// voter of this group.
    FindSpares {
        /// The group.
        group: GroupId,
    },
    /// Read what [`super::LOCATIONS`] holds of a keyspace, and call [`super::Strong::handle_locations`] with it.
    Lookup {
        /// Its name.
        keyspace: String,
    },
    /// The same, and then call [`super::Strong::handle_looked_up`] with a node's message.
    LookupFirst {
        /// Its name.
        keyspace: String,
        /// The node that sent the message.
        from: NodeKey,
        /// The message.
        message: Box<StrongMessage>,
    },
    /// Write the location of a group to [`super::LOCATIONS`].
    Publish {
        /// The keyspace's name.
        keyspace: String,
        /// The group.
        group: GroupId,
        /// Where it is; `None`: remove the entry.
        location: Option<GroupLocation>,
    },
}
