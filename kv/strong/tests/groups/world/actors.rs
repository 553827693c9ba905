//! Clients with one task each, which they repeat: hold a lock, push and pop a queue, compact. Each request goes to
//! the presumed leader, and is sent again with the same request id until it is answered.

use starling_history::{check_locks, check_queue};
use starling_strong::api::{Answer, Failure, Fence, Options, Refusal, Request, RequestId};
use starling_strong::group::Input;

use super::World;
use super::roles::Role;

/// Tokens of their requests are above this.
const TOKENS: u64 = 1 << 40;
/// How long an actor waits for an answer.
const PATIENCE_MS: u64 = 3_000;

/// What an actor does next.
pub enum Step {
    Ask { request: Request, fence: Option<Fence> },
    Wait(u64),
}

/// The outcome of a request that was first sent at `start`.
pub struct Outcome {
    pub start: u64,
    /// The answer; `None` if the outcome is unknown.
    pub result: Option<Result<Answer, Refusal>>,
}

struct Asking {
    token: u64,
    request: Request,
    options: Options,
    start: u64,
}

pub struct Actor {
    pub role: Role,
    asking: Option<Asking>,
    hint: Option<usize>,
    seq: u64,
    turn_at: u64,
}

/// All of them.
#[derive(Default)]
pub struct Actors {
    pub all: Vec<Actor>,
    tokens: u64,
    pub stop: bool,
}

pub fn begin(world: &mut World, role: Role) {
    let number = world.actors.all.len();
    world.actors.all.push(Actor { role, asking: None, hint: None, seq: 0, turn_at: 0 });
    let after = world.below(200);
    schedule(world, number, after);
}

fn schedule(world: &mut World, number: usize, after: u64) {
    let at = world.now_ms + after.max(1);
    world.actors.all[number].turn_at = at;
    world.schedule_actor(at, number);
}

/// It is an actor's turn.
pub fn turn(world: &mut World, number: usize) {
    let now = world.now_ms;
    if world.actors.all[number].turn_at != now {
        return;
    }
    match &world.actors.all[number].asking {
        Some(asking) if now >= asking.start + PATIENCE_MS => end(world, number, None),
        Some(_) => send(world, number),
        None if world.actors.stop => {}
        None => next(world, number),
    }
}

fn next(world: &mut World, number: usize) {
    let (now, draw) = (world.now_ms, world.below(u64::MAX));
    let last = world.log.last();
    let actor = &mut world.actors.all[number];
    match actor.role.next(now, draw, last) {
        Step::Wait(ms) => schedule(world, number, ms),
        Step::Ask { request, fence } => {
            actor.seq += 1;
            let client = RequestId::draw(2, number as u128);
            let id = RequestId { client, seq: actor.seq, answered_below: 0 };
            let id = matches!(request, Request::Write(_)).then_some(id);
            let options = Options { timeout_ms: PATIENCE_MS, stale: false, id, fence };
            actor.asking = Some(Asking { token: 0, request, options, start: now });
            send(world, number);
        }
    }
}

fn send(world: &mut World, number: usize) {
    let up: Vec<usize> = (0..world.nodes.len()).filter(|node| world.is_up(*node)).collect();
    if up.is_empty() {
        schedule(world, number, 100);
        return;
    }
    let any = up[world.below(up.len() as u64) as usize];
    world.actors.tokens += 1;
    let token = TOKENS + world.actors.tokens;
    let now = world.now_ms;
    let actor = &mut world.actors.all[number];
    let node = actor.hint.take().filter(|hint| up.contains(hint)).unwrap_or(any);
    let Some(asking) = &mut actor.asking else { return };
    asking.token = token;
    let left = (asking.start + PATIENCE_MS).saturating_sub(now);
    let options = Options { timeout_ms: left, ..asking.options.clone() };
    let request = asking.request.clone();
    schedule(world, number, left);
    world.feed(node, Input::Request { token, request, options });
}

/// Whether a token is one of an actor's.
pub fn owns(token: u64) -> bool {
    token > TOKENS
}

fn asked(world: &World, token: u64) -> Option<usize> {
    let is_it = |actor: &Actor| actor.asking.as_ref().is_some_and(|asking| asking.token == token);
    world.actors.all.iter().position(is_it)
}

pub fn on_redirect(world: &mut World, token: u64, leader: Option<usize>) {
    let Some(number) = asked(world, token) else { return };
    world.actors.all[number].hint = leader;
    again(world, number);
}

/// Sends a request again with the same request id, unless its deadline has passed.
fn again(world: &mut World, number: usize) {
    let pause = 5 + world.below(100);
    let start = world.actors.all[number].asking.as_ref().map_or(0, |asking| asking.start);
    let left = (start + PATIENCE_MS).saturating_sub(world.now_ms);
    schedule(world, number, pause.min(left));
}

pub fn on_answer(world: &mut World, token: u64, result: Result<Answer, Failure>) {
    let Some(number) = asked(world, token) else { return };
    match result {
        Ok(answer) => end(world, number, Some(Ok(answer))),
        Err(Failure::Refused(refusal)) => end(world, number, Some(Err(refusal))),
        Err(_) => again(world, number),
    }
}

fn end(world: &mut World, number: usize, result: Option<Result<Answer, Refusal>>) {
    let (now, pause) = (world.now_ms, world.below(60));
    let actor = &mut world.actors.all[number];
    let Some(asking) = actor.asking.take() else { return };
    actor.role.learn(now, Outcome { start: asking.start, result });
    schedule(world, number, pause);
}

/// Checks all answers that the actors have received.
pub fn check(world: &World) {
    let lockers = world.actors.all.iter().filter_map(|actor| match &actor.role {
        Role::Locker(locker) => Some(locker),
        _ => None,
    });
    let queuers = world.actors.all.iter().filter_map(|actor| match &actor.role {
        Role::Queuer(queuer) => Some(queuer),
        _ => None,
    });
    check_locks(&world.log, lockers)
        .and_then(|()| check_queue(&world.log, queuers))
        .unwrap_or_else(|it| panic!("{it}"));
}

/// What the actors have encountered.
pub fn reached(world: &World) -> Vec<(&'static str, u64)> {
    let (mut held, mut writes, mut late_writes, mut popped) = (0, 0, 0, 0);
    for actor in &world.actors.all {
        match &actor.role {
            Role::Locker(locker) => {
                let (holds, under_it, late) = locker.counts();
                held += holds;
                writes += under_it;
                late_writes += late;
            }
            Role::Queuer(queuer) => popped += queuer.popped(),
            Role::Janitor(_) => {}
        }
    }
    vec![
        ("locks held", held),
        ("writes under a lock", writes),
        ("stale tokens refused", late_writes),
        ("items popped", popped),
    ]
}
