//! Keyspaces that clients here are creating. All initial members are asked to create their replica; the
//! keyspace exists when all of them have, and is dropped everywhere when one refuses or does not reply. In place of one
//! that does not reply, another node is asked, with a group of another id, unless the operator has named the nodes or most of
//! them do not reply.
//!
//! A member that the drop does not reach may have created its replica. It removes it once it sends a message to one that was
//! reached. If a majority was not reached, the group exists; see `precedence` for what becomes of two of one name.

use std::collections::{BTreeMap, BTreeSet};

use starling_proto::{NodeId, NodeRecord};
use starling_strong::group::{GroupId, VOTERS_MAX};
use starling_strong::log::Recoveries;
use starling_strong::members::NodeKey;

use super::KEYSPACE_BYTES_MAX;
use super::context::{Context, Timer};
use super::directory::Directory;
use super::input::StrongOutput;
use super::message::{GroupLocation, StrongMessage};
use super::placement::Known;
use crate::Token;

/// How long initial members have to reply, milliseconds.
const REPLY_MS: u64 = 10_000;
/// How long after the request another node is asked in place of a silent one, milliseconds. A guess: three silent ones.
const CREATE_MS: u64 = 3 * REPLY_MS;
/// Nodes that may be asked in place of silent ones, at most. A guess.
const SPARES_MAX: usize = 8;
/// Keyspaces that are being created at a time, at most.
const CREATIONS_MAX: usize = 64;

/// Why a keyspace was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The name is empty, too long, or has other characters.
    #[error("a keyspace's name has 1 to {KEYSPACE_BYTES_MAX} characters of a-z 0-9 _ . -")]
    Name,
    /// A keyspace has this name.
    #[error("there is a strong keyspace {0:?}")]
    Exists(String),
    /// The number of voters is not 1, 3, 5 or 7.
    #[error("a keyspace has 1, 3, 5 or {VOTERS_MAX} voters")]
    Voters,
    /// Too few nodes are known.
    #[error("{wanted} voters are wanted, and {known} nodes are known here")]
    TooFewNodes {
        /// Voters that were asked for.
        wanted: usize,
        /// Nodes to choose from.
        known: usize,
    },
    /// A node refused, or did not reply. Members that the drop did not reach may have created it nevertheless.
    #[error("{node} does not take part: {reason}")]
    Refused {
        /// Its name.
        node: String,
        /// Its reason.
        reason: String,
    },
    /// Too many keyspaces are being created.
    #[error("too many keyspaces are being created: try again")]
    Busy,
}

/// The initial members of a keyspace, and the nodes that may take the place of one that does not reply.
pub struct Plan {
    pub members: Vec<NodeRecord>,
    pub spares: Vec<NodeRecord>,
}

struct Creation {
    token: Token,
    keyspace: String,
    members: Vec<NodeRecord>,
    /// Nodes that may take the place of one that does not reply, in the order of preference.
    spares: Vec<NodeRecord>,
    manual: bool,
    /// Until when they may, milliseconds.
    deadline_ms: u64,
    /// Members whose reply is awaited.
    awaiting: BTreeSet<NodeKey>,
}

/// A keyspace that exists now.
pub struct Created {
    pub token: Token,
    pub keyspace: String,
    pub location: GroupLocation,
}

/// Keyspaces that are being created, by their groups.
#[derive(Default)]
pub struct Creations {
    pending: BTreeMap<GroupId, Creation>,
}

impl Creations {
    /// Chooses the initial members of a keyspace: the nodes of `on`, or `voters` of the known ones.
    pub fn plan(
        &self,
        keyspace: &str,
        voters: u8,
        on: &[NodeId],
        known: &Known,
    ) -> Result<Plan, CreateError> {
        if self.pending.values().any(|creation| creation.keyspace == keyspace) {
            return Err(CreateError::Exists(keyspace.into()));
        }
        if self.pending.len() >= CREATIONS_MAX {
            return Err(CreateError::Busy);
        }
        let named: Vec<NodeRecord> = known.all().filter(|record| on.contains(&record.id)).cloned().collect();
        let wanted = if on.is_empty() { usize::from(voters) } else { named.len() };
        if wanted % 2 == 0 || wanted > VOTERS_MAX {
            return Err(CreateError::Voters);
        }
        if !on.is_empty() {
            return Ok(Plan { members: named, spares: Vec::new() });
        }
        let mut members = known.choose(wanted + SPARES_MAX);
        let spares = members.split_off(wanted.min(members.len()));
        if members.len() < wanted {
            return Err(CreateError::TooFewNodes { wanted, known: members.len() });
        }
        Ok(Plan { members, spares })
    }

    /// Whether a group is being created by a client here.
    pub fn is_pending(&self, group: &GroupId) -> bool {
        self.pending.contains_key(group)
    }

    /// Asks the initial members to create their replicas.
    pub fn begin(&mut self, cx: &mut Context, token: Token, keyspace: String, plan: Plan, manual: bool) {
        let Plan { members, spares } = plan;
        let (deadline_ms, awaiting) = (cx.now_ms + CREATE_MS, BTreeSet::new());
        self.ask(cx, Creation { token, keyspace, members, spares, manual, deadline_ms, awaiting });
    }

    fn ask(&mut self, cx: &mut Context, mut creation: Creation) {
        let group = cx.fresh_group(creation.members.len());
        cx.set_timer(Timer::Creation(group), REPLY_MS);
        let Creation { keyspace, members, manual, .. } = &creation;
        for member in members {
            let (keyspace, members, manual) = (keyspace.clone(), members.clone(), *manual);
            cx.send(&member.id.0, StrongMessage::Create { group, keyspace, members, manual });
        }
        creation.awaiting = creation.members.iter().map(|record| record.id.0).collect();
        self.pending.insert(group, creation);
    }

    /// Handles a member's reply; the keyspace, if that was the last one.
    pub fn on_reply(
        &mut self,
        cx: &mut Context,
        directory: &Directory,
        from: NodeKey,
        group: GroupId,
        refusal: Option<String>,
    ) -> Option<Created> {
        if let Some(reason) = refusal {
            let creation = self.abort(cx, group)?;
            refuse(cx, directory, &creation, from, reason);
            return None;
        }
        let creation = self.pending.get_mut(&group)?;
        creation.awaiting.remove(&from);
        if !creation.awaiting.is_empty() {
            return None;
        }
        cx.timers.cancel(&Timer::Creation(group));
        let Creation { token, keyspace, members, .. } = self.pending.remove(&group)?;
        let voters = members.len() as u8;
        let recoveries = Recoveries::default();
        let location = GroupLocation { group, term: 0, members, voters, recoveries };
        Some(Created { token, keyspace, location })
    }

    /// Handles that a member did not reply in time.
    pub fn on_timeout(&mut self, cx: &mut Context, directory: &Directory, group: GroupId) {
        let silent = self.pending.get(&group).and_then(|creation| creation.awaiting.first().copied());
        if let Some(silent) = silent {
            self.replace(cx, directory, group, silent, true);
        }
    }

    /// Handles the loss of a node. `was_connected`: what was sent to it may have arrived.
    pub fn on_peer_down(
        &mut self,
        cx: &mut Context,
        directory: &Directory,
        peer: NodeKey,
        was_connected: bool,
    ) {
        let awaiting = self.pending.iter().filter(|(_, creation)| creation.awaiting.contains(&peer));
        for group in awaiting.map(|(group, _)| *group).collect::<Vec<_>>() {
            self.replace(cx, directory, group, peer, was_connected);
        }
    }

    /// Begins again with another node in place of one that does not reply, if there is one.
    fn replace(
        &mut self,
        cx: &mut Context,
        directory: &Directory,
        group: GroupId,
        silent: NodeKey,
        may_have_created: bool,
    ) {
        let Some(mut creation) = self.abort(cx, group) else { return };
        // If a majority has created the group, and the drop does not reach it, another group would be its rival.
        let may_exist = may_have_created && creation.awaiting.len() > creation.members.len() / 2;
        if may_exist || creation.spares.is_empty() || cx.now_ms >= creation.deadline_ms {
            refuse(cx, directory, &creation, silent, "no answer".into());
            return;
        }
        creation.members.retain(|record| record.id.0 != silent);
        creation.members.push(creation.spares.remove(0));
        self.ask(cx, creation);
    }

    /// Drops what the members have created.
    fn abort(&mut self, cx: &mut Context, group: GroupId) -> Option<Creation> {
        let creation = self.pending.remove(&group)?;
        cx.timers.cancel(&Timer::Creation(group));
        for member in &creation.members {
            cx.send(&member.id.0, StrongMessage::Drop { group });
        }
        Some(creation)
    }
}

fn refuse(cx: &mut Context, directory: &Directory, creation: &Creation, node: NodeKey, reason: String) {
    let result = Err(CreateError::Refused { node: directory.name(&node), reason });
    cx.reply(StrongOutput::Created { token: creation.token, result });
}

/// Whether a keyspace may have this name.
pub fn is_valid_name(keyspace: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    (1..=KEYSPACE_BYTES_MAX).contains(&keyspace.len()) && keyspace.bytes().all(allowed)
}
