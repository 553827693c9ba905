//! The end of keyspaces.
//!
//! ```text
//! node that is asked        leader                         other members
//!   DropGroup         ──►
//!                           Drop in the log          ──►
//!                     ◄──   ManageReply
//!                           replica kept aside             replica kept aside
//!
//! nobody leads: the node remembers that the group is to be dropped, and asks again
//! member that was away ──► any message of the group ──► nodes of members that are done
//!                      ◄── Drop, of most voters that it knows: replica kept aside
//! ```
//! `Drop` alone removes a replica only where the group exists since a moment, and its sender created it: the creation has
//! failed. A group that has not adopted data version 3 may have members of release 0.1.0, which cannot read the entry: its
//! members remove their replicas when any of them sends `Drop`, as in that release.

use starling_kv::Engine;
use starling_strong::api::Failure;
use starling_strong::group::{Asked, ChangeError, GroupId, Notice};
use starling_strong::machine::DATED;
use starling_strong::members::NodeKey;

use super::Strong;
use super::input::{CoreCall, ManageError, StrongOutput};
use super::message::{GroupLocation, StrongMessage};
use super::requests::EndedDrop;
use crate::Token;

impl<E: Engine> Strong<E> {
    /// An operator drops a keyspace through this node. Of a keyspace that was created twice, the group of which this node is
    /// a member is dropped.
    pub(super) fn drop_keyspace(&mut self, token: Token, keyspace: String) {
        let local = self.replicas.of(&keyspace);
        let located = match local {
            None if self.directory.is_ambiguous(&keyspace) => Err(ManageError::NoReplica(keyspace.clone())),
            None => Ok(self.directory.location(&keyspace).cloned()),
            Some(group) => Ok(self.replicas.location(group, &self.directory)),
        };
        let location = located
            .and_then(|location| location.ok_or_else(|| ManageError::NoSuchKeyspace(keyspace.clone())));
        match location {
            Err(error) => self.cx.reply(StrongOutput::Managed { token, result: Err(error) }),
            Ok(location) if self.replicas.version() < DATED => {
                self.drop_unread(token, &keyspace, &location);
            }
            Ok(location) => self.requests().drop(token, keyspace, location.group),
        }
    }

    /// The drop of a group whose members may not read its entry.
    fn drop_unread(&mut self, token: Token, keyspace: &str, location: &GroupLocation) {
        self.notify_dropped(location);
        self.note_dropped(keyspace, location.group);
        self.drops.add(self.cx.now_ms, location.group, location.members.iter().map(|record| record.id.0));
        self.repeat_drops();
        self.cx.reply(StrongOutput::Managed { token, result: Ok(()) });
    }

    pub(super) fn notify_dropped(&mut self, location: &GroupLocation) {
        for member in &location.members {
            self.cx.send(&member.id.0, StrongMessage::Drop { group: location.group });
        }
    }

    fn note_dropped(&mut self, keyspace: &str, group: GroupId) {
        self.replicas.note_dropped(&mut self.cx, group);
        self.directory.forget(keyspace);
        self.replicas.unpublish(&group);
        self.cx.call(CoreCall::Publish { keyspace: keyspace.into(), group, location: None });
    }

    /// Handles the outcome of a drop. Without a leader it is done when there is one again: the keyspace must not come back
    /// with voters that are all away.
    pub(super) fn on_drop_ended(&mut self, ended: EndedDrop) {
        let EndedDrop { token, keyspace, group, result } = ended;
        let is_done = result.is_ok();
        let is_over = matches!(result, Ok(()) | Err(ManageError::Failed(_) | ManageError::NoSuchKeyspace(_)));
        // A node that has a replica knows its members better than gossip.
        let own = self.replicas.get(&group).map(|it| it.group.members().nodes.values().copied().collect());
        let located = self.directory.location(&keyspace).filter(|location| location.group == group);
        let located = located.map(|location| location.members.iter().map(|record| record.id.0).collect());
        let nodes: Vec<NodeKey> = own.or(located).unwrap_or_default();
        if is_over && !matches!(result, Err(ManageError::Failed(Failure::Overloaded))) {
            self.note_dropped(&keyspace, group);
            if !is_done {
                self.drops.add(self.cx.now_ms, group, nodes);
                self.repeat_drops();
            }
            self.cx.reply(StrongOutput::Managed { token, result: Ok(()) });
        } else {
            self.cx.reply(StrongOutput::Managed { token, result });
        }
    }

    /// Asks the members of groups that are to be dropped.
    pub(super) fn repeat_drops(&mut self) {
        for (group, node) in self.drops.due(self.cx.now_ms) {
            let id = self.cx.fresh_id();
            self.cx.send(&node, StrongMessage::DropGroup { id, group });
        }
    }

    /// A node asks for the end of a group.
    pub(super) fn on_drop_group(&mut self, from: NodeKey, id: u64, group: GroupId) {
        let Some(replica) = self.replicas.get(&group) else {
            let is_known = self.replicas.was_dropped(&group);
            if is_known {
                self.cx.send(&from, StrongMessage::Drop { group });
            }
            let result = if is_known { Ok(()) } else { Err(ChangeError::NotLeader) };
            self.cx.send(&from, StrongMessage::ManageReply { id, result });
            return;
        };
        let (keyspace, reads_entry) = (replica.keyspace.clone(), replica.group.version() >= DATED);
        if replica.group.is_leader() || !reads_entry {
            self.cx.notice(keyspace, Notice::Asked { by: from, what: Asked::Drop });
        }
        if reads_entry {
            self.serving().on_drop(from, id, group);
            return;
        }
        let location = self.replicas.location(group, &self.directory);
        if let Some(location) = location {
            self.notify_dropped(&location);
        }
        self.end_group(group);
        self.cx.send(&from, StrongMessage::ManageReply { id, result: Ok(()) });
    }

    /// A node says that a group was dropped, or that its creation has failed.
    pub(super) fn on_drop(&mut self, from: NodeKey, group: GroupId) {
        self.drops.confirm(&group, &from);
        if self.replicas.get(&group).is_none() {
            self.replicas.end_refused(&mut self.cx, group, from);
        } else if self.replicas.is_abandoned(self.cx.now_ms, group, from) {
            self.withdraw_location(group);
            self.replicas.note_dropped(&mut self.cx, group);
            self.remove_replica(group);
        } else if self.replicas.dropped_by(group, from) {
            self.end_group(group);
        }
    }

    /// Removes the replica of a group that was dropped: it is kept aside.
    pub(super) fn end_group(&mut self, group: GroupId) {
        let Some(replica) = self.replicas.get(&group) else { return };
        self.cx.notice(replica.keyspace.clone(), Notice::Dropped);
        self.withdraw_location(group);
        self.replicas.note_dropped(&mut self.cx, group);
        self.set_aside(group);
    }

    /// What this node published of a group is withdrawn here: the node that drops it may not have received that yet, and it
    /// would come back.
    fn withdraw_location(&mut self, group: GroupId) {
        if let Some(keyspace) = self.replicas.unpublish(&group) {
            self.cx.call(CoreCall::Publish { keyspace, group, location: None });
        }
        self.directory.forget_group(&group);
    }
}
