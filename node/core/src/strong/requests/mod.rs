//! Pending requests of clients on this node: their routing to the leader of a group, and their failure without one.
//!
//! A request is sent to one node at a time, which is chosen again for every attempt: the node that another one
//! named, else the leader or the location that this node knows. It is retried after a redirection, after the
//! loss of the link, after a silence, and at once when another leader becomes known:
//!
//! ```text
//!              attempt                 reply                   finish
//!   pending ──────────► awaiting reply ──────► outcome ──────────────► client
//!      ▲                      │
//!      └──────────────────────┘ redirected, link lost, silence, another leader: at once or after a pause
//! ```
//!
//! A write that may have been applied is never sent twice, unless it has a request id: otherwise its outcome is
//! [`Failure::OutcomeUnknown`].

mod breaker;
mod probes;
#[cfg(test)]
mod tests;
mod vacating;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use starling_kv::Engine;
use starling_proto::Millis;
use starling_strong::api::{Answer, Failure, Member, Options, Read, Refusal, Request, Status, Write};
use starling_strong::group::{ChangeError, GroupId, Probed};
use starling_strong::machine::limits::TXN_OPS_ALL_MAX;
use starling_strong::machine::txn_depth_max;
use starling_strong::members::NodeKey;

use self::breaker::Breaker;
use self::probes::{Probes, Verdict};
use self::vacating::Vacating;
use super::context::{Context, Timer};
use super::directory::Directory;
use super::input::{CoreCall, ManageError, StrongOutput};
use super::message::{Manage, StrongMessage};
use super::replicas::Replicas;
use crate::Token;

/// Pending requests, at most; further ones are rejected.
const PENDING_MAX: usize = 16_384;
/// How long a node may take to reply to a request that may be repeated, milliseconds. A guess: longer than an
/// election and a sync on a busy disk.
const REPLY_MS: u64 = 1_500;
/// How long other members may take to confirm what a leader has found, milliseconds; then the leader confirms it. A guess: less
/// than a person notices, and longer than most round trips.
const CONFIRM_MS: u64 = 50;
/// First pause before another attempt, milliseconds; doubled each time, with jitter, up to the last.
const PAUSE_MS: u64 = 20;
const PAUSE_MS_MAX: u64 = 320;
/// Redirections that are followed without a pause.
const HOPS_MAX: u32 = 4;
/// Time without a known leader after which a request fails for lack of a majority, milliseconds: a few elections.
const NO_LEADER_MS: u64 = 3_000;
/// How long an unknown keyspace may take to become known, milliseconds: its location may be on its way.
const UNKNOWN_MS: u64 = 2_000;
/// Deadline of a request for a status, milliseconds: that of clients' requests by default.
const STATUS_MS: u64 = 5_000;
/// Deadline of a change of members, milliseconds: a member that is added has to fetch everything first.
const MANAGE_MS: u64 = 600_000;

/// The kind of a pending request.
#[derive(Clone)]
enum Operation {
    Request(Request, Options),
    Manage(Manage),
    Vacate(Vacating),
    Drop(GroupId),
    /// `of_leader`: the leader's status is preferred. `seen`: another member's, to be used without it.
    Status {
        of_leader: bool,
        seen: Option<Box<Status>>,
    },
}

/// A pending request.
struct Pending {
    token: Token,
    keyspace: String,
    operation: Operation,
    began_ms: u64,
    deadline_ms: u64,
    /// The node whose reply is awaited.
    awaiting: Option<NodeKey>,
    /// All nodes that it was sent to: no other one can know the outcome.
    asked: BTreeSet<NodeKey>,
    /// Whether it was sent to a node that may have carried it out.
    was_sent: bool,
    /// The node to ask next, if one was named.
    next: Option<NodeKey>,
    attempts: u32,
    hops: u32,
    /// When the last known leader was lost, milliseconds; `None` while one is known.
    no_leader_since: Option<u64>,
    /// Nodes that did not reply, and voters that members miss.
    missing: BTreeSet<NodeKey>,
}

impl Pending {
    /// Whether it may be sent again although it may have been carried out.
    fn may_repeat(&self) -> bool {
        match &self.operation {
            Operation::Request(Request::Write(_), options) => options.id.is_some(),
            Operation::Request(..)
            | Operation::Manage(_)
            | Operation::Vacate(_)
            | Operation::Drop(_)
            | Operation::Status { .. } => true,
        }
    }

    fn is_write(&self) -> bool {
        matches!(&self.operation, Operation::Request(Request::Write(_), _))
    }

    /// When the node that is asked now has taken too long.
    fn retry_at(&self, now_ms: u64) -> u64 {
        let is_change = matches!(self.operation, Operation::Manage(_) | Operation::Vacate(_));
        if is_change || !self.may_repeat() {
            self.deadline_ms
        } else {
            self.deadline_ms.min(now_ms + REPLY_MS)
        }
    }

    /// Whether any member will do, and not the leader only. Every member serves reads, and knows which
    /// transactions may turn out to be ones, unless it has redirected the request.
    fn takes_any_member(&self) -> bool {
        match &self.operation {
            Operation::Request(request, options) => {
                let may_read = matches!(request, Request::Read(_) | Request::Write(Write::Txn(_)));
                options.stale || (may_read && self.attempts == 0)
            }
            Operation::Status { .. } => true,
            Operation::Manage(_) | Operation::Vacate(_) | Operation::Drop(_) => false,
        }
    }

    fn outcome(&self, result: Result<Answer, Failure>) -> StrongOutput {
        let token = self.token;
        match &self.operation {
            Operation::Request(..) => StrongOutput::Answer { token, result },
            Operation::Status { .. } => {
                let failure = result.err().unwrap_or(Failure::Overloaded);
                StrongOutput::Status { token, result: Err(failure) }
            }
            Operation::Manage(_) | Operation::Vacate(_) | Operation::Drop(_) => {
                let result = match result {
                    Ok(_) => Ok(()),
                    Err(Failure::NoSuchKeyspace(keyspace)) => Err(ManageError::NoSuchKeyspace(keyspace)),
                    Err(failure) => Err(ManageError::Failed(failure)),
                };
                StrongOutput::Managed { token, result }
            }
        }
    }
}

/// The pending requests of clients on this node.
#[derive(Default)]
pub struct Requests {
    /// The pending requests, by the id in their messages.
    pending: BTreeMap<u64, Pending>,
    probes: Probes,
    breaker: Breaker,
    ended_drops: VecDeque<EndedDrop>,
}

/// The outcome of a drop, which is not the client's yet.
pub struct EndedDrop {
    pub token: Token,
    pub keyspace: String,
    pub group: GroupId,
    pub result: Result<(), ManageError>,
}

impl Requests {
    /// Whether a request for a keyspace is pending.
    pub fn concern(&self, keyspace: &str) -> bool {
        self.pending.values().any(|pending| pending.keyspace == keyspace)
    }

    /// Whether a request was sent to this node: only then its reply counts.
    pub fn has_asked(&self, id: u64, node: &NodeKey) -> bool {
        self.pending.get(&id).is_some_and(|pending| pending.asked.contains(node))
    }

    /// The next drop that has an outcome.
    pub fn pop_ended_drop(&mut self) -> Option<EndedDrop> {
        self.ended_drops.pop_front()
    }

    /// Records a message from a peer.
    pub fn on_sign_of_life(&mut self, peer: &NodeKey) {
        self.breaker.works(peer);
    }
}

/// [`Requests`] with the parts that it uses.
pub struct Handler<'a, E: Engine> {
    pub cx: &'a mut Context,
    pub state: &'a mut Requests,
    pub directory: &'a Directory,
    pub replicas: &'a Replicas<E>,
}

impl<E: Engine> Handler<'_, E> {
    /// Begins a client's read or write.
    pub fn request(&mut self, token: Token, keyspace: String, request: Request, options: Options) {
        if is_too_deep(&request, self.replicas.version()) {
            let refusal = Refusal::TooManyOps { max: TXN_OPS_ALL_MAX as u64 };
            self.cx.reply(StrongOutput::Answer { token, result: Err(refusal.into()) });
            return;
        }
        if options.stale && self.replicas.of(&keyspace).is_none() {
            let result = Err(Failure::NoReplica(keyspace));
            self.cx.reply(StrongOutput::Answer { token, result });
            return;
        }
        let deadline_ms = self.cx.now_ms.saturating_add(options.timeout_ms);
        self.begin(token, keyspace, Operation::Request(request, options), deadline_ms);
    }

    /// Begins a request for the status of a keyspace.
    pub fn status(&mut self, token: Token, keyspace: String, of_leader: bool) {
        let operation = Operation::Status { of_leader, seen: None };
        self.begin(token, keyspace, operation, self.cx.now_ms + STATUS_MS);
    }

    /// Begins a change of a keyspace's voters or leader.
    pub fn manage(&mut self, token: Token, keyspace: String, change: Manage) {
        self.begin(token, keyspace, Operation::Manage(change), self.cx.now_ms + MANAGE_MS);
    }

    /// Begins the drop of a keyspace's group; its outcome comes with [`Requests::pop_ended_drop`].
    pub fn drop(&mut self, token: Token, keyspace: String, group: GroupId) {
        self.begin(token, keyspace, Operation::Drop(group), self.cx.now_ms + STATUS_MS);
    }

    fn begin(&mut self, token: Token, keyspace: String, operation: Operation, deadline_ms: u64) {
        let pending = Pending {
            token,
            keyspace,
            operation,
            began_ms: self.cx.now_ms,
            deadline_ms,
            awaiting: None,
            asked: BTreeSet::new(),
            was_sent: false,
            next: None,
            attempts: 0,
            hops: 0,
            no_leader_since: None,
            missing: BTreeSet::new(),
        };
        if self.state.pending.len() >= PENDING_MAX {
            self.cx.reply(pending.outcome(Err(Failure::Overloaded)));
            return;
        }
        let id = self.cx.fresh_id();
        self.state.pending.insert(id, pending);
        self.attempt(id);
    }

    fn attempt(&mut self, id: u64) {
        self.state.probes.end(id);
        let Some(pending) = self.state.pending.get(&id) else { return };
        let keyspace = pending.keyspace.clone();
        if self.directory.is_ambiguous(&keyspace) {
            self.finish(id, Err(Failure::Ambiguous(keyspace)));
            return;
        }
        let local = self.replicas.of(&keyspace);
        let Some(group) = local.or_else(|| self.directory.location(&keyspace).map(|it| it.group)) else {
            self.pause(id);
            return;
        };
        let Some(target) = self.choose(id, &keyspace) else {
            self.pause(id);
            return;
        };
        let Some(pending) = self.state.pending.get_mut(&id) else { return };
        let may_probe = local.is_none() && target != self.cx.me && pending.attempts == 0;
        pending.attempts += 1;
        pending.awaiting = Some(target);
        pending.asked.insert(target);
        pending.was_sent = true;
        let now_ms = self.cx.now_ms;
        self.cx.timers.set(Timer::Request(id), Millis(pending.retry_at(now_ms)));
        let timeout_ms = pending.deadline_ms.saturating_sub(now_ms);
        let message = match pending.operation.clone() {
            Operation::Request(request, _) if may_probe && self.probe(id, &keyspace, &request) => return,
            Operation::Request(request, options) => {
                StrongMessage::Request { id, group, request, options: Options { timeout_ms, ..options } }
            }
            Operation::Manage(change) | Operation::Vacate(Vacating { change, .. }) => {
                StrongMessage::Manage { id, group, change }
            }
            Operation::Drop(group) => StrongMessage::DropGroup { id, group },
            Operation::Status { .. } => StrongMessage::Status { id, group },
        };
        self.cx.send(&target, message);
    }

    /// The node to ask: the one that was named, the leader as far as this node knows, or one member after the
    /// other.
    fn choose(&mut self, id: u64, keyspace: &str) -> Option<NodeKey> {
        let pending = self.state.pending.get_mut(&id)?;
        if let Some(named) = pending.next.take() {
            return Some(named);
        }
        let (me, now_ms, breaker) = (self.cx.me, self.cx.now_ms, &self.state.breaker);
        if let Some((_, replica)) = self.replicas.serving(keyspace) {
            let leader = replica.group.leader().filter(|_| !pending.takes_any_member());
            return leader.filter(|leader| breaker.allows(leader, now_ms)).or(Some(me));
        }
        let (_, members) = self.replicas.elsewhere(keyspace, self.directory)?;
        let (first, count) = (pending.attempts as usize, members.len());
        let mut order = (0..count).map(|next| members[(first + next) % count]);
        order.find(|node| breaker.allows(node, now_ms))
    }

    /// Sends a probe to all members instead. Returns whether it did.
    fn probe(&mut self, id: u64, keyspace: &str, request: &Request) -> bool {
        let (Some(read), Some(location)) = (Probes::read_of(request), self.directory.location(keyspace))
        else {
            return false;
        };
        // This node may be a member, and not know it yet.
        let (me, now_ms, breaker) = (self.cx.me, self.cx.now_ms, &self.state.breaker);
        let may_ask = |node: &NodeKey| *node != me && breaker.allows(node, now_ms);
        let Some(nodes) = self.state.probes.begin(now_ms, id, location, may_ask) else { return false };
        for (place, node) in nodes.iter().enumerate() {
            let read = (place == 0).then(|| read.clone());
            self.cx.send(node, StrongMessage::Probe { id, group: location.group, read });
        }
        true
    }

    /// Handles a member's reply to a probe.
    pub fn on_probed(&mut self, from: NodeKey, id: u64, probed: Option<Probed>) {
        match self.state.probes.on_reply(self.cx.now_ms, from, id, probed) {
            Verdict::Waiting => {}
            Verdict::Confirmed(result) => self.finish(id, result),
            Verdict::LeaderReplied { leader } => {
                if let Some(pending) = self.state.pending.get_mut(&id) {
                    pending.awaiting = None;
                    pending.next = Some(leader);
                    self.cx.set_timer(Timer::Request(id), CONFIRM_MS);
                }
            }
            Verdict::Inconclusive { leader } => {
                if let Some(pending) = self.state.pending.get_mut(&id) {
                    pending.next = Some(leader);
                    self.attempt(id);
                }
            }
        }
    }

    /// Handles a member's status of its group.
    pub fn on_described(&mut self, id: u64, status: Status) {
        let Some(pending) = self.state.pending.get_mut(&id) else { return };
        let Operation::Status { of_leader, seen } = &mut pending.operation else { return };
        let leads = |member: &&Member| Some(member.id) == status.leader && member.id != status.member;
        let leader = status.members.iter().find(leads).map(|member| member.node);
        if let Some(leader) = leader.filter(|_| *of_leader && seen.is_none()) {
            *seen = Some(Box::new(status));
            pending.next = Some(leader);
            self.attempt(id);
            return;
        }
        self.finish_status(id, status);
    }

    /// Answers with the status of another member if the leader's is not available. Returns whether there is one.
    fn finish_without_leader(&mut self, id: u64) -> bool {
        let operation = self.state.pending.get(&id).map(|pending| &pending.operation);
        let Some(Operation::Status { seen: Some(seen), .. }) = operation else { return false };
        let status = Status::clone(seen);
        self.finish_status(id, status);
        true
    }

    fn finish_status(&mut self, id: u64, status: Status) {
        if let Some(pending) = self.remove(id) {
            self.cx.reply(StrongOutput::Status { token: pending.token, result: Ok(status) });
        }
    }

    /// Handles news of a keyspace's leader. Requests that wait are sent there at once; so are those whose
    /// reply is awaited from another node, which may have stopped, if they may be repeated.
    pub fn on_leader(&mut self, keyspace: &str, leader: NodeKey) {
        let me = self.cx.me;
        let is_elsewhere = |pending: &Pending| match pending.awaiting {
            None => true,
            // A replica here redirects what it does not answer.
            Some(asked) => {
                asked != leader
                    && asked != me
                    && pending.may_repeat()
                    && matches!(&pending.operation, Operation::Request(_, options) if !options.stale)
            }
        };
        let all = self.state.pending.iter();
        let moved = all.filter(|(_, pending)| pending.keyspace == keyspace && is_elsewhere(pending));
        for id in moved.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(pending) = self.state.pending.get_mut(&id) else { continue };
            pending.awaiting = None;
            pending.next = Some(leader);
            pending.no_leader_since = None;
            self.attempt(id);
        }
    }

    /// Retries after a pause, which grows each time; the keyspace may have another location by then.
    fn pause(&mut self, id: u64) {
        if self.finish_without_leader(id) {
            return;
        }
        self.state.probes.end(id);
        let Some(pending) = self.state.pending.get_mut(&id) else { return };
        pending.awaiting = None;
        pending.attempts += 1;
        let pause_ms = (PAUSE_MS << pending.attempts.min(8)).min(PAUSE_MS_MAX);
        self.cx.call(CoreCall::Lookup { keyspace: pending.keyspace.clone() });
        let pause_ms = pause_ms / 2 + self.cx.below(pause_ms);
        self.cx.set_timer(Timer::Request(id), pause_ms);
    }

    /// Handles the end of a pause, or of the time that a node has to reply.
    pub fn on_timeout(&mut self, id: u64) {
        let (me, now_ms) = (self.cx.me, self.cx.now_ms);
        let Some(pending) = self.state.pending.get_mut(&id) else { return };
        if let Some(silent) = pending.awaiting.take().filter(|silent| *silent != me) {
            pending.missing.insert(silent);
            pending.no_leader_since.get_or_insert(now_ms);
            self.state.breaker.failed(silent, now_ms);
        }
        if self.finish_without_leader(id) {
            return;
        }
        match self.failure(id) {
            Some(failure) => self.finish(id, Err(failure)),
            None => self.attempt(id),
        }
    }

    /// Why a request fails now, if it has waited long enough.
    fn failure(&self, id: u64) -> Option<Failure> {
        let (now_ms, pending) = (self.cx.now_ms, self.state.pending.get(&id)?);
        let keyspace = pending.keyspace.clone();
        let is_known = self.replicas.of(&keyspace).is_some() || self.directory.location(&keyspace).is_some();
        let is_late = now_ms >= pending.deadline_ms;
        let has_no_leader = pending.no_leader_since.is_some_and(|since| now_ms >= since + NO_LEADER_MS);
        if !is_known && (is_late || now_ms >= pending.began_ms + UNKNOWN_MS) {
            Some(Failure::NoSuchKeyspace(keyspace))
        } else if pending.was_sent && pending.is_write() && (is_late || has_no_leader) {
            let missing = self.missing(pending);
            let is_known = has_no_leader && !missing.is_empty();
            Some(if is_known {
                Failure::Unconfirmed { keyspace, missing }
            } else {
                Failure::OutcomeUnknown(keyspace)
            })
        } else if has_no_leader {
            Some(Failure::NoMajority { keyspace, missing: self.missing(pending) })
        } else {
            is_late.then_some(Failure::Timeout(keyspace))
        }
    }

    /// The names of the voters that do not answer.
    fn missing(&self, pending: &Pending) -> Vec<String> {
        pending.missing.iter().map(|node| self.directory.name(node)).collect()
    }

    /// Handles a redirection: the node that was asked does not lead, and changed nothing. `missing` are voters
    /// that it has no connection to.
    pub fn on_redirect(&mut self, id: u64, leader: Option<NodeKey>, missing: &[NodeKey]) {
        let (me, now_ms) = (self.cx.me, self.cx.now_ms);
        let Some(pending) = self.state.pending.get_mut(&id) else { return };
        let asked = pending.awaiting.take();
        // The only attempt failed.
        pending.was_sent &= pending.may_repeat();
        let Some(leader) = leader.filter(|leader| Some(*leader) != asked) else {
            pending.no_leader_since.get_or_insert(now_ms);
            pending.missing.extend(missing.iter().filter(|node| **node != me));
            self.pause(id);
            return;
        };
        pending.next = Some(leader);
        pending.hops += 1;
        if pending.hops <= HOPS_MAX {
            self.attempt(id);
        } else {
            self.pause(id);
        }
    }

    /// Handles the loss of a peer. `was_connected`: what was sent to it may have arrived.
    pub fn on_peer_down(&mut self, peer: NodeKey, was_connected: bool) {
        let now_ms = self.cx.now_ms;
        self.state.breaker.failed(peer, now_ms);
        let awaiting = self.state.pending.iter().filter(|(_, pending)| pending.awaiting == Some(peer));
        for id in awaiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(pending) = self.state.pending.get_mut(&id) else { continue };
            pending.missing.insert(peer);
            pending.no_leader_since.get_or_insert(now_ms);
            if was_connected && !pending.may_repeat() {
                let keyspace = pending.keyspace.clone();
                self.finish(id, Err(Failure::OutcomeUnknown(keyspace)));
            } else {
                pending.was_sent &= was_connected || pending.may_repeat();
                self.pause(id);
            }
        }
        for id in self.state.probes.awaiting(&peer) {
            self.on_probed(peer, id, None);
        }
    }

    /// Handles the outcome of a request, or ends it with one.
    pub fn finish(&mut self, id: u64, result: Result<Answer, Failure>) {
        if let Some(pending) = self.remove(id) {
            self.end(pending, result);
        }
    }

    fn end(&mut self, pending: Pending, result: Result<Answer, Failure>) {
        match pending.outcome(result) {
            StrongOutput::Managed { result, .. } => self.end_managed(pending, result),
            outcome => self.cx.reply(outcome),
        }
    }

    /// Hands an outcome to the client; that of a drop to [`super::Strong`] first.
    fn end_managed(&mut self, pending: Pending, result: Result<(), ManageError>) {
        let Pending { token, keyspace, operation, .. } = pending;
        match operation {
            Operation::Drop(group) => {
                self.state.ended_drops.push_back(EndedDrop { token, keyspace, group, result });
            }
            _ => self.cx.reply(StrongOutput::Managed { token, result }),
        }
    }

    /// Handles the outcome of a change of voters or leader.
    pub fn on_managed(&mut self, id: u64, result: Result<(), ChangeError>) {
        if result == Err(ChangeError::NotLeader) {
            // Another node leads now, and finishes the change: the target is the same.
            self.on_redirect(id, None, &[]);
            return;
        }
        let result = match result {
            Ok(()) => Ok(()),
            Err(error) => match self.ask_another(id, error) {
                Some(error) => Err(error),
                None => return,
            },
        };
        if let Some(pending) = self.remove(id) {
            self.end_managed(pending, result);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Pending> {
        self.state.probes.end(id);
        self.cx.timers.cancel(&Timer::Request(id));
        self.state.pending.remove(&id)
    }
}

/// Whether transactions are nested deeper than any node decodes while this data version is in force: to the node that
/// receives the request, the message would be malformed.
fn is_too_deep(request: &Request, version: u16) -> bool {
    match request {
        Request::Read(Read::Txn(txn)) | Request::Write(Write::Txn(txn)) => {
            txn.depth() > usize::from(txn_depth_max(version))
        }
        _ => false,
    }
}
