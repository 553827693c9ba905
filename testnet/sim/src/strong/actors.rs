//! A client: it asks one thing at a time, again under the same name where the outcome is not known, and turns
//! to another node when its own does not help.

use starling_core::Input;
use starling_core::strong::StrongInput;
use starling_strong::api::{Answer, Failure, Fence, Options, Refusal, Request, RequestId};

use super::locker::LockHolder;
use super::queuer::QueueClient;
use super::register::RegisterClient;
use super::worker::WorkClient;
use super::{Strong, Turn};
use crate::scenario::{STRONG_KEYSPACE, StrongLoad};
use crate::world::World;

/// What a client does next.
pub enum Step {
    /// Ask this; once only, or under a name and again until it is answered. A stale read asks one replica only.
    Ask { request: Request, fence: Option<Fence>, once: bool, stale: bool },
    /// Wait so many milliseconds.
    Wait(u64),
}

/// What became of a request.
pub struct Outcome {
    /// When it was sent first, microseconds.
    pub start_us: u64,
    /// Now.
    pub now_us: u64,
    /// What it came to.
    pub result: Told,
}

/// What a client was told in the end.
pub enum Told {
    Answer(Answer),
    Refused(Refusal),
    /// Nothing was changed.
    Failed,
    /// Nobody knows.
    Unknown,
}

pub enum Role {
    Register(RegisterClient),
    Lock(LockHolder),
    Queue(QueueClient),
    Work(WorkClient),
}

impl Role {
    /// Everybody that a scenario asks for.
    pub fn all(load: &StrongLoad) -> Vec<Self> {
        let registers =
            (1..=load.clients).map(|number| Self::Register(RegisterClient::new(number, load.keys)));
        let lockers = (1..=load.lockers).map(|number| Self::Lock(LockHolder::new(number)));
        let queuers = (1..=load.queuers).map(|number| Self::Queue(QueueClient::new(number)));
        let workers = (1..=load.workers).map(|number| Self::Work(WorkClient::new(number)));
        registers.chain(lockers).chain(queuers).chain(workers).collect()
    }
}

struct Asking {
    /// Of the attempt that awaits its answer; 0: none does.
    token: u64,
    node: Option<usize>,
    through_member: bool,
    request: Request,
    options: Options,
    once: bool,
    start_us: u64,
    /// When its last attempt began.
    sent_us: u64,
}

pub struct Actor {
    pub role: Role,
    number: usize,
    asking: Option<Asking>,
    /// The node that it goes to.
    home: Option<usize>,
    /// Writes with a name, and up to which of them it knows what became of each.
    seq: u64,
    answered: u64,
    turn_us: u64,
}

impl Actor {
    pub fn new(role: Role, number: usize) -> Self {
        Self { role, number, asking: None, home: None, seq: 0, answered: 0, turn_us: 0 }
    }

    /// Whether it waits for no answer.
    pub fn is_idle(&self) -> bool {
        self.asking.is_none()
    }

    /// Since when it waits for one, microseconds.
    pub fn asking_since_us(&self) -> Option<u64> {
        self.asking.as_ref().map(|asking| asking.start_us)
    }

    /// Some give up while a leader that was cut off still believes to lead.
    fn patience_us(&self) -> u64 {
        if self.number.is_multiple_of(4) { 600_000 } else { 4_000_000 }
    }

    /// The name of a write: sent again, it is applied once.
    fn id(&mut self, request: &Request, once: bool) -> Option<RequestId> {
        if once || !matches!(request, Request::Write(_)) {
            return None;
        }
        self.seq += 1;
        let answered_below = if self.answered == 0 { 0 } else { self.answered + 1 };
        // Drawn before the simulated network began, so that it is not in the future by any node's clock.
        let client = RequestId::draw(1, self.number as u128 + 1);
        Some(RequestId { client, seq: self.seq, answered_below })
    }

    /// A write under this name was answered, and so was each before it.
    fn has_answer(&mut self, id: Option<RequestId>) {
        if let Some(id) = id.filter(|id| id.seq == self.answered + 1) {
            self.answered = id.seq;
        }
    }
}

impl Strong {
    pub(super) fn plan_actor(&mut self, number: usize, at_us: u64) {
        self.actors[number].turn_us = at_us;
        self.plan(at_us, Turn::Actor(number));
    }

    /// It is a client's turn: it has nothing to do, or has waited too long, or tries again.
    pub(super) fn act(&mut self, world: &mut World, number: usize) {
        let now_us = world.now_us();
        let actor = &self.actors[number];
        if actor.turn_us != now_us {
            return;
        }
        match &actor.asking {
            Some(asking) if now_us >= asking.start_us + actor.patience_us() => {
                self.end(number, now_us, Told::Unknown);
            }
            Some(_) => self.send(world, number),
            None if self.asks() => self.begin_next(world, number),
            None => {}
        }
    }

    fn begin_next(&mut self, world: &mut World, number: usize) {
        let (now_us, draw) = (world.now_us(), self.below(u64::MAX));
        let actor = &mut self.actors[number];
        let step = match &mut actor.role {
            Role::Register(client) => client.next(draw),
            Role::Lock(holder) => holder.next(now_us / 1000, draw),
            Role::Queue(client) => client.next(draw),
            Role::Work(client) => client.next(draw),
        };
        match step {
            Step::Wait(ms) => self.plan_actor(number, now_us + ms.max(1) * 1000),
            Step::Ask { request, fence, once, stale } => {
                // Only a name protects a write from a network that doubles messages.
                let id = actor.id(&request, once && !self.is_doubling);
                let options = Options { timeout_ms: 0, stale, id, fence };
                let (node, through_member) = (None, false);
                actor.asking = Some(Asking {
                    token: 0,
                    node,
                    through_member,
                    request,
                    options,
                    once,
                    start_us: now_us,
                    sent_us: now_us,
                });
                self.send(world, number);
            }
        }
    }

    fn send(&mut self, world: &mut World, number: usize) {
        let now_us = world.now_us();
        let token = self.token();
        let home = self.actors[number].home.filter(|home| world.is_up(*home));
        let home = home.or_else(|| self.pick(world, number.is_multiple_of(2)));
        let actor = &mut self.actors[number];
        let patience_us = actor.patience_us();
        actor.home = home;
        let Some(asking) = &mut actor.asking else { return };
        let left_us = (asking.start_us + patience_us).saturating_sub(now_us);
        let Some(home) = home else {
            self.plan_actor(number, now_us + left_us.clamp(1, 100_000));
            return;
        };
        asking.token = token;
        asking.sent_us = now_us;
        asking.node = Some(home);
        asking.through_member = world.is_member(home, STRONG_KEYSPACE);
        let options = Options { timeout_ms: left_us.div_ceil(1000), ..asking.options.clone() };
        let request = asking.request.clone();
        // Nobody may ever answer.
        self.plan_actor(number, now_us + left_us + 1);
        world.ask(
            home,
            Input::Strong(StrongInput::Request { token, keyspace: STRONG_KEYSPACE.into(), request, options }),
        );
    }

    pub(super) fn on_answer(&mut self, world: &World, token: u64, result: Result<Answer, Failure>) {
        let asked = |actor: &Actor| actor.asking.as_ref().is_some_and(|asking| asking.token == token);
        let Some(number) = self.actors.iter().position(asked) else {
            return self.on_rival_answer(world, token, result);
        };
        let now_us = world.now_us();
        match result {
            Ok(answer) => {
                self.revision = self.revision.max(answer.revision);
                self.end(number, now_us, Told::Answer(answer));
            }
            Err(Failure::Refused(refusal)) => self.end(number, now_us, Told::Refused(refusal)),
            Err(failure) => {
                self.measured.failed(&failure);
                self.attempt_failed(number, now_us);
                self.after_failure(number, now_us, &failure);
            }
        }
    }

    /// An attempt of a client at one node has failed.
    fn attempt_failed(&mut self, number: usize, now_us: u64) {
        if let Some(asking) = &mut self.actors[number].asking {
            let is_write = matches!(asking.request, Request::Write(_));
            asking.token = 0;
            // A replica that is none cannot serve a stale read.
            if !asking.options.stale {
                self.measured.attempted(number, is_write, [asking.sent_us, now_us], false);
            }
        }
    }

    fn after_failure(&mut self, number: usize, now_us: u64, failure: &Failure) {
        if self.actors[number].asking.as_ref().is_some_and(|asking| asking.once) {
            let told = if changed_nothing(failure) { Told::Failed } else { Told::Unknown };
            self.end(number, now_us, told);
        } else {
            self.again(number, now_us);
        }
    }

    /// The same request again, perhaps elsewhere, unless its time is over.
    fn again(&mut self, number: usize, now_us: u64) {
        let (pause_us, moves) = (5_000 + self.below(100_000), self.below(2) == 0);
        let actor = &mut self.actors[number];
        if moves {
            actor.home = None;
        }
        let Some(asking) = &mut actor.asking else { return };
        (asking.token, asking.node) = (0, None);
        let left_us = (asking.start_us + actor.patience_us()).saturating_sub(now_us);
        self.plan_actor(number, now_us + pause_us.min(left_us).max(1));
    }

    /// A node has gone with what it was asked: its clients hear of it at once.
    pub(super) fn on_down(&mut self, world: &World, node: usize) {
        let now_us = world.now_us();
        for number in 0..self.actors.len() {
            let asking = self.actors[number].asking.as_ref().filter(|asking| asking.node == Some(node));
            let once = asking.map(|asking| asking.once);
            if once.is_some() {
                self.attempt_failed(number, now_us);
            }
            match once {
                Some(true) => self.end(number, now_us, Told::Unknown),
                Some(false) => self.again(number, now_us),
                None => {}
            }
        }
        self.watches_down(world, node);
        self.on_rivals_down(world, node);
    }

    fn end(&mut self, number: usize, now_us: u64, result: Told) {
        let pause_us = 1 + self.below((self.load.pause_ms * 1000.0) as u64);
        let actor = &mut self.actors[number];
        let Some(asking) = actor.asking.take() else { return };
        if matches!(result, Told::Answer(_) | Told::Refused(_)) {
            actor.has_answer(asking.options.id);
        }
        let is_write = matches!(asking.request, Request::Write(_));
        let succeeded = matches!(result, Told::Answer(_) | Told::Refused(_));
        if asking.token != 0 && !asking.options.stale {
            self.measured.attempted(number, is_write, [asking.sent_us, now_us], succeeded);
        }
        if !asking.once {
            self.measured.requested(number, is_write, [asking.start_us, now_us], succeeded);
        }
        if matches!(result, Told::Answer(_)) {
            self.answered_in_the_end += 1;
            self.measured.answered(asking.start_us, now_us, is_write, asking.through_member);
            if is_write {
                self.leaders.written(asking.start_us, now_us);
            }
        }
        let outcome = Outcome { start_us: asking.start_us, now_us, result };
        let (checked, invariant) = match &mut actor.role {
            Role::Register(client) => (client.learn(outcome), "linearizable"),
            Role::Lock(holder) => (holder.learn(outcome), "exclusion"),
            Role::Queue(client) => (client.learn(outcome), "once"),
            Role::Work(client) => (client.learn(outcome), "done once"),
        };
        self.note(invariant, checked);
        self.plan_actor(number, now_us + pause_us);
    }
}

/// Whether the failure says that nothing was changed.
fn changed_nothing(failure: &Failure) -> bool {
    match failure {
        Failure::NoSuchKeyspace(_)
        | Failure::Ambiguous(_)
        | Failure::NoMajority { .. }
        | Failure::Timeout(_)
        | Failure::NoReplica(_)
        | Failure::Overloaded => true,
        Failure::Refused(_)
        | Failure::OutcomeUnknown(_)
        | Failure::Unconfirmed { .. }
        | Failure::Diverged(_)
        | Failure::Storage(_) => false,
    }
}
