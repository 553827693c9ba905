//! What other nodes ask of the groups on this one.

use starling_kv::Engine;
use starling_strong::api::{Answer, Failure, Options, Request};
use starling_strong::group::{ChangeError, GroupId, Input};
use starling_strong::members::NodeKey;

use super::Strong;
use super::message::{Manage, StrongMessage};

/// Most requests of others that wait here; beyond, they are refused.
const ORIGINS_MAX: usize = 16_384;

/// Who wants to know what a group answers.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// A route of this node, by its number.
    Here(u64),
    /// Another node, under its own number.
    Peer(NodeKey, u64),
}

impl<E: Engine> Strong<E> {
    pub(super) fn on_ask(
        &mut self,
        now_ms: u64,
        from: NodeKey,
        id: u64,
        group: GroupId,
        request: Request,
        options: Options,
    ) {
        if !self.groups.contains_key(&group) {
            self.send(&from, StrongMessage::Elsewhere { id, leader: None, missing: Vec::new() });
        } else if self.origins.len() >= ORIGINS_MAX {
            self.send(&from, StrongMessage::Answered { id, result: Err(Failure::Overloaded) });
        } else {
            self.ask_group(now_ms, group, Origin::Peer(from, id), request, options);
        }
    }

    pub(super) fn ask_group(
        &mut self,
        now_ms: u64,
        group: GroupId,
        origin: Origin,
        request: Request,
        options: Options,
    ) {
        let token = self.fresh();
        self.origins.insert(token, origin);
        self.feed(now_ms, group, Input::Request { token, request, options });
    }

    pub(super) fn on_group_answer(&mut self, token: u64, result: Result<Answer, Failure>) {
        match self.origins.remove(&token) {
            Some(Origin::Here(route)) => self.finish(route, result),
            Some(Origin::Peer(peer, id)) => self.send(&peer, StrongMessage::Answered { id, result }),
            None => {}
        }
    }

    pub(super) fn on_group_redirect(
        &mut self,
        now_ms: u64,
        group: GroupId,
        token: u64,
        leader: Option<NodeKey>,
    ) {
        let missing = self.groups.get(&group).map(|hosted| hosted.group.missing(now_ms)).unwrap_or_default();
        match self.origins.remove(&token) {
            Some(Origin::Here(route)) => self.on_elsewhere(now_ms, route, leader, &missing),
            Some(Origin::Peer(peer, id)) => {
                self.send(&peer, StrongMessage::Elsewhere { id, leader, missing });
            }
            None => {}
        }
    }

    pub(super) fn on_manage(&mut self, now_ms: u64, from: NodeKey, id: u64, group: GroupId, change: Manage) {
        if self.groups.contains_key(&group) && self.origins.len() < ORIGINS_MAX {
            self.manage_group(now_ms, group, Origin::Peer(from, id), change);
        } else {
            let result = Err(ChangeError::NotLeader);
            self.send(&from, StrongMessage::Managed { id, result });
        }
    }

    pub(super) fn manage_group(&mut self, now_ms: u64, group: GroupId, origin: Origin, change: Manage) {
        let token = self.fresh();
        self.origins.insert(token, origin);
        match change {
            Manage::Voters(records) => {
                let nodes = records.iter().map(|record| record.id.0).collect();
                self.learn_all(&records);
                self.feed(now_ms, group, Input::SetVoters { token, nodes });
            }
            Manage::Transfer(to) => self.feed(now_ms, group, Input::Transfer { token, to }),
        }
    }

    pub(super) fn on_group_changed(&mut self, now_ms: u64, token: u64, result: Result<(), ChangeError>) {
        match self.origins.remove(&token) {
            Some(Origin::Here(route)) => self.on_managed(now_ms, route, result),
            Some(Origin::Peer(peer, id)) => self.send(&peer, StrongMessage::Managed { id, result }),
            None => {}
        }
    }
}
