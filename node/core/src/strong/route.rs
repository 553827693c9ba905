//! The way of a client's request to the group's leader, and what to say when there is none.

use std::collections::BTreeSet;

use starling_kv::Engine;
use starling_proto::Millis;
use starling_strong::api::{Answer, Failure, Member, Options, Request, Status, Write};
use starling_strong::group::ChangeError;
use starling_strong::members::NodeKey;

use super::message::{Manage, StrongMessage};
use super::serve::Origin;
use super::{CoreCall, ManageError, Strong, StrongOutput, Timer};
use crate::Token;

/// Most requests under way; beyond, they are refused.
const ROUTES_MAX: usize = 16_384;
/// A peer that has not answered a question that may be asked again is given up after this, milliseconds.
/// A guess: longer than an election and a sync on a busy disk.
const ASK_MS: u64 = 1_500;
/// First pause before another attempt, milliseconds; doubled each time, with jitter, up to the last.
const PAUSE_MS: u64 = 20;
const PAUSE_MS_MAX: u64 = 320;
/// Redirections that are followed without a pause.
const HOPS_MAX: u32 = 4;
/// No leader was found for so long: there is no majority, milliseconds. A few elections fit.
const HOPELESS_MS: u64 = 3_000;
/// A keyspace that nobody has heard of may be news that have not come yet, milliseconds.
const UNHEARD_MS: u64 = 2_000;

/// What is asked.
#[derive(Clone)]
enum What {
    Request(Request, Options),
    Manage(Manage),
    /// `of_leader`: the leader's answer is wanted. `seen`: another member's, which will do without it.
    Status {
        of_leader: bool,
        seen: Option<Box<Status>>,
    },
}

/// One request under way.
pub struct Route {
    token: Token,
    keyspace: String,
    what: What,
    began_ms: u64,
    deadline_ms: u64,
    /// Who was asked and has not answered.
    asked: Option<NodeKey>,
    /// It was sent to somebody who may have carried it out.
    was_sent: bool,
    /// Where to ask next, if somebody said so.
    hint: Option<NodeKey>,
    attempts: u32,
    hops: u32,
    /// Since when nobody knows a leader.
    hopeless_since: Option<u64>,
    missing: BTreeSet<NodeKey>,
}

impl Route {
    /// Whether it may be asked again although it may have been carried out.
    fn may_repeat(&self) -> bool {
        match &self.what {
            What::Request(Request::Write(_), options) => options.id.is_some(),
            What::Request(..) | What::Manage(_) | What::Status { .. } => true,
        }
    }

    fn is_write(&self) -> bool {
        matches!(&self.what, What::Request(Request::Write(_), _))
    }
}

impl<E: Engine> Strong<E> {
    pub(super) fn handle_request(
        &mut self,
        now_ms: u64,
        token: Token,
        keyspace: String,
        request: Request,
        options: Options,
    ) {
        if options.stale && self.hosted(&keyspace).is_none() {
            let result = Err(Failure::NoReplica(keyspace));
            self.reply(StrongOutput::Answer { token, result });
            return;
        }
        let deadline_ms = now_ms.saturating_add(options.timeout_ms);
        self.begin_route(now_ms, token, keyspace, What::Request(request, options), deadline_ms);
    }

    pub(super) fn handle_status(&mut self, now_ms: u64, token: Token, keyspace: String, of_leader: bool) {
        /// As long as a client waits for a request.
        const STATUS_MS: u64 = 5_000;
        let what = What::Status { of_leader, seen: None };
        self.begin_route(now_ms, token, keyspace, what, now_ms + STATUS_MS);
    }

    pub(super) fn on_described(&mut self, now_ms: u64, id: u64, status: Status) {
        let Some(route) = self.routes.get_mut(&id) else { return };
        let What::Status { of_leader, seen } = &mut route.what else { return };
        let led_by = |member: &&Member| Some(member.id) == status.leader && member.id != status.member;
        let leader = status.members.iter().find(led_by).map(|member| member.node);
        if let Some(leader) = leader.filter(|_| *of_leader && seen.is_none()) {
            *seen = Some(Box::new(status));
            route.hint = Some(leader);
            self.attempt(now_ms, id);
            return;
        }
        self.finish_status(id, status);
    }

    /// Whoever leads cannot be asked: what another member said has to do. Whether there is such an answer.
    fn describe_without_leader(&mut self, id: u64) -> bool {
        let Some(What::Status { seen: Some(seen), .. }) = self.routes.get(&id).map(|route| &route.what)
        else {
            return false;
        };
        let status = Status::clone(seen);
        self.finish_status(id, status);
        true
    }

    fn finish_status(&mut self, id: u64, status: Status) {
        let Some(token) = self.routes.get(&id).map(|route| route.token) else { return };
        self.routes.remove(&id);
        self.timers.cancel(&Timer::Route(id));
        self.reply(StrongOutput::Status { token, result: Ok(status) });
    }

    pub(super) fn handle_manage(&mut self, now_ms: u64, token: Token, keyspace: String, change: Manage) {
        /// A member that is added has to fetch everything first.
        const MANAGE_MS: u64 = 600_000;
        self.begin_route(now_ms, token, keyspace, What::Manage(change), now_ms + MANAGE_MS);
    }

    fn begin_route(&mut self, now_ms: u64, token: Token, keyspace: String, what: What, deadline_ms: u64) {
        if self.routes.len() >= ROUTES_MAX {
            self.tell(token, &what, Err(Failure::Overloaded));
            return;
        }
        let id = self.fresh();
        let route = Route {
            token,
            keyspace,
            what,
            began_ms: now_ms,
            deadline_ms,
            asked: None,
            was_sent: false,
            hint: None,
            attempts: 0,
            hops: 0,
            hopeless_since: None,
            missing: BTreeSet::new(),
        };
        self.routes.insert(id, route);
        self.attempt(now_ms, id);
    }

    /// Who was asked has answered, and others have not.
    pub(super) fn was_answered(&mut self, id: u64) {
        if let Some(route) = self.routes.get_mut(&id) {
            route.asked = None;
        }
    }

    /// Asks this node, without a pause.
    pub(super) fn ask_again(&mut self, now_ms: u64, id: u64, node: NodeKey) {
        if let Some(route) = self.routes.get_mut(&id) {
            route.hint = Some(node);
            self.attempt(now_ms, id);
        }
    }

    fn attempt(&mut self, now_ms: u64, id: u64) {
        self.probes.end(id);
        let Some(route) = self.routes.get(&id) else { return };
        let keyspace = route.keyspace.clone();
        if self.ambiguous.contains(&keyspace) {
            self.finish(id, Err(Failure::Ambiguous(keyspace)));
            return;
        }
        let hosted = self.hosted(&keyspace);
        if hosted.is_none() && !self.places.contains_key(&keyspace) {
            self.pause(now_ms, id);
            return;
        }
        let Some(target) = self.choose(now_ms, id) else {
            self.pause(now_ms, id);
            return;
        };
        let group = hosted.or_else(|| self.places.get(&keyspace).map(|hint| hint.group));
        let (Some(group), Some(route)) = (group, self.routes.get_mut(&id)) else { return };
        let may_probe = hosted.is_none() && route.attempts == 0;
        route.attempts += 1;
        route.asked = Some(target);
        route.was_sent = true;
        let left_ms = route.deadline_ms.saturating_sub(now_ms);
        let again_at = if route.may_repeat() { now_ms + ASK_MS } else { route.deadline_ms };
        let again_at = match route.what {
            What::Manage(_) => route.deadline_ms,
            What::Request(..) | What::Status { .. } => again_at.min(route.deadline_ms),
        };
        let what = route.what.clone();
        self.timers.set(Timer::Route(id), Millis(again_at));
        if target == self.me.id.0 {
            match what {
                What::Request(request, options) => {
                    let options = Options { timeout_ms: left_ms, ..options };
                    self.ask_group(now_ms, group, Origin::Here(id), request, options);
                }
                What::Manage(change) => self.manage_group(now_ms, group, Origin::Here(id), change),
                What::Status { .. } => {
                    if let Some(status) = self.status_of(now_ms, group) {
                        self.on_described(now_ms, id, status);
                    }
                }
            }
            return;
        }
        let message = match what {
            What::Request(request, _) if may_probe && self.probe(now_ms, id, &keyspace, &request) => return,
            What::Request(request, options) => {
                let options = Options { timeout_ms: left_ms, ..options };
                StrongMessage::Ask { id, group, request, options }
            }
            What::Manage(change) => StrongMessage::Manage { id, group, change },
            What::Status { .. } => StrongMessage::Describe { id, group },
        };
        self.send(&target, message);
    }

    /// Whom to ask: who was named, who leads as far as this node knows, then one member after the other.
    fn choose(&mut self, now_ms: u64, id: u64) -> Option<NodeKey> {
        let route = self.routes.get_mut(&id)?;
        let named = route.hint.take();
        let (attempts, keyspace) = (route.attempts as usize, route.keyspace.clone());
        let is_local = match &route.what {
            // Every member serves reads, and knows which transactions may turn out to be ones, unless it has said
            // otherwise.
            What::Request(request, options) => {
                let may_read = matches!(request, Request::Read(_) | Request::Write(Write::Txn(_)));
                options.stale || (may_read && route.attempts == 0)
            }
            What::Status { .. } => true,
            What::Manage(_) => false,
        };
        if named.is_some() {
            return named;
        }
        if let Some(hosted) = self.hosted(&keyspace).and_then(|group| self.groups.get(&group)) {
            let leader = hosted.group.leader().filter(|_| !is_local);
            return leader.filter(|leader| self.breaker.allows(leader, now_ms)).or(Some(self.me.id.0));
        }
        let members = &self.places.get(&keyspace)?.members;
        let count = members.len();
        let order = (0..count).map(|next| members[(attempts + next) % count].id.0);
        let mut order = order.filter(|node| *node != self.me.id.0);
        order.find(|node| self.breaker.allows(node, now_ms))
    }

    /// It has come out who leads a keyspace. Requests that wait are asked there at once, and so are those that
    /// another node was asked and has not answered, if they may be asked twice: it may have stopped.
    pub(super) fn led_by(&mut self, now_ms: u64, keyspace: &str, leader: NodeKey) {
        let me = self.me.id.0;
        let is_elsewhere = |route: &Route| match route.asked {
            None => true,
            // A group here redirects what it does not answer.
            Some(asked) => {
                asked != leader
                    && asked != me
                    && route.may_repeat()
                    && matches!(&route.what, What::Request(_, options) if !options.stale)
            }
        };
        let routes =
            self.routes.iter().filter(|(_, route)| route.keyspace == keyspace && is_elsewhere(route));
        for id in routes.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(route) = self.routes.get_mut(&id) else { continue };
            route.asked = None;
            route.hint = Some(leader);
            route.hopeless_since = None;
            self.attempt(now_ms, id);
        }
    }

    /// Whether a request for a keyspace is under way.
    pub(super) fn is_asked(&self, keyspace: &str) -> bool {
        self.routes.values().any(|route| route.keyspace == keyspace)
    }

    /// Tries again later, longer each time; the keyspace may be somewhere else by then.
    fn pause(&mut self, now_ms: u64, id: u64) {
        if self.describe_without_leader(id) {
            return;
        }
        self.probes.end(id);
        let Some(route) = self.routes.get_mut(&id) else { return };
        route.asked = None;
        route.attempts += 1;
        let pause = (PAUSE_MS << route.attempts.min(8)).min(PAUSE_MS_MAX);
        let keyspace = route.keyspace.clone();
        self.call(CoreCall::Lookup { keyspace });
        let pause = pause / 2 + self.below(pause);
        self.timers.set(Timer::Route(id), Millis(now_ms + pause));
    }

    /// The pause is over, or who was asked has not answered.
    pub(super) fn retry(&mut self, now_ms: u64, id: u64) {
        let Some(route) = self.routes.get_mut(&id) else { return };
        if let Some(silent) = route.asked.take().filter(|silent| *silent != self.me.id.0) {
            route.missing.insert(silent);
            route.hopeless_since.get_or_insert(now_ms);
            self.breaker.failed(silent, now_ms);
        }
        if !self.describe_without_leader(id) && !self.give_up(now_ms, id) {
            self.attempt(now_ms, id);
        }
    }

    /// Ends a request that has waited long enough.
    fn give_up(&mut self, now_ms: u64, id: u64) -> bool {
        let Some(route) = self.routes.get(&id) else { return true };
        let is_known = self.hosted(&route.keyspace).is_some() || self.places.contains_key(&route.keyspace);
        let is_late = now_ms >= route.deadline_ms;
        let hopeless = route.hopeless_since.is_some_and(|since| now_ms >= since + HOPELESS_MS);
        let keyspace = route.keyspace.clone();
        let failure = if !is_known && (is_late || now_ms >= route.began_ms + UNHEARD_MS) {
            Failure::NoSuchKeyspace(keyspace)
        } else if route.was_sent && route.is_write() && (is_late || hopeless) {
            Failure::OutcomeUnknown(keyspace)
        } else if hopeless {
            let missing = route.missing.iter().map(|node| self.name(node)).collect();
            Failure::NoMajority { keyspace, missing }
        } else if is_late {
            Failure::Timeout(keyspace)
        } else {
            return false;
        };
        self.finish(id, Err(failure));
        true
    }

    /// Whoever was asked does not lead; nothing was changed.
    pub(super) fn on_elsewhere(
        &mut self,
        now_ms: u64,
        id: u64,
        leader: Option<NodeKey>,
        missing: &[NodeKey],
    ) {
        let me = self.me.id.0;
        let Some(route) = self.routes.get_mut(&id) else { return };
        let asked = route.asked.take();
        // The only attempt came to nothing.
        route.was_sent &= route.may_repeat();
        let Some(leader) = leader.filter(|leader| Some(*leader) != asked) else {
            route.hopeless_since.get_or_insert(now_ms);
            route.missing.extend(missing.iter().filter(|node| **node != me));
            self.pause(now_ms, id);
            return;
        };
        route.hint = Some(leader);
        route.hops += 1;
        if route.hops <= HOPS_MAX {
            self.attempt(now_ms, id);
        } else {
            self.pause(now_ms, id);
        }
    }

    /// Requests whose peer is gone. `was_connected`: they may have arrived.
    pub(super) fn routes_down(&mut self, now_ms: u64, peer: NodeKey, was_connected: bool) {
        let asked = self.routes.iter().filter(|(_, route)| route.asked == Some(peer));
        for id in asked.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(route) = self.routes.get_mut(&id) else { continue };
            route.missing.insert(peer);
            route.hopeless_since.get_or_insert(now_ms);
            if was_connected && !route.may_repeat() {
                let keyspace = route.keyspace.clone();
                self.finish(id, Err(Failure::OutcomeUnknown(keyspace)));
            } else {
                route.was_sent &= was_connected || route.may_repeat();
                self.pause(now_ms, id);
            }
        }
    }

    pub(super) fn finish(&mut self, id: u64, result: Result<Answer, Failure>) {
        self.probes.end(id);
        if let Some(route) = self.routes.remove(&id) {
            self.timers.cancel(&Timer::Route(id));
            self.tell(route.token, &route.what, result);
        }
    }

    fn tell(&mut self, token: Token, what: &What, result: Result<Answer, Failure>) {
        let output = match what {
            What::Request(..) => StrongOutput::Answer { token, result },
            What::Status { .. } => {
                let failure = result.err().unwrap_or(Failure::Overloaded);
                StrongOutput::Status { token, result: Err(failure) }
            }
            What::Manage(_) => {
                let result = match result {
                    Ok(_) => Ok(()),
                    Err(Failure::NoSuchKeyspace(keyspace)) => Err(ManageError::NoSuchKeyspace(keyspace)),
                    Err(failure) => Err(ManageError::Failed(failure)),
                };
                StrongOutput::Managed { token, result }
            }
        };
        self.reply(output);
    }

    pub(super) fn on_managed(&mut self, now_ms: u64, id: u64, result: Result<(), ChangeError>) {
        if result == Err(ChangeError::NotLeader) {
            // Whoever leads now finishes it: the target is the same.
            self.on_elsewhere(now_ms, id, None, &[]);
            return;
        }
        if let Some(route) = self.routes.remove(&id) {
            self.timers.cancel(&Timer::Route(id));
            let result = result.map_err(ManageError::from);
            self.reply(StrongOutput::Managed { token: route.token, result });
        }
    }
}
