//! The steps in the life of keyspaces that need several parts: creation, publication, recovery and removal.

use starling_kv::Engine;
use starling_proto::{NodeId, NodeRecord};
use starling_strong::group::{Asked, GroupId, Notice};
use starling_strong::members::NodeKey;
use starling_strong::registry::Registered;

use super::context::Timer;
use super::creations::{self, CreateError, Created, Plan};
use super::input::{CoreCall, StrongOutput};
use super::message::StrongMessage;
use super::placement::Known;
use super::replicas::Joining;
use super::{PUBLISH_MS, Strong, precedence};
use crate::Token;

/// How old a group is that the creation of a keyspace may have given up, milliseconds, at most. A guess: the longest creation,
/// and the difference of clocks.
const RECENT_MS: u64 = 60_000;
/// Characters of a peer's reason that are shown, at most. A guess.
const REASON_CHARS_MAX: usize = 400;

impl<E: Engine> Strong<E> {
    pub(super) fn plan(
        &self,
        keyspace: &str,
        voters: u8,
        on: &[NodeId],
        known: &Known,
    ) -> Result<Plan, CreateError> {
        if !creations::is_valid_name(keyspace) {
            return Err(CreateError::Name);
        }
        let is_known = self.replicas.of(keyspace).is_some() || self.directory.location(keyspace).is_some();
        if is_known || self.directory.is_ambiguous(keyspace) {
            return Err(CreateError::Exists(keyspace.into()));
        }
        self.creations.plan(keyspace, voters, on, known)
    }

    pub(super) fn create(&mut self, token: Token, keyspace: String, plan: Plan, manual: bool) {
        for records in [&plan.members, &plan.spares] {
            self.directory.learn_all(records, || self.replicas.nodes());
        }
        self.creations.begin(&mut self.cx, token, keyspace, plan, manual);
    }

    /// Another node, or this one, creates a keyspace with a replica here.
    pub(super) fn on_create(
        &mut self,
        from: NodeKey,
        group: GroupId,
        keyspace: &str,
        members: &[NodeRecord],
        manual: bool,
    ) {
        let keys: Vec<NodeKey> = members.iter().map(|record| record.id.0).collect();
        let is_new = self.replicas.get(&group).is_none();
        // Clients of this node would use the new one.
        let refusal = if self.is_taken(keyspace, group, &keys) {
            Some(format!("there is a strong keyspace {keyspace:?}"))
        } else {
            self.replicas.create(&mut self.cx, group, keyspace, &keys, manual).err()
        };
        // Of a group that exists, this node knows the location, or it is no new one.
        let is_known = self.directory.knows(&group) || !self.is_recent(&group);
        if is_new && (refusal.is_none() || !is_known) {
            self.replicas.note_creator(self.cx.now_ms, group, from);
        }
        if refusal.is_none() {
            if is_new {
                self.cx.notice(keyspace.into(), Notice::Asked { by: from, what: Asked::Create });
            }
            self.directory.learn_all(members, || self.replicas.nodes());
        }
        self.cx.send(&from, StrongMessage::CreateReply { group, refusal });
    }

    /// Whether another group is published under a name, as far as this node knows, and not one that the creation of the
    /// keyspace has just made and given up because a member was silent; or this group, with other members.
    fn is_taken(&self, keyspace: &str, group: GroupId, members: &[NodeKey]) -> bool {
        let Some(located) = self.directory.location(keyspace) else { return false };
        if located.group != group {
            return !self.is_recent(&located.group);
        }
        let are_same = |record: &NodeRecord| members.contains(&record.id.0);
        located.members.len() != members.len() || !located.members.iter().all(are_same)
    }

    fn is_recent(&self, group: &GroupId) -> bool {
        precedence::is_recent(group, self.cx.wall_ms, RECENT_MS)
    }

    pub(super) fn on_created(&mut self, Created { token, keyspace, location }: Created) {
        self.directory.remember(&keyspace, location.clone(), || self.replicas.nodes());
        let (group, published) = (location.group, Some(location.clone()));
        self.cx.call(CoreCall::Publish { keyspace, group, location: published });
        self.cx.reply(StrongOutput::Created { token, result: Ok(location) });
    }

    /// A group has added a member on this node. The leader repeats its invitation, which counts as soon as the published
    /// location of the group names the node that sends it: any other node could invite this one to something else under
    /// the keyspace's name.
    pub(super) fn on_invite(&mut self, from: NodeKey, invited: Registered, members: &[NodeRecord]) {
        let group = invited.group;
        let located = self.directory.location(&invited.keyspace).filter(|location| location.group == group);
        if !located.is_some_and(|location| location.members.iter().any(|record| record.id.0 == from)) {
            return;
        }
        let keys: Vec<NodeKey> = members.iter().map(|record| record.id.0).chain([from]).collect();
        match self.replicas.join(&mut self.cx, invited, &keys, &self.directory) {
            Joining::Joined => self.directory.learn_all(members, || self.replicas.nodes()),
            Joining::Later => {}
            // The leader may have no link to this node yet.
            Joining::Declined(reason) => {
                self.directory.learn_all(members, || self.replicas.nodes());
                self.cx.send(&from, StrongMessage::CreateReply { group, refusal: Some(reason) });
            }
        }
    }

    /// A node replies to the creation of a group, or declines an invitation to one.
    pub(super) fn on_create_reply(&mut self, from: NodeKey, group: GroupId, refusal: Option<String>) {
        if !self.creations.is_pending(&group)
            && let Some(reason) = refusal
        {
            let reason = reason.chars().take(REASON_CHARS_MAX).collect::<String>();
            let reason = format!("{} declines: {reason}", self.directory.name(&from));
            self.replicas.on_declined(self.cx.now_ms, group, from, reason);
            return;
        }
        if let Some(created) = self.creations.on_reply(&mut self.cx, &self.directory, from, group, refusal) {
            self.on_created(created);
        }
    }

    pub(super) fn remove_replica(&mut self, group: GroupId) {
        if self.replicas.remove(&mut self.cx, group) {
            self.syncs.forget(&group);
            self.served().on_replica_gone(&group);
        }
    }

    /// Keeps a replica aside whose member was removed from its group.
    pub(super) fn set_aside(&mut self, group: GroupId) {
        if let Some(keyspace) = self.replicas.set_aside(&mut self.cx, group) {
            // Its location shows whether the group may lack something.
            self.cx.call(CoreCall::Lookup { keyspace });
            self.syncs.forget(&group);
            self.served().on_replica_gone(&group);
        }
    }

    pub(super) fn publish_changes(&mut self) {
        let contested = self.directory.ambiguous().map(str::to_owned).collect::<Vec<_>>();
        for keyspace in self.replicas.lonely(self.cx.now_ms).into_iter().chain(contested) {
            self.cx.call(CoreCall::Lookup { keyspace });
        }
        self.replicas.remove_surplus(&mut self.cx);
        self.repeat_drops();
        for group in self.replicas.led() {
            self.publish(group);
            if let Some(after_ms) = self.config.replace_ms
                && self.replicas.has_lost_voter(self.cx.now_ms, group, after_ms)
            {
                self.cx.call(CoreCall::FindSpares { group });
            }
        }
        self.cx.set_timer(Timer::Publish, PUBLISH_MS);
    }

    pub(super) fn publish(&mut self, group: GroupId) {
        if let Some((keyspace, location)) = self.replicas.publish(group, &self.directory) {
            self.directory.remember(&keyspace, location.clone(), || self.replicas.nodes());
            self.cx.call(CoreCall::Publish { keyspace, group, location: Some(location) });
        }
    }
}
