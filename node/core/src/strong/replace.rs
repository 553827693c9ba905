//! Voters that are gone for good, and how a group stands.

use std::collections::BTreeSet;

use starling_kv::Engine;
use starling_proto::NodeRecord;
use starling_strong::api::{Member, Status};
use starling_strong::group::{Group, GroupId};
use starling_strong::members::NodeKey;

use super::message::{Manage, StrongMessage};
use super::serve::Origin;
use super::{CoreCall, ManageError, Strong, StrongOutput, place};
use crate::Token;

impl<E: Engine> Strong<E> {
    /// Asks for nodes if a voter of a group that this node leads is gone for too long.
    pub(super) fn look_for_lost(&mut self, now_ms: u64, group: GroupId) {
        let (Some(after_ms), Some(hosted)) = (self.replace_ms, self.groups.get(&group)) else { return };
        if !hosted.manual && !hosted.group.lost(now_ms, after_ms).is_empty() {
            self.call(CoreCall::FindSpares { group });
        }
    }

    /// Replaces one lost voter by one of these nodes. The group refuses where most of the new voters
    /// would not be there, and makes one change at a time.
    pub fn handle_spares(&mut self, now_ms: u64, group: GroupId, mut nodes: Vec<NodeRecord>) {
        let (Some(after_ms), Some(hosted)) = (self.replace_ms, self.groups.get(&group)) else { return };
        let Some(lost) = hosted.group.lost(now_ms, after_ms).first().copied() else { return };
        let members = hosted.group.members();
        let taken: BTreeSet<NodeKey> = members.nodes.values().copied().collect();
        let kept = members.voters.iter().filter_map(|voter| members.nodes.get(voter));
        let kept: Vec<NodeKey> = kept.copied().filter(|node| *node != lost).collect();
        nodes.retain(|record| !taken.contains(&record.id.0));
        let Some(fresh) = place::choose(nodes, 1) else { return };
        let kept = kept.iter().filter_map(|node| self.record(node));
        let voters: Vec<NodeRecord> = kept.chain(fresh).collect();
        // Nobody waits for it: the next look sees what came of it.
        let nobody = self.fresh();
        self.manage_group(now_ms, group, Origin::Here(nobody), Manage::Voters(voters));
    }

    /// Goes on alone with a group whose majority is lost.
    pub(super) fn handle_recover(&mut self, now_ms: u64, token: Token, keyspace: &str) {
        let result = match self.hosted(keyspace) {
            Some(group) => self.recover(now_ms, group, keyspace),
            None => Err(ManageError::NoReplica(keyspace.into())),
        };
        self.reply(StrongOutput::Managed { token, result });
    }

    fn recover(&mut self, now_ms: u64, group: GroupId, keyspace: &str) -> Result<(), ManageError> {
        let Some(hosted) = self.groups.remove(&group) else { return Ok(()) };
        let (member, manual) = (hosted.group.member(), hosted.manual);
        drop(hosted);
        self.dirty.remove(&group);
        self.unserve_group(now_ms, &group);
        let (config, seed) = (self.group_config(group, keyspace, member), self.seed());
        match Group::force_alone(self.engine.clone(), config, seed, now_ms) {
            Ok(Some(forced)) => {
                self.host(now_ms, group, keyspace.into(), forced, manual);
                Ok(())
            }
            Ok(None) => Err(ManageError::NoReplica(keyspace.into())),
            Err(error) => Err(ManageError::NotOpened(error.to_string())),
        }
    }

    pub(super) fn on_describe(&mut self, now_ms: u64, from: NodeKey, id: u64, group: GroupId) {
        let message = match self.status_of(now_ms, group) {
            Some(status) => StrongMessage::Described { id, status },
            None => StrongMessage::Elsewhere { id, leader: None, missing: Vec::new() },
        };
        self.send(&from, message);
    }

    /// How a group stands, as the member here sees it.
    pub fn status_of(&mut self, now_ms: u64, group: GroupId) -> Option<Status> {
        let hosted = self.groups.get_mut(&group)?;
        let (revision, bytes) = (hosted.group.machine().revision(), hosted.group.machine().bytes());
        let (member, status, manual) = (hosted.group.member(), hosted.group.status(now_ms), hosted.manual);
        let leader = status.members.iter().find(|it| Some(it.node) == status.leader).map(|it| it.member);
        let members = status.members.iter().map(|it| Member {
            id: it.member,
            node: it.node,
            name: self.name(&it.node),
            learner: !it.is_voter,
            behind: it.matched.map(|matched| status.last_index.saturating_sub(matched)),
            restoring: it.is_restoring,
            silent_ms: it.silent_ms,
            peer_urls: self.record(&it.node).map(|record| record.addresses).unwrap_or_default(),
            client_urls: Vec::new(),
        });
        Some(Status {
            group,
            member,
            leader,
            term: status.term,
            members: members.collect(),
            revision,
            log_index: status.last_index,
            applied_index: status.applied_index,
            commit_index: status.commit_index,
            log_entries: status.last_index.saturating_sub(status.base_index),
            log_bytes: status.log_bytes,
            bytes,
            heard_ms: status.heard_ms,
            manual,
        })
    }
}
