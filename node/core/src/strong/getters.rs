//! What a node shows of its strong keyspaces.

use starling_kv::Engine;
use starling_proto::trust::Trust;
use starling_strong::api::{Leaderless, SilentVoter, Status};
use starling_strong::group::{Group, GroupId};

use super::Strong;
use super::replicas::{Aside, Replica};

impl<E: Engine> Strong<E> {
    /// Messages of peers that were skipped since the start, because only a later version knows them.
    pub fn messages_unknown(&self) -> u64 {
        self.messages_unknown
    }

    /// Groups and keyspaces of the replicas on this node.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &str)> {
        self.replicas.iter().map(|(group, replica)| (group, replica.keyspace.as_str()))
    }

    /// The member of a keyspace's group on this node.
    pub fn member_of(&self, keyspace: &str) -> Option<&Group<E>> {
        self.replicas.get(&self.replicas.of(keyspace)?).map(|replica| &replica.group)
    }

    /// The status of a group, as its replica here sees it.
    pub fn status_of(&mut self, now_ms: u64, group: GroupId) -> Option<Status> {
        self.replicas.status(now_ms, group, &self.directory)
    }

    /// The replicas that this node keeps aside, each with whether it may have writes that its group lacks.
    pub fn asides(&self) -> impl Iterator<Item = (&Aside, bool)> {
        let all = self.replicas.asides().iter();
        all.map(|(group, aside)| (aside, self.replicas.may_have_more(group, &self.directory)))
    }

    /// The keyspaces of the replicas on this node that do not work, each with the reason.
    pub fn closed(&self) -> impl Iterator<Item = (&str, String)> {
        self.replicas.closed()
    }

    /// The keyspaces of the replicas on this node that work and need an operator's attention, each with the reason.
    pub fn impaired(&self) -> impl Iterator<Item = (&str, String)> {
        self.replicas.impaired()
    }

    /// The groups of replicas on this node that have had no leader for some seconds.
    pub fn leaderless(&self, now_ms: u64, trust: &Trust) -> Vec<Leaderless> {
        self.replicas.leaderless(now_ms, &self.directory, trust)
    }

    /// The voters of the groups that this node leads that have sent nothing for some seconds.
    pub fn silent_voters(&self, now_ms: u64, trust: &Trust) -> Vec<SilentVoter> {
        self.replicas.silent_voters(now_ms, &self.directory, trust)
    }

    /// Whether the replicas on this node take no part in their groups, and so learn nothing of other members: another
    /// process with this node's identity has started later.
    pub fn has_withdrawn(&self) -> bool {
        self.replicas.has_withdrawn()
    }

    /// The keyspaces of which this node is a voter.
    pub fn votes(&self) -> impl Iterator<Item = &str> {
        let votes = |it: &&Replica<E>| it.group.members().voters.contains(&it.group.member());
        self.replicas
            .iter()
            .map(|(_, replica)| replica)
            .filter(votes)
            .map(|replica| replica.keyspace.as_str())
    }

    /// Whether this node has a replica of a keyspace, knows where it is, or has a request for it.
    pub(crate) fn knows(&self, keyspace: &str) -> bool {
        self.directory.location(keyspace).is_some()
            || self.replicas.of(keyspace).is_some()
            || self.replicas.aside_of(keyspace).is_some()
            || self.is_ambiguous(keyspace)
            || self.requests.concern(keyspace)
    }

    /// Whether a group was dropped, as far as this node knows.
    pub(crate) fn was_dropped(&self, group: &GroupId) -> bool {
        self.replicas.was_dropped(group)
    }

    /// Whether a keyspace was created more than once, as far as this node knows.
    pub(crate) fn is_ambiguous(&self, keyspace: &str) -> bool {
        self.directory.is_ambiguous(keyspace)
    }

    /// Whether this node leads a keyspace's group.
    pub fn leads(&self, keyspace: &str) -> bool {
        let replica = self.replicas.of(keyspace).and_then(|group| self.replicas.get(&group));
        replica.is_some_and(|replica| replica.group.is_leader())
    }
}
