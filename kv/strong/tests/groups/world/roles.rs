//! The roles of actors: hold a lock, push and pop a queue, compact. This module translates their operations into
//! requests of the keyspace; `starling_history` evaluates the answers.

use starling_history::{
    GUARDED, LOCK, LockAnswer, LockAsk, LockStep, Locker, QUEUE, QueueAnswer, QueueAsk, Queuer,
};
use starling_strong::api::{
    Answer, Body, Fence, KeyValue, Keys, Put, Range, Read, Refusal, Request, Revision, Write,
};

use super::actors::{Outcome, Step};
use super::clients::get;

const TTL_MS: u64 = 2_000;
/// Per mille by which a member's clock may be fast, at most, and by which a lease may therefore expire early.
const FASTEST: u64 = 1_150;
/// Revisions that are kept.
const KEPT: Revision = 250;

pub enum Role {
    Locker(Locker),
    Queuer(Queuer),
    Janitor(Janitor),
}

/// An actor that holds the lock now and then.
pub fn locker(number: u64) -> Role {
    Role::Locker(Locker::new(number, TTL_MS, TTL_MS * 1_000 / FASTEST))
}

/// An actor that pushes and pops.
pub fn queuer(number: u64) -> Role {
    Role::Queuer(Queuer::new(number))
}

/// An actor that compacts.
pub fn janitor() -> Role {
    Role::Janitor(Janitor { compacted: 0 })
}

impl Role {
    /// What it does now, by a number drawn at random; `last` is the last revision.
    pub fn next(&mut self, now: u64, draw: u64, last: Revision) -> Step {
        match self {
            Self::Locker(locker) => match locker.next(now, draw) {
                LockStep::Wait(ms) => Step::Wait(ms),
                LockStep::Ask(ask) => lock_request(ask),
            },
            Self::Queuer(queuer) => {
                let write = match queuer.next(draw) {
                    QueueAsk::Push(value) => Write::PutSequential { prefix: QUEUE.to_vec(), value, lease: 0 },
                    QueueAsk::Pop => {
                        let keys = Keys::Range { from: QUEUE.to_vec(), to: Some(b"queue0".to_vec()) };
                        Write::PopFirst { keys }
                    }
                };
                Step::Ask { request: Request::Write(write), fence: None }
            }
            Self::Janitor(janitor) => janitor.next(last),
        }
    }

    pub fn learn(&mut self, now: u64, outcome: Outcome) {
        let checked = match self {
            Self::Locker(locker) => locker.learn(now, outcome.start, &lock_answer(outcome.result)),
            Self::Queuer(queuer) => queuer.learn(queue_answer(outcome.result)),
            Self::Janitor(_) => Ok(()),
        };
        checked.unwrap_or_else(|violation| panic!("{violation}"));
    }
}

fn lock_request(ask: LockAsk) -> Step {
    let put = |key: Vec<u8>, value: String, lease| {
        Request::Write(Write::Put(Put {
            key,
            value: Some(value.into_bytes()),
            lease: Some(lease),
            prev: false,
        }))
    };
    let mut fence = None;
    let request = match ask {
        LockAsk::Grant { lease, ttl_ms } => Request::Write(Write::LeaseGrant { id: lease, ttl_ms }),
        LockAsk::Queue { lease, key } => put(key, String::new(), lease),
        LockAsk::Look => {
            let keys = Keys::Range { from: b"lock/".to_vec(), to: Some(b"lock0".to_vec()) };
            Request::Read(Read::Range(Range { keys, keys_only: true, ..get(0) }))
        }
        LockAsk::KeepAlive { lease } => Request::KeepAlive { id: lease },
        LockAsk::Write { token } => {
            fence = Some(Fence { lock: LOCK.to_vec(), token });
            put(GUARDED.to_vec(), token.to_string(), 0)
        }
        LockAsk::Revoke { lease } => Request::Write(Write::LeaseRevoke { id: lease }),
    };
    Step::Ask { request, fence }
}

fn lock_answer(result: Option<Result<Answer, Refusal>>) -> LockAnswer {
    match result {
        None => LockAnswer::Unknown,
        Some(Err(refusal)) => LockAnswer::Refused(refusal.to_string()),
        Some(Ok(Answer { body: Body::Range(found), .. })) => {
            let pair = |kv: KeyValue| (kv.key, kv.create_revision);
            LockAnswer::Found(found.kvs.into_iter().map(pair).collect())
        }
        Some(Ok(_)) => LockAnswer::Done,
    }
}

fn queue_answer(result: Option<Result<Answer, Refusal>>) -> QueueAnswer {
    match result.map(|result| result.expect("a queue refuses nothing").body) {
        None => QueueAnswer::Unknown,
        Some(Body::Sequential { .. }) => QueueAnswer::Pushed,
        Some(Body::Popped { first }) => QueueAnswer::Popped(first.map(|kv| kv.value)),
        Some(other) => panic!("not what a queue answers: {other:?}"),
    }
}

/// Compacts what is older than the last [`KEPT`] revisions.
pub struct Janitor {
    compacted: Revision,
}

impl Janitor {
    fn next(&mut self, last: Revision) -> Step {
        let revision = last.saturating_sub(KEPT);
        if revision < self.compacted + KEPT / 2 {
            return Step::Wait(500);
        }
        self.compacted = revision;
        Step::Ask { request: Request::Write(Write::Compact { revision }), fence: None }
    }
}
