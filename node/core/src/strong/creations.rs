//! Keyspaces that clients here are creating. All initial members are asked to create their replica; the
//! keyspace exists when all of them have, and is dropped everywhere when one refuses or does not reply.

use std::collections::{BTreeMap, BTreeSet};

use starling_proto::{NodeId, NodeRecord};
use starling_strong::group::{GroupId, VOTERS_MAX};
use starling_strong::members::NodeKey;

use super::context::{Context, Timer};
use super::directory::Directory;
use super::input::StrongOutput;
use super::message::{GroupLocation, StrongMessage};
use super::{KEYSPACE_BYTES_MAX, placement};
use crate::Token;

/// How long initial members have to reply, milliseconds.
const REPLY_MS: u64 = 10_000;
/// Keyspaces that are being created at a time, at most.
const CREATIONS_MAX: usize = 64;

/// Why a keyspace was not created. Nothing is left of it.
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
    /// A node refused, or did not reply.
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

struct Creation {
    token: Token,
    keyspace: String,
    members: Vec<NodeRecord>,
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
        mut known: Vec<NodeRecord>,
    ) -> Result<Vec<NodeRecord>, CreateError> {
        if self.pending.values().any(|creation| creation.keyspace == keyspace) {
            return Err(CreateError::Exists(keyspace.into()));
        }
        if self.pending.len() >= CREATIONS_MAX {
            return Err(CreateError::Busy);
        }
        let are_named = !on.is_empty();
        known.retain(|record| !are_named || on.contains(&record.id));
        let wanted = if are_named { known.len() } else { usize::from(voters) };
        if wanted % 2 == 0 || wanted > VOTERS_MAX {
            return Err(CreateError::Voters);
        }
        let count = known.len();
        placement::choose(known, wanted).ok_or(CreateError::TooFewNodes { wanted, known: count })
    }

    /// Asks the initial members to create their replicas.
    pub fn begin(
        &mut self,
        cx: &mut Context,
        token: Token,
        keyspace: String,
        members: Vec<NodeRecord>,
        manual: bool,
    ) {
        let group = cx.fresh_group(members.len());
        cx.set_timer(Timer::Creation(group), REPLY_MS);
        for member in &members {
            let message =
                StrongMessage::Create { group, keyspace: keyspace.clone(), members: members.clone(), manual };
            cx.send(&member.id.0, message);
        }
        let awaiting = members.iter().map(|record| record.id.0).collect();
        self.pending.insert(group, Creation { token, keyspace, members, awaiting });
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
        let creation = self.pending.get_mut(&group)?;
        if let Some(reason) = refusal {
            self.abort(cx, directory, group, from, reason);
            return None;
        }
        creation.awaiting.remove(&from);
        if !creation.awaiting.is_empty() {
            return None;
        }
        cx.timers.cancel(&Timer::Creation(group));
        let Creation { token, keyspace, members, .. } = self.pending.remove(&group)?;
        let voters = members.len() as u8;
        Some(Created { token, keyspace, location: GroupLocation { group, term: 0, members, voters } })
    }

    /// Ends a creation in which a member did not reply in time.
    pub fn on_timeout(&mut self, cx: &mut Context, directory: &Directory, group: GroupId) {
        let silent = self.pending.get(&group).and_then(|creation| creation.awaiting.first().copied());
        if let Some(silent) = silent {
            self.abort(cx, directory, group, silent, "no answer".into());
        }
    }

    fn abort(
        &mut self,
        cx: &mut Context,
        directory: &Directory,
        group: GroupId,
        node: NodeKey,
        reason: String,
    ) {
        let Some(creation) = self.pending.remove(&group) else { return };
        cx.timers.cancel(&Timer::Creation(group));
        for member in &creation.members {
            cx.send(&member.id.0, StrongMessage::Drop { group });
        }
        let result = Err(CreateError::Refused { node: directory.name(&node), reason });
        cx.reply(StrongOutput::Created { token: creation.token, result });
    }
}

/// Whether a keyspace may have this name.
pub fn is_valid_name(keyspace: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    (1..=KEYSPACE_BYTES_MAX).contains(&keyspace.len()) && keyspace.bytes().all(allowed)
}
