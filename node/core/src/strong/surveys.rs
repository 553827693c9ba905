//! The replicas of a keyspace on all nodes that can be reached, with the ends of their logs: what an operator has to
//! know before one of them continues alone, and what [`super::Strong`] checks before it lets it.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use starling_strong::group::GroupId;
use starling_strong::log::LogEnd;
use starling_strong::members::{MemberId, NodeKey};

use super::context::{Context, Timer};
use super::message::StrongMessage;
use crate::Token;

/// How long nodes have to reply, milliseconds. A guess: longer than a dial and a step of a busy node.
const REPLY_MS: u64 = 3_000;
/// Surveys under way, at most. A guess: operators make them.
const SURVEYS_MAX: usize = 64;
/// Nodes that are asked, at most: the members first.
pub const NODES_MAX: usize = 128;

/// A node's replica of a group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaState {
    /// The number of its member.
    pub member: MemberId,
    /// The end of its log; `None` if that cannot be read.
    pub end: Option<LogEnd>,
    /// Milliseconds since the last message from the leader, or on the leader from a majority; `None`: not since the
    /// process started.
    pub heard_ms: Option<u64>,
    /// Whether it has lately heard from a leader or a majority, or has not listened for long enough to deny it.
    pub may_have_quorum: bool,
    /// Why it does not work; `None` if it does.
    pub closed: Option<String>,
    /// Why it needs an operator's attention although it works; `None` if it does not.
    pub impaired: Option<String>,
}

/// Why a survey is made.
pub enum Purpose {
    /// A client wants to know.
    Show,
    /// The replica on this node is to become the only member, unless it lacks more entries than this.
    Recover { accept_loss: u64 },
}

/// The replicas of a keyspace.
pub struct Survey {
    pub token: Token,
    pub keyspace: String,
    pub group: GroupId,
    pub purpose: Purpose,
    /// The group's members, as far as they are known.
    pub members: BTreeSet<NodeKey>,
    /// Nodes that have a replica.
    pub found: BTreeMap<NodeKey, ReplicaState>,
    /// Nodes whose reply is awaited; at the end those that did not reply.
    pub awaiting: BTreeSet<NodeKey>,
}

impl Survey {
    pub fn new(token: Token, keyspace: String, group: GroupId, purpose: Purpose) -> Self {
        let (members, awaiting) = (BTreeSet::new(), BTreeSet::new());
        Self { token, keyspace, group, purpose, members, found: BTreeMap::new(), awaiting }
    }
}

/// The surveys under way, by the id in their messages.
#[derive(Default)]
pub struct Surveys(BTreeMap<u64, Survey>);

impl Surveys {
    /// Whether no other survey may begin now.
    pub fn is_full(&self) -> bool {
        self.0.len() >= SURVEYS_MAX
    }

    /// Asks these nodes.
    pub fn begin(&mut self, cx: &mut Context, survey: Survey, nodes: BTreeSet<NodeKey>) {
        let id = cx.fresh_id();
        cx.set_timer(Timer::Survey(id), REPLY_MS);
        for node in &nodes {
            cx.send(node, StrongMessage::AskReplica { id, group: survey.group });
        }
        self.0.insert(id, Survey { awaiting: nodes, ..survey });
    }

    /// Handles a node's reply. Returns the survey if it was the last one.
    pub fn on_reply(
        &mut self,
        cx: &mut Context,
        from: NodeKey,
        id: u64,
        found: Option<ReplicaState>,
    ) -> Option<Survey> {
        let survey = self.0.get_mut(&id)?;
        if survey.awaiting.remove(&from)
            && let Some(state) = found
        {
            survey.found.insert(from, state);
        }
        if survey.awaiting.is_empty() { self.end(cx, id) } else { None }
    }

    /// Ends a survey.
    pub fn end(&mut self, cx: &mut Context, id: u64) -> Option<Survey> {
        cx.timers.cancel(&Timer::Survey(id));
        self.0.remove(&id)
    }
}
