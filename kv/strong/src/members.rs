//! The members of a group.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use raft::eraftpb::ConfState;

use crate::limits::INDEX_MAX;

/// A node's public key. This crate only compares it.
pub type NodeKey = [u8; 32];
/// The number of a member within its group, assigned once and never reused. A node that comes back without its
/// data joins with another number, so that it does not count as the voter that it was.
pub type MemberId = u64;

/// Whether a member can have this number. Raft aborts the process on a member without one.
pub fn is_member_id(id: MemberId) -> bool {
    id != 0 && id < INDEX_MAX
}

/// Members of a group, at most, including those that are being added and removed: five voters, the five that
/// replace them, and six learners.
pub const MEMBERS_MAX: usize = 16;

/// The members of a group as of one entry of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Members {
    /// The members whose majority commits an entry.
    pub voters: BTreeSet<MemberId>,
    /// Members that receive the log and do not vote.
    pub learners: BTreeSet<MemberId>,
    /// The previous voters, while a change is under way: a majority of them has to agree too.
    pub outgoing: BTreeSet<MemberId>,
    /// Voters of `outgoing` that become learners at the end of the change.
    pub learners_next: BTreeSet<MemberId>,
    /// Whether the leader ends the change automatically.
    pub auto_leave: bool,
    /// The node of each member.
    pub nodes: BTreeMap<MemberId, NodeKey>,
    /// The number of the next member that is added.
    pub next: MemberId,
}

impl Members {
    /// The initial members of a new group, numbered from 1.
    pub fn initial(nodes: &[NodeKey]) -> Self {
        let nodes: BTreeMap<_, _> = (1..).zip(nodes.iter().copied()).collect();
        let next = nodes.len() as MemberId + 1;
        Self { voters: nodes.keys().copied().collect(), nodes, next, ..Self::default() }
    }

    /// The member on this node.
    pub fn on(&self, node: &NodeKey) -> Option<MemberId> {
        self.nodes.iter().find(|(_, at)| *at == node).map(|(id, _)| *id)
    }

    /// Whether this member was removed: its number was assigned, and no member has it now.
    pub fn is_gone(&self, member: MemberId) -> bool {
        member < self.next && !self.nodes.contains_key(&member)
    }

    /// Whether a change of voters is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether these can be the members of a group. Members from a peer or a disk are checked with it.
    pub fn is_valid(&self) -> bool {
        let listed: BTreeSet<_> = [&self.voters, &self.learners, &self.outgoing, &self.learners_next]
            .into_iter()
            .flatten()
            .collect();
        let learners_apart =
            self.learners.is_disjoint(&self.voters) && self.learners.is_disjoint(&self.outgoing);
        let next_apart =
            self.learners_next.is_subset(&self.outgoing) && self.learners_next.is_disjoint(&self.voters);
        let distinct: BTreeSet<_> = self.nodes.values().collect();
        !self.voters.is_empty()
            && learners_apart
            && next_apart
            && (self.is_joint() || !self.auto_leave)
            && self.nodes.len() <= MEMBERS_MAX
            && distinct.len() == self.nodes.len()
            && listed.iter().all(|id| **id != 0 && self.nodes.contains_key(*id))
            && self.nodes.keys().all(|id| *id < self.next)
            && self.next <= INDEX_MAX
    }

    /// These members in raft-rs's type.
    pub(crate) fn conf_state(&self) -> ConfState {
        let list = |ids: &BTreeSet<MemberId>| ids.iter().copied().collect::<Vec<_>>();
        let mut conf = ConfState::default();
        conf.set_voters(list(&self.voters));
        conf.set_learners(list(&self.learners));
        conf.set_voters_outgoing(list(&self.outgoing));
        conf.set_learners_next(list(&self.learners_next));
        conf.set_auto_leave(self.auto_leave);
        conf
    }

    /// Replaces the members by those that raft-rs has after a change, and removes the nodes of the others.
    pub(crate) fn adopt(&mut self, conf: &ConfState) {
        let set = |ids: &[MemberId]| ids.iter().copied().collect::<BTreeSet<_>>();
        self.voters = set(conf.get_voters());
        self.learners = set(conf.get_learners());
        self.outgoing = set(conf.get_voters_outgoing());
        self.learners_next = set(conf.get_learners_next());
        self.auto_leave = conf.get_auto_leave();
        let kept = [&self.voters, &self.learners, &self.outgoing, &self.learners_next];
        self.nodes.retain(|id, _| kept.iter().any(|set| set.contains(id)));
    }

    /// Whether the members for which `alive` holds contain a majority: of the voters, and while a change is under
    /// way of the previous voters too.
    pub fn has_majority(&self, alive: impl Fn(MemberId) -> bool) -> bool {
        let decides = |ids: &BTreeSet<MemberId>| {
            ids.is_empty() || ids.iter().filter(|id| alive(**id)).count() > ids.len() / 2
        };
        !self.voters.is_empty() && decides(&self.voters) && decides(&self.outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_members_are_numbered_and_valid() {
        let members = Members::initial(&[[1; 32], [2; 32], [3; 32]]);
        assert!(members.is_valid());
        assert_eq!(members.on(&[2; 32]), Some(2));
        assert_eq!(members.next, 4);
        assert!(members.has_majority(|id| id != 3));
        assert!(!members.has_majority(|id| id == 3));
        assert!(!Members::default().has_majority(|_| true), "without voters there is no majority");
    }

    #[test]
    fn impossible_members_are_not_valid() {
        let good = Members::initial(&[[1; 32], [2; 32], [3; 32]]);
        let none = Members { voters: BTreeSet::new(), ..good.clone() };
        let both = Members { learners: BTreeSet::from([1]), ..good.clone() };
        let homeless = Members { voters: BTreeSet::from([1, 9]), ..good.clone() };
        let twice = Members { nodes: good.nodes.keys().map(|id| (*id, [7; 32])).collect(), ..good.clone() };
        let again = Members { next: 2, ..good };
        for members in [none, both, homeless, twice, again] {
            assert!(!members.is_valid(), "{members:?}");
        }
    }
}
