//! Unsafe recovery, and what an operator has to know before it: the replicas on all nodes that can be reached.

use std::collections::BTreeSet;

use starling_kv::Engine;
use starling_strong::api::Failure;
use starling_strong::group::{Asked, GroupId, Notice};
use starling_strong::log::LogEnd;
use starling_strong::machine::DATED;
use starling_strong::members::NodeKey;

use super::Strong;
use super::input::{ManageError, StrongOutput, Surveyed, SurveyedReplica};
use super::message::StrongMessage;
use super::placement::Known;
use super::surveys::{NODES_MAX, Purpose, ReplicaState, Survey};
use crate::Token;

impl<E: Engine> Strong<E> {
    /// Shows the replicas of a keyspace.
    pub(super) fn survey(&mut self, token: Token, keyspace: String, known: &Known) {
        let located = || self.directory.location(&keyspace).map(|location| location.group);
        if let Some(group) = self.own_replica(&keyspace).or_else(located) {
            self.begin_survey(Survey::new(token, keyspace, group, Purpose::Show), known);
        } else {
            let result = Err(ManageError::NoSuchKeyspace(keyspace));
            self.cx.reply(StrongOutput::Surveyed { token, result });
        }
    }

    /// Makes the replica here the only member of its group, unless another one has more than `accept_loss` entries that
    /// this one lacks, or the group still has a quorum.
    pub(super) fn recover(&mut self, token: Token, keyspace: String, accept_loss: u64, known: &Known) {
        let group = self.own_replica(&keyspace).ok_or_else(|| ManageError::NoReplica(keyspace.clone()));
        match group.and_then(|group| self.replicas.check_quorum(self.cx.now_ms, group).map(|()| group)) {
            Ok(group) => {
                self.begin_survey(
                    Survey::new(token, keyspace, group, Purpose::Recover { accept_loss }),
                    known,
                );
            }
            Err(error) => self.cx.reply(StrongOutput::Managed { token, result: Err(error) }),
        }
    }

    fn own_replica(&self, keyspace: &str) -> Option<GroupId> {
        let unopened = || self.replicas.unopened_of(keyspace);
        self.replicas.of(keyspace).or_else(unopened).or_else(|| self.replicas.aside_of(keyspace))
    }

    fn begin_survey(&mut self, mut survey: Survey, known: &Known) {
        survey.members = self.members_of(survey.group, &survey.keyspace);
        let mut nodes = BTreeSet::from([self.cx.me]);
        if self.replicas.version() >= DATED {
            nodes.extend(&survey.members);
            // Replicas of former members may be kept aside.
            for records in [&known.up, &known.others] {
                self.directory.learn_all(records, || self.replicas.nodes());
            }
            nodes.extend(known.all().take(NODES_MAX).map(|record| record.id.0));
        }
        if self.surveys.is_full() {
            let error = ManageError::Failed(Failure::Overloaded);
            self.cx.reply(match survey.purpose {
                Purpose::Show => StrongOutput::Surveyed { token: survey.token, result: Err(error) },
                Purpose::Recover { .. } => StrongOutput::Managed { token: survey.token, result: Err(error) },
            });
            return;
        }
        self.surveys.begin(&mut self.cx, survey, nodes);
    }

    /// The nodes of a group's members, as its replica here and gossip know them.
    fn members_of(&self, group: GroupId, keyspace: &str) -> BTreeSet<NodeKey> {
        let own = self.replicas.get(&group).into_iter();
        let own = own.flat_map(|replica| replica.group.members().nodes.values().copied());
        let located = self.directory.location(keyspace).filter(|location| location.group == group);
        let located = located.into_iter().flat_map(|location| &location.members);
        own.chain(located.map(|record| record.id.0)).collect()
    }

    pub(super) fn on_ask_replica(&mut self, from: NodeKey, id: u64, group: GroupId) {
        let found = self.replicas.state(self.cx.now_ms, group);
        self.cx.send(&from, StrongMessage::Replica { id, found });
    }

    /// Handles a survey whose replies are in, or whose time is over.
    pub(super) fn on_surveyed(&mut self, survey: &Survey) {
        let token = survey.token;
        match survey.purpose {
            Purpose::Show => {
                let replicas = self.describe(survey);
                let silent = survey.members.intersection(&survey.awaiting);
                let mut silent: Vec<String> = silent.map(|node| self.directory.name(node)).collect();
                silent.sort();
                self.cx.reply(StrongOutput::Surveyed { token, result: Ok(Surveyed { replicas, silent }) });
            }
            Purpose::Recover { accept_loss } => {
                let checked = self.check_survey(survey, accept_loss);
                let result = checked.and_then(|()| self.recover_now(survey.group));
                self.cx.reply(StrongOutput::Managed { token, result });
            }
        }
    }

    fn describe(&self, survey: &Survey) -> Vec<SurveyedReplica> {
        let recoveries = self.replicas.recoveries(&survey.group, &self.directory);
        let ends = survey.found.values().filter_map(|state| state.end);
        let newest = ends.map(|end| end.term).max().unwrap_or_default();
        let may_lack = |end: LogEnd| recoveries.may_lack(end.position(), newest);
        let replica = |(node, state): (&NodeKey, &ReplicaState)| SurveyedReplica {
            node: *node,
            name: self.directory.name(node),
            may_have_more: state.end.is_some_and(may_lack),
            state: state.clone(),
        };
        survey.found.iter().map(replica).collect()
    }

    /// Whether the replica here may go on alone, from what the others say.
    fn check_survey(&self, survey: &Survey, accept_loss: u64) -> Result<(), ManageError> {
        let others = || survey.found.iter().filter(|(node, _)| **node != self.cx.me);
        if let Some((node, _)) = others().find(|(_, state)| state.may_have_quorum) {
            return Err(ManageError::QuorumAt { node: self.directory.name(node) });
        }
        let own = survey.found.get(&self.cx.me).and_then(|state| state.end).unwrap_or_default();
        let ends = others().filter_map(|(node, state)| Some((node, state.end?)));
        let longest = ends.max_by_key(|(_, end)| (end.term, end.index));
        match longest.map(|(node, end)| (node, own.missing_of(&end))) {
            Some((node, entries)) if entries > accept_loss => {
                Err(ManageError::Shorter { node: self.directory.name(node), entries })
            }
            _ => Ok(()),
        }
    }

    fn recover_now(&mut self, group: GroupId) -> Result<(), ManageError> {
        if let Some(keyspace) = self.replicas.keyspace_of(&group) {
            let (by, what) = (self.cx.me, Asked::Recover);
            self.cx.notice(keyspace, Notice::Asked { by, what });
        }
        self.syncs.forget(&group);
        self.served().on_replica_gone(&group);
        self.replicas.recover(&mut self.cx, group, &self.directory)
    }
}
