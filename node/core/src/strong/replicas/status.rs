//! A replica's information about its group: its location, its status, and lost voters.

use std::collections::BTreeSet;

use starling_kv::Engine;
use starling_proto::trust::Trust;
use starling_proto::{NodeId, NodeRecord};
use starling_strong::api::{Failure, Leaderless, Member, REPORTED_MS, SilentVoter, Status};
use starling_strong::group::{Group, GroupId, Rollback};
use starling_strong::log::{Log, Recoveries};
use starling_strong::machine::{self, DATED};
use starling_strong::members::NodeKey;

use super::super::directory::Directory;
use super::super::input::ManageError;
use super::super::message::GroupLocation;
use super::super::placement;
use super::super::surveys::ReplicaState;
use super::{Replica, Replicas, SILENT_MS};
use crate::client_urls;

/// How long no node is chosen again that has declined to be a member, milliseconds. A guess: an operator has to act.
const DECLINED_MS: u64 = 600_000;

impl<E: Engine> Replicas<E> {
    /// The voters of the groups that this node leads that have sent nothing for [`REPORTED_MS`]. A node that has withdrawn
    /// cannot know.
    pub fn silent_voters(&self, now_ms: u64, directory: &Directory, trust: &Trust) -> Vec<SilentVoter> {
        if self.has_withdrawn {
            return Vec::new();
        }
        let of = |replica: &Replica<E>| {
            let keyspace = replica.keyspace.clone();
            let voter = |(node, for_ms)| SilentVoter {
                keyspace: keyspace.clone(),
                name: directory.name(&node),
                for_ms,
                revoked: trust.is_revoked(&NodeId(node)),
            };
            replica.group.silent(now_ms, REPORTED_MS).map(voter).collect::<Vec<_>>()
        };
        self.open.values().flat_map(of).collect()
    }

    /// The groups that have had no leader for [`REPORTED_MS`]. Replicas that do not work are not among them.
    pub fn leaderless(&self, now_ms: u64, directory: &Directory, trust: &Trust) -> Vec<Leaderless> {
        if self.has_withdrawn {
            return Vec::new();
        }
        let found = |replica: &Replica<E>| {
            let for_ms = replica.group.leaderless_ms(now_ms).filter(|ms| *ms >= REPORTED_MS)?;
            let (voters, found) = replica.group.silent_voters(now_ms);
            let mut silent: Vec<String> = found.iter().map(|node| directory.name(node)).collect();
            silent.sort();
            let revoked = found.iter().filter(|node| trust.is_revoked(&NodeId(**node)));
            let revoked = revoked.map(|node| directory.name(node)).collect();
            let (keyspace, voters) = (replica.keyspace.clone(), voters as u64);
            Some(Leaderless { keyspace, for_ms, voters, silent, revoked })
        };
        self.open.values().filter_map(found).collect()
    }

    /// The records of a group's members, the leader's first.
    pub fn member_records(&self, group: GroupId, directory: &Directory) -> Vec<NodeRecord> {
        let Some(replica) = self.get(&group) else { return Vec::new() };
        let leader = replica.group.leader();
        let mut nodes: Vec<NodeKey> = replica.group.members().nodes.values().copied().collect();
        nodes.sort_by_key(|node| Some(*node) != leader);
        nodes.iter().filter_map(|node| directory.record(node).cloned()).collect()
    }

    /// The location of a group, as far as its replica on this node knows.
    pub fn location(&self, group: GroupId, directory: &Directory) -> Option<GroupLocation> {
        let replica = self.get(&group)?;
        let (term, voters) = (replica.group.term(), replica.group.members().voters.len() as u8);
        let members = self.member_records(group, directory);
        let recoveries =
            if self.version < DATED { Recoveries::default() } else { self.recoveries(&group, directory) };
        Some(GroupLocation { group, term, members, voters, recoveries })
    }

    /// The unsafe recoveries of a group, as far as its replica here or a published location knows them. The leader may not
    /// be the member that was recovered.
    pub fn recoveries(&self, group: &GroupId, directory: &Directory) -> Recoveries {
        let none = Recoveries::default();
        let own = self.get(group).map_or(&none, |replica| replica.group.recoveries());
        own.later(directory.recoveries(group).unwrap_or(&none)).clone()
    }

    /// The state of a replica, whether it works or not.
    pub fn state(&self, now_ms: u64, group: GroupId) -> Option<ReplicaState> {
        if let Some(Replica { group, .. }) = self.get(&group) {
            return Some(ReplicaState {
                member: group.member(),
                end: Some(group.log_end()),
                heard_ms: group.status(now_ms).heard_ms,
                may_have_quorum: group.may_have_quorum(now_ms, SILENT_MS),
                closed: group.stopped().map(ToString::to_string),
                impaired: self.impairment(group),
            });
        }
        let unopened = self.unopened.get(&group).map(|it| (it.member, it.reason.clone()));
        let aside = || self.asides.get(&group).map(|it| (it.member, "removed, and kept aside".to_owned()));
        let (member, closed) = unopened.or_else(aside)?;
        let (applied, _) = machine::stored(&self.engine, &group).unwrap_or_default();
        let end = Log::read_end(&self.engine, &group, applied).ok().flatten().map(|(_, end)| end);
        Some(ReplicaState {
            member,
            end,
            heard_ms: None,
            may_have_quorum: false,
            closed: Some(closed),
            impaired: None,
        })
    }

    /// The keyspaces of the replicas on this node that work and need an operator's attention, each with the reason.
    pub fn impaired(&self) -> impl Iterator<Item = (&str, String)> {
        self.iter()
            .filter_map(|(_, replica)| Some((replica.keyspace.as_str(), self.impairment(&replica.group)?)))
    }

    /// Why a replica that works needs an operator's attention; `None`: it does not.
    fn impairment(&self, group: &Group<E>) -> Option<String> {
        if self.has_withdrawn {
            let what = "takes no part in elections and writes: it withdrew because a second process had its node's identity, \
                        and had started later. Restart its node once that process has stopped";
            return Some(what.into());
        }
        let Rollback { acknowledged, found, is_behind } = group.rollback()?;
        let now = if is_behind {
            "until it has them again it votes only for members that have them"
        } else {
            "it has them again"
        };
        Some(format!(
            "started with entry {found} of its log and had acknowledged entry {acknowledged}: an older copy of the data \
             was restored, or the disk loses writes; {now}"
        ))
    }

    /// Whether a voter of a group was silent for `after_ms`, and is to be replaced.
    pub fn has_lost_voter(&self, now_ms: u64, group: GroupId, after_ms: u64) -> bool {
        self.get(&group)
            .is_some_and(|replica| !replica.manual && !replica.group.lost(now_ms, after_ms).is_empty())
    }

    /// The voters of a group with one lost voter replaced by one of `spares`.
    pub fn replacement(
        &self,
        now_ms: u64,
        group: GroupId,
        after_ms: u64,
        mut spares: Vec<NodeRecord>,
        directory: &Directory,
    ) -> Option<Vec<NodeRecord>> {
        let replica = self.get(&group).filter(|replica| !replica.group.is_changing())?;
        let lost = replica.group.lost(now_ms, after_ms).first().copied()?;
        let members = replica.group.members();
        let voters: BTreeSet<NodeKey> =
            members.voters.iter().filter_map(|voter| members.nodes.get(voter)).copied().collect();
        let declines = |node: &NodeKey| {
            let declined = replica.declined.get(node);
            declined.is_some_and(|at| now_ms.saturating_sub(*at) < DECLINED_MS)
        };
        // A learner may be left of a change that failed, and be there again.
        spares.retain(|record| !voters.contains(&record.id.0) && !declines(&record.id.0));
        // One without a record would lose its vote.
        let kept = voters.iter().filter(|node| **node != lost);
        let kept: Option<Vec<_>> = kept.map(|node| directory.record(node).cloned()).collect();
        let kept = kept?;
        let fresh = placement::choose(spares, 1, &kept)?;
        Some(kept.into_iter().chain(fresh).collect())
    }

    /// One of `spares`, and the voters of a group with that node in the place of this one.
    pub fn successors(
        &self,
        group: GroupId,
        mut spares: Vec<NodeRecord>,
        directory: &Directory,
    ) -> Result<(NodeKey, Vec<NodeRecord>), ManageError> {
        let replica = self.get(&group).ok_or(ManageError::NoSpare)?;
        if replica.manual {
            return Err(ManageError::Manual);
        }
        let members = replica.group.members();
        let voters = members.voters.iter().filter_map(|voter| members.nodes.get(voter));
        let kept: BTreeSet<NodeKey> = voters.filter(|node| **node != self.me).copied().collect();
        spares.retain(|record| record.id.0 != self.me && !kept.contains(&record.id.0));
        let record = |node: &NodeKey| {
            let (keyspace, missing) = (replica.keyspace.clone(), vec![directory.name(node)]);
            directory
                .record(node)
                .cloned()
                .ok_or(ManageError::Failed(Failure::NoMajority { keyspace, missing }))
        };
        let voters: Result<Vec<_>, _> = kept.iter().map(record).collect();
        let fresh = placement::choose(spares, 1, voters.as_deref().unwrap_or_default());
        let fresh = fresh.and_then(|mut chosen| chosen.pop()).ok_or(ManageError::NoSpare)?;
        let mut voters = voters?;
        let heir = fresh.id.0;
        voters.push(fresh);
        Ok((heir, voters))
    }

    /// The status of a group, as its replica here sees it.
    pub fn status(&mut self, now_ms: u64, group: GroupId, directory: &Directory) -> Option<Status> {
        let replica = self.get_mut(&group)?;
        let (revision, bytes) = (replica.group.machine().revision(), replica.group.machine().bytes());
        let (member, status, manual) = (replica.group.member(), replica.group.status(now_ms), replica.manual);
        let keyspace = replica.keyspace.clone();
        let leader = status.members.iter().find(|it| Some(it.node) == status.leader).map(|it| it.member);
        let record = |node: &NodeKey| directory.record(node);
        let members = status.members.iter().map(|it| Member {
            id: it.member,
            node: it.node,
            name: directory.name(&it.node),
            learner: !it.is_voter,
            behind: it.matched.map(|matched| status.last_index.saturating_sub(matched)),
            restoring: it.is_restoring,
            silent_ms: it.silent_ms,
            peer_urls: record(&it.node).map(|record| record.addresses.clone()).unwrap_or_default(),
            client_urls: record(&it.node)
                .map_or_else(Vec::new, |record| client_urls::decode(record, &keyspace)),
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
