//! Reads of nodes outside of a group in one round trip: the leader says what it finds, all members how far their
//! logs reach (`starling_strong::group::Tails`). Where that does not settle it, the leader is asked as ever.

use std::collections::{BTreeMap, BTreeSet};

use starling_kv::Engine;
use starling_proto::Millis;
use starling_strong::api::{Failure, Read, Request};
use starling_strong::group::{Found, GroupId, Probed, Tails, is_probe};
use starling_strong::members::NodeKey;

use super::Strong;
use super::message::StrongMessage;

/// Most such reads under way: every member has a message to answer for each. More of them go to the leader,
/// which confirms many at a time.
const PROBES_MAX: usize = 4;
/// Fewer voters settle nothing that their leader does not know.
const VOTERS_MIN: u8 = 3;
/// Where writes were under way, the leader is asked for so long, milliseconds. A guess.
const REST_MS: u64 = 100;

/// Reads under way, by their routes.
#[derive(Default)]
pub struct Probes {
    asked: BTreeMap<u64, Probing>,
    /// Groups that are written to, and until when they are not tried.
    rest: BTreeMap<GroupId, Millis>,
}

struct Probing {
    group: GroupId,
    leader: NodeKey,
    /// Who has not answered.
    silent: BTreeSet<NodeKey>,
    tails: Tails,
    found: Option<Found>,
}

impl Probes {
    /// The request is asked in another way, or is answered.
    pub fn end(&mut self, route: u64) {
        self.asked.remove(&route);
    }
}

impl<E: Engine> Strong<E> {
    /// The group and whom to ask, the leader first, if a read may be tried so.
    fn probed(&mut self, now_ms: u64, keyspace: &str) -> Option<(GroupId, Vec<NodeKey>)> {
        let place = self.places.get(keyspace)?;
        self.probes.rest.retain(|_, until| now_ms < until.0);
        if place.voters < VOTERS_MIN
            || self.probes.asked.len() >= PROBES_MAX
            || self.probes.rest.contains_key(&place.group)
        {
            return None;
        }
        let nodes: Vec<NodeKey> = place.members.iter().map(|record| record.id.0).collect();
        // This node may be one, and not know it yet.
        let is_fit = |node: &NodeKey| *node != self.me.id.0 && self.breaker.allows(node, now_ms);
        (!nodes.is_empty() && nodes.iter().all(is_fit)).then_some((place.group, nodes))
    }

    /// Asks all members at once; whether it did. The leader is the one that the route has chosen.
    pub(super) fn probe(&mut self, now_ms: u64, route: u64, keyspace: &str, request: &Request) -> bool {
        let Request::Read(read) = request else { return false };
        if !is_probe(read) {
            return false;
        }
        let Some((group, nodes)) = self.probed(now_ms, keyspace) else { return false };
        let leader = nodes[0];
        for node in &nodes {
            let read = (*node == leader).then(|| read.clone());
            self.send(node, StrongMessage::Probe { id: route, group, read });
        }
        let (silent, tails, found) = (nodes.into_iter().collect(), Tails::default(), None);
        self.probes.asked.insert(route, Probing { group, leader, silent, tails, found });
        true
    }

    /// Somebody outside reads for himself.
    pub(super) fn on_probe(&mut self, from: NodeKey, id: u64, group: GroupId, read: Option<&Read>) {
        let hosted = self.groups.get_mut(&group);
        let probed = hosted.and_then(|hosted| hosted.group.probe(read));
        self.send(&from, StrongMessage::Probed { id, probed });
    }

    pub(super) fn on_probed(&mut self, now_ms: u64, from: NodeKey, route: u64, probed: Option<Probed>) {
        let Some(probing) = self.probes.asked.get_mut(&route) else { return };
        if !probing.silent.remove(&from) {
            return;
        }
        if let Some(Probed { member, last, found }) = probed {
            probing.tails.note(member, last);
            if from == probing.leader {
                probing.found = found;
            }
        }
        let Probing { group, leader, silent, tails, found } = probing;
        let (group, leader) = (*group, *leader);
        if let Some(found) = found.take_if(|found| tails.confirm(found)) {
            self.finish(route, found.result.map_err(Failure::from));
        } else if silent.contains(&leader) {
            // Without what it finds there is nothing to confirm.
        } else if !silent.is_empty() && found.as_ref().is_some_and(|found| tails.may_confirm(found)) {
            self.was_answered(route);
        } else {
            self.probes.rest.insert(group, Millis(now_ms + REST_MS));
            self.ask_again(now_ms, route, leader);
        }
    }

    /// A member that cannot be asked says nothing.
    pub(super) fn probes_down(&mut self, now_ms: u64, peer: NodeKey) {
        let waiting = self.probes.asked.iter().filter(|(_, probing)| probing.silent.contains(&peer));
        for route in waiting.map(|(route, _)| *route).collect::<Vec<_>>() {
            self.on_probed(now_ms, peer, route, None);
        }
    }
}
