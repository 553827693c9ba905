//! Requests of nodes, this one included, to the replicas here. The sending node names each request; the
//! replica gets it with a token of this module, by which its outcome is returned to the sender.

use std::collections::BTreeMap;

use starling_kv::Engine;
use starling_strong::api::{Answer, Failure, Options, Read, Refusal, Request, RequestId};
use starling_strong::group::{Asked, ChangeError, GroupId, Input, Notice};
use starling_strong::machine::DATED;
use starling_strong::members::NodeKey;

use super::context::Context;
use super::directory::Directory;
use super::message::{Manage, StrongMessage};
use super::replicas::Replicas;

/// Requests of peers that await their outcome, at most; further ones are rejected. Requests of clients here are
/// bounded before ([`super::requests`]).
const REQUESTS_MAX: usize = 16_384;

/// How far ahead of the leader's clock a request id may have been drawn, milliseconds. A guess: clocks that are kept
/// right differ far less.
const AHEAD_MS_MAX: u64 = 5_000;

/// Requests that replicas on this node have not answered yet, by token: the sender and its id.
#[derive(Default)]
pub struct Serving {
    requests: BTreeMap<u64, (NodeKey, u64)>,
}

/// [`Serving`] with the parts that it uses.
pub struct Handler<'a, E: Engine> {
    pub cx: &'a mut Context,
    pub state: &'a mut Serving,
    pub replicas: &'a mut Replicas<E>,
    pub directory: &'a mut Directory,
}

impl<E: Engine> Handler<'_, E> {
    fn begin(&mut self, from: NodeKey, id: u64) -> u64 {
        let token = self.cx.fresh_id();
        self.state.requests.insert(token, (from, id));
        token
    }

    fn is_full(&self, from: &NodeKey) -> bool {
        *from != self.cx.me && self.state.requests.len() >= REQUESTS_MAX
    }

    /// Handles a request to a replica.
    pub fn on_ask(&mut self, from: NodeKey, id: u64, group: GroupId, request: Request, options: Options) {
        if self.replicas.get(&group).is_none() {
            self.cx.send(&from, StrongMessage::Redirect { id, leader: None, missing: Vec::new() });
        } else if self.is_full(&from) {
            self.cx.send(&from, StrongMessage::Response { id, result: Err(Failure::Overloaded) });
        } else if let Err(refusal) = self.check_request_id(group, &options) {
            self.cx.send(&from, StrongMessage::Response { id, result: Err(refusal.into()) });
        } else {
            let token = self.begin(from, id);
            self.replicas.step(self.cx.now_ms, group, Input::Request { token, request, options });
        }
    }

    /// Rejects a request id that contains no time, or a time in the future: it would be remembered longer than those of
    /// clients whose clocks are right, and once it is evicted, theirs would be refused.
    fn check_request_id(&self, group: GroupId, options: &Options) -> Result<(), Refusal> {
        let is_dated = self.replicas.get(&group).is_some_and(|replica| replica.group.version() >= DATED);
        let Some(request_id) = options.id.filter(|_| is_dated) else { return Ok(()) };
        let drawn_ms = RequestId::drawn_ms(request_id.client).ok_or(Refusal::UndatedRequestId)?;
        match drawn_ms.saturating_sub(self.cx.wall_ms) {
            ahead_ms if ahead_ms > AHEAD_MS_MAX => Err(Refusal::RequestIdAhead { ahead_ms }),
            _ => Ok(()),
        }
    }

    /// Handles a change of a group's voters or leader.
    pub fn on_manage(&mut self, from: NodeKey, id: u64, group: GroupId, change: Manage) {
        if self.replicas.get(&group).is_none() || self.is_full(&from) {
            self.cx.send(&from, StrongMessage::ManageReply { id, result: Err(ChangeError::NotLeader) });
            return;
        }
        let token = self.begin(from, id);
        self.note_asked(from, group, &change);
        let input = match change {
            Manage::Voters(records) => {
                self.directory.learn_all(&records, || self.replicas.nodes());
                let nodes = records.iter().map(|record| record.id.0).collect();
                Input::SetVoters { token, nodes }
            }
            Manage::Transfer(to) => Input::Transfer { token, to },
        };
        self.replicas.step(self.cx.now_ms, group, input);
    }

    /// Handles the drop of a group that reads its entry.
    pub fn on_drop(&mut self, from: NodeKey, id: u64, group: GroupId) {
        if self.is_full(&from) {
            self.cx.send(&from, StrongMessage::ManageReply { id, result: Err(ChangeError::NotLeader) });
            return;
        }
        let token = self.begin(from, id);
        self.replicas.step(self.cx.now_ms, group, Input::Drop { token });
    }

    /// Logs a change that a node asks for, on the leader: other members redirect it.
    fn note_asked(&mut self, by: NodeKey, group: GroupId, change: &Manage) {
        let Some(replica) = self.replicas.get(&group).filter(|replica| replica.group.is_leader()) else {
            return;
        };
        let what = match change {
            Manage::Voters(records) => Asked::Voters(records.iter().map(|record| record.id.0).collect()),
            Manage::Transfer(to) => Asked::Transfer(*to),
        };
        self.cx.notice(replica.keyspace.clone(), Notice::Asked { by, what });
    }

    /// Sends the status of a group.
    pub fn on_describe(&mut self, from: NodeKey, id: u64, group: GroupId) {
        let message = match self.replicas.status(self.cx.now_ms, group, self.directory) {
            Some(status) => StrongMessage::StatusReply { id, status },
            None => StrongMessage::Redirect { id, leader: None, missing: Vec::new() },
        };
        self.cx.send(&from, message);
    }

    /// Sends the last log index of a replica, and the result of a read.
    pub fn on_probe(&mut self, from: NodeKey, id: u64, group: GroupId, read: Option<&Read>) {
        let probed =
            self.replicas.get_mut(&group).and_then(|replica| replica.group.probe(self.cx.now_ms, read));
        self.cx.send(&from, StrongMessage::ProbeReply { id, probed });
    }

    /// Returns a replica's answer to the node that asked.
    pub fn on_answer(&mut self, token: u64, result: Result<Answer, Failure>) {
        if let Some((from, id)) = self.state.requests.remove(&token) {
            self.cx.send(&from, StrongMessage::Response { id, result });
        }
    }

    /// Redirects the node that asked to the leader.
    pub fn on_redirect(&mut self, group: GroupId, token: u64, leader: Option<NodeKey>) {
        if let Some((from, id)) = self.state.requests.remove(&token) {
            let replica = self.replicas.get(&group);
            let missing = replica.map(|it| it.group.missing(self.cx.now_ms)).unwrap_or_default();
            self.cx.send(&from, StrongMessage::Redirect { id, leader, missing });
        }
    }

    /// Returns the outcome of a change to the node that asked for it.
    pub fn on_changed(&mut self, token: u64, result: Result<(), ChangeError>) {
        if let Some((from, id)) = self.state.requests.remove(&token) {
            self.cx.send(&from, StrongMessage::ManageReply { id, result });
        }
    }
}
