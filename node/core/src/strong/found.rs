//! Keyspaces come and go.

use std::collections::BTreeSet;

use rand::Rng;
use starling_kv::Engine;
use starling_proto::{Millis, NodeId, NodeRecord};
use starling_strong::group::GroupId;
use starling_strong::members::NodeKey;

use super::message::{Hint, StrongMessage};
use super::{CoreCall, KEYSPACE_BYTES_MAX, ManageError, Strong, StrongOutput, Timer, VOTERS_MAX, place};
use crate::Token;

/// Founders have so long to answer, milliseconds.
const FOUNDING_MS: u64 = 10_000;
/// Most keyspaces that are being made at a time.
const FOUNDINGS_MAX: usize = 64;

/// Why a keyspace was not made. Nothing is left of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// 1 to 64 characters.
    #[error("a keyspace's name has 1 to {KEYSPACE_BYTES_MAX} characters of a-z 0-9 _ . -")]
    Name,
    /// There is one of this name.
    #[error("there is a strong keyspace {0:?}")]
    Exists(String),
    /// 1, 3, 5 or 7.
    #[error("a keyspace has 1, 3, 5 or {VOTERS_MAX} voters")]
    Voters,
    /// Not so many nodes are known.
    #[error("{wanted} voters are wanted, and {known} nodes are known here")]
    TooFewNodes {
        /// Voters that were asked for.
        wanted: usize,
        /// Nodes to choose from.
        known: usize,
    },
    /// A node did not answer, or refused.
    #[error("{node} does not take part: {reason}")]
    Refused {
        /// Its name.
        node: String,
        /// What it said.
        reason: String,
    },
    /// Too many are being made.
    #[error("too many keyspaces are being made: try again")]
    Busy,
}

/// A keyspace that is being made.
pub struct Founding {
    token: Token,
    keyspace: String,
    founders: Vec<NodeRecord>,
    waiting: BTreeSet<NodeKey>,
}

impl<E: Engine> Strong<E> {
    pub(super) fn handle_create(
        &mut self,
        now_ms: u64,
        token: Token,
        keyspace: &str,
        members: Result<Vec<NodeRecord>, CreateError>,
        manual: bool,
    ) {
        match members {
            Ok(members) => self.found(now_ms, token, keyspace, &members, manual),
            Err(error) => self.reply(StrongOutput::Created { token, result: Err(error) }),
        }
    }

    /// The initial members of a keyspace: the nodes of `on`, or `voters` of those that are known.
    pub(super) fn plan(
        &self,
        keyspace: &str,
        voters: u8,
        on: &[NodeId],
        mut known: Vec<NodeRecord>,
    ) -> Result<Vec<NodeRecord>, CreateError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
        if keyspace.is_empty() || keyspace.len() > KEYSPACE_BYTES_MAX || !keyspace.bytes().all(allowed) {
            return Err(CreateError::Name);
        }
        let is_known = self.hosted(keyspace).is_some() || self.places.contains_key(keyspace);
        if is_known || self.founding.values().any(|founding| founding.keyspace == keyspace) {
            return Err(CreateError::Exists(keyspace.into()));
        }
        if self.founding.len() >= FOUNDINGS_MAX {
            return Err(CreateError::Busy);
        }
        let is_named = !on.is_empty();
        known.retain(|record| !is_named || on.contains(&record.id));
        let wanted = if is_named { known.len() } else { usize::from(voters) };
        if wanted % 2 == 0 || wanted > VOTERS_MAX {
            return Err(CreateError::Voters);
        }
        let count = known.len();
        place::choose(known, wanted).ok_or(CreateError::TooFewNodes { wanted, known: count })
    }

    fn found(&mut self, now_ms: u64, token: Token, keyspace: &str, founders: &[NodeRecord], manual: bool) {
        let mut group = GroupId::default();
        self.rng.fill_bytes(&mut group);
        self.learn_all(founders);
        let waiting = founders.iter().map(|record| record.id.0).collect();
        let founding = Founding { token, keyspace: keyspace.into(), founders: founders.to_vec(), waiting };
        self.founding.insert(group, founding);
        self.timers.set(Timer::Founding(group), Millis(now_ms + FOUNDING_MS));
        for founder in founders.iter().map(|record| record.id.0) {
            if founder == self.me.id.0 {
                let refusal = self.found_here(now_ms, group, keyspace, founders, manual).err();
                self.on_founded(now_ms, founder, group, refusal);
            } else {
                let (keyspace, founders) = (keyspace.into(), founders.to_vec());
                self.send(&founder, StrongMessage::Found { group, keyspace, founders, manual });
            }
        }
    }

    pub(super) fn on_found(
        &mut self,
        now_ms: u64,
        from: NodeKey,
        group: GroupId,
        keyspace: &str,
        founders: &[NodeRecord],
        manual: bool,
    ) {
        // Asked twice: it has been done.
        let refusal = match self.groups.get(&group) {
            Some(hosted) if hosted.keyspace == keyspace => None,
            _ => self.found_here(now_ms, group, keyspace, founders, manual).err(),
        };
        self.send(&from, StrongMessage::Founded { group, refusal });
    }

    pub(super) fn on_founded(&mut self, now_ms: u64, from: NodeKey, group: GroupId, refusal: Option<String>) {
        let Some(founding) = self.founding.get_mut(&group) else { return };
        if let Some(reason) = refusal {
            self.undo_founding(now_ms, group, from, reason);
            return;
        }
        founding.waiting.remove(&from);
        if founding.waiting.is_empty() {
            let Some(founding) = self.founding.remove(&group) else { return };
            self.timers.cancel(&Timer::Founding(group));
            let Founding { token, keyspace, founders, .. } = founding;
            let voters = founders.len() as u8;
            let hint = Hint { group, term: 0, members: founders, voters };
            self.remember(keyspace.clone(), hint.clone());
            self.call(CoreCall::Publish { keyspace, group, hint: Some(hint.clone()) });
            self.reply(StrongOutput::Created { token, result: Ok(hint) });
        }
    }

    pub(super) fn give_up_founding(&mut self, now_ms: u64, group: GroupId) {
        let silent = self.founding.get(&group).and_then(|founding| founding.waiting.first().copied());
        if let Some(silent) = silent {
            self.undo_founding(now_ms, group, silent, "no answer".into());
        }
    }

    fn undo_founding(&mut self, now_ms: u64, group: GroupId, node: NodeKey, reason: String) {
        let Some(founding) = self.founding.remove(&group) else { return };
        self.timers.cancel(&Timer::Founding(group));
        self.tell_to_forget(now_ms, group, founding.founders.iter().map(|record| record.id.0).collect());
        let result = Err(CreateError::Refused { node: self.name(&node), reason });
        self.reply(StrongOutput::Created { token: founding.token, result });
    }

    fn tell_to_forget(&mut self, now_ms: u64, group: GroupId, nodes: Vec<NodeKey>) {
        for node in nodes {
            if node == self.me.id.0 {
                self.drop_here(now_ms, group);
            } else {
                self.send(&node, StrongMessage::Drop { group });
            }
        }
    }

    /// Removes a group from this node because it was dropped, and keeps in mind that it was.
    pub(super) fn drop_here(&mut self, now_ms: u64, group: GroupId) {
        if let Err(error) = self.dropped.add(&self.engine, group) {
            let keyspace = self.groups.get(&group).map(|hosted| hosted.keyspace.clone()).unwrap_or_default();
            self.not_removed(keyspace, &error);
        }
        self.places.retain(|_, hint| hint.group != group);
        self.forget_group(now_ms, group);
    }

    /// Every member that can be reached forgets the keyspace; one that cannot is told by the others when it is
    /// back. Of a keyspace that was made twice a member says which one is meant.
    pub(super) fn handle_drop(&mut self, now_ms: u64, token: Token, keyspace: &str) {
        let here = self.hosted(keyspace);
        let hint = here.and_then(|group| self.hint_of(group)).or_else(|| self.places.get(keyspace).cloned());
        let refusal = match hint {
            None => Some(ManageError::NoSuchKeyspace(keyspace.into())),
            Some(_) if here.is_none() && self.ambiguous.contains(keyspace) => {
                Some(ManageError::NoReplica(keyspace.into()))
            }
            Some(_) => None,
        };
        let (None, Some(hint)) = (&refusal, hint) else {
            let result = refusal.map_or(Ok(()), Err);
            self.reply(StrongOutput::Managed { token, result });
            return;
        };
        self.tell_to_forget(now_ms, hint.group, hint.members.iter().map(|record| record.id.0).collect());
        self.places.remove(keyspace);
        let (keyspace, group) = (keyspace.into(), hint.group);
        self.call(CoreCall::Publish { keyspace, group, hint: None });
        self.reply(StrongOutput::Managed { token, result: Ok(()) });
    }
}
