//! Reads of nodes outside of a group in one round trip: the leader sends the result, and all members the
//! last indexes of their logs (`starling_strong::group::LastIndexes`). If these do not confirm the read, it is sent to
//! the leader as any other.

use std::collections::{BTreeMap, BTreeSet};

use starling_proto::Millis;
use starling_strong::api::{Answer, Failure, Read, Request};
use starling_strong::group::{Found, GroupId, LastIndexes, Probed, is_probe};
use starling_strong::members::NodeKey;

use super::super::message::GroupLocation;

/// Probes under way, at most: each needs a reply of every member. Further reads go to the leader, which confirms many
/// at a time.
const PROBES_MAX: usize = 4;
/// Least number of voters for a probe: with fewer, every majority contains the leader, so that asking it is as fast.
const VOTERS_MIN: u8 = 3;
/// How long reads of a group go to the leader after one found writes under way, milliseconds. A guess.
const REST_MS: u64 = 100;

/// Reads under way, by their requests' ids.
#[derive(Default)]
pub struct Probes {
    pending: BTreeMap<u64, Probe>,
    /// Groups that are being written to, and until when they are not probed.
    resting: BTreeMap<GroupId, Millis>,
}

struct Probe {
    group: GroupId,
    leader: NodeKey,
    /// Members that have not replied.
    awaiting: BTreeSet<NodeKey>,
    last_indexes: LastIndexes,
    found: Option<Found>,
}

/// What a reply means for the read.
pub enum Verdict {
    /// More replies are needed.
    Waiting,
    /// The leader has replied, and another member may still confirm what it found.
    LeaderReplied {
        /// The leader's node.
        leader: NodeKey,
    },
    /// What the leader found is confirmed.
    Confirmed(Result<Answer, Failure>),
    /// The leader has to be asked.
    Inconclusive {
        /// The leader's node.
        leader: NodeKey,
    },
}

impl Probes {
    /// The key's read, if a request is one that can be probed for.
    pub fn read_of(request: &Request) -> Option<&Read> {
        match request {
            Request::Read(read) if is_probe(read) => Some(read),
            _ => None,
        }
    }

    /// Begins a read where that is possible; the members to send a probe to, the leader first. `may_ask` says
    /// which nodes can be asked now.
    pub fn begin(
        &mut self,
        now_ms: u64,
        id: u64,
        location: &GroupLocation,
        may_ask: impl Fn(&NodeKey) -> bool,
    ) -> Option<Vec<NodeKey>> {
        self.resting.retain(|_, until| now_ms < until.0);
        let group = location.group;
        if location.voters < VOTERS_MIN
            || self.pending.len() >= PROBES_MAX
            || self.resting.contains_key(&group)
        {
            return None;
        }
        let leader = location.leader()?;
        let nodes: Vec<NodeKey> = location.members.iter().map(|record| record.id.0).collect();
        if !nodes.iter().all(may_ask) {
            return None;
        }
        let (awaiting, last_indexes, found) = (nodes.iter().copied().collect(), LastIndexes::default(), None);
        self.pending.insert(id, Probe { group, leader, awaiting, last_indexes, found });
        Some(nodes)
    }

    /// Ends a read whose request has its outcome, or is sent to the leader.
    pub fn end(&mut self, id: u64) {
        self.pending.remove(&id);
    }

    /// Handles a member's reply; `None` if it has no result, or cannot be reached.
    pub fn on_reply(&mut self, now_ms: u64, from: NodeKey, id: u64, probed: Option<Probed>) -> Verdict {
        let Some(probe) = self.pending.get_mut(&id) else { return Verdict::Waiting };
        if !probe.awaiting.remove(&from) {
            return Verdict::Waiting;
        }
        if let Some(Probed { member, last, found }) = probed {
            probe.last_indexes.note(member, last);
            if from == probe.leader {
                probe.found = found;
            }
        }
        let Probe { group, leader, awaiting, last_indexes, found } = probe;
        if let Some(found) = found.take_if(|found| last_indexes.confirm(found)) {
            return Verdict::Confirmed(found.result.map_err(Failure::from));
        }
        // Without what the leader finds there is nothing to confirm.
        if awaiting.contains(leader) {
            return Verdict::Waiting;
        }
        if !awaiting.is_empty() && found.as_ref().is_some_and(|found| last_indexes.may_confirm(found)) {
            return Verdict::LeaderReplied { leader: *leader };
        }
        self.resting.insert(*group, Millis(now_ms + REST_MS));
        Verdict::Inconclusive { leader: *leader }
    }

    /// Reads that await a reply of this node.
    pub fn awaiting(&self, node: &NodeKey) -> Vec<u64> {
        self.pending.iter().filter(|(_, probe)| probe.awaiting.contains(node)).map(|(id, _)| *id).collect()
    }
}
