//! Clients that hold a lock, and clients that push and pop a queue. What they make of the answers is
//! `starling_history`'s; here their wishes are put into the API's words.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use starling_api::strong::{Body, Fence, KeyValue, Keys, Put, Range, Request, StrongAnswer, Write};
use starling_history::{
    GUARDED, LOCK, LOCK_KEYS, LockAnswer, LockAsk, LockStep, Locker, QUEUE, QueueAnswer, QueueAsk, Queuer,
};
use tokio::time::sleep;

use super::asking::{Asked, Asker, Fate, Manner};

/// How long a lease lasts.
const TTL_MS: u64 = 2_000;
/// All processes share one clock, in milliseconds: so much may be lost in rounding.
const ROUNDING_MS: u64 = 5;
/// Pause between two steps, at most.
const PAUSE_MS: u64 = 50;

/// A client that wants the lock.
pub struct LockClient {
    locker: Locker,
    asker: Asker,
}

impl LockClient {
    /// Nobody else has its number.
    pub fn new(number: u64, asker: Asker) -> Self {
        Self { locker: Locker::new(number, TTL_MS, TTL_MS - ROUNDING_MS), asker }
    }

    /// Goes on until it is told to stop.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> Locker {
        while !stop.load(Ordering::Relaxed) {
            let (now, draw) = (self.asker.tally.now_us() / 1_000, self.asker.random.random());
            match self.locker.next(now, draw) {
                LockStep::Wait(ms) => sleep(Duration::from_millis(ms)).await,
                LockStep::Ask(ask) => self.ask(ask).await,
            }
            let pause = self.asker.random.random_range(0..=PAUSE_MS);
            sleep(Duration::from_millis(pause)).await;
        }
        self.locker
    }

    async fn ask(&mut self, ask: LockAsk) {
        let put = |key: Vec<u8>, value: String, lease| {
            Request::from(Write::Put(Put { lease: Some(lease), ..Put::new(key, value) }))
        };
        let mut fence = None;
        let (kind, manner, request) = match ask {
            LockAsk::Grant { lease, ttl_ms } => {
                ("lease granted", Manner::Named, Write::LeaseGrant { id: lease, ttl_ms }.into())
            }
            LockAsk::Queue { lease, key } => {
                ("lock queued for", Manner::Named, put(key, String::new(), lease))
            }
            LockAsk::Look => {
                let range = Range { keys_only: true, ..Range::of(Keys::prefix(LOCK_KEYS.into())) };
                ("lock looked at", Manner::Repeated, range.into())
            }
            LockAsk::KeepAlive { lease } => {
                ("lease kept alive", Manner::Repeated, Request::KeepAlive { id: lease })
            }
            LockAsk::Write { token } => {
                fence = Some(Fence { lock: LOCK.into(), token });
                ("fenced put", Manner::Named, put(GUARDED.to_vec(), token.to_string(), 0))
            }
            LockAsk::Revoke { lease } => {
                ("lease revoked", Manner::Named, Write::LeaseRevoke { id: lease }.into())
            }
        };
        let Asked { start, end, fate } = self.asker.ask(kind, manner, request, fence).await;
        let answer = match fate {
            Fate::Done(StrongAnswer { body: Body::Range(found), .. }) => {
                let pair = |kv: KeyValue| (kv.key, kv.create_revision);
                LockAnswer::Found(found.kvs.into_iter().map(pair).collect())
            }
            Fate::Done(_) => LockAnswer::Done,
            Fate::Refused(body) => LockAnswer::Refused(body.to_string()),
            Fate::Failed => LockAnswer::Failed,
            Fate::Unknown => LockAnswer::Unknown,
        };
        let learned = self.locker.learn(end / 1_000, start / 1_000, &answer);
        self.asker.tally.check(learned);
    }
}

/// A client of the queue.
pub struct QueueClient {
    queuer: Queuer,
    asker: Asker,
}

impl QueueClient {
    /// Nobody else has its number.
    pub fn new(number: u64, asker: Asker) -> Self {
        Self { queuer: Queuer::new(number), asker }
    }

    /// Goes on until it is told to stop.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> Queuer {
        while !stop.load(Ordering::Relaxed) {
            let draw = self.asker.random.random();
            self.step(draw).await;
            let pause = self.asker.random.random_range(0..=2 * PAUSE_MS);
            sleep(Duration::from_millis(pause)).await;
        }
        self.queuer
    }

    async fn step(&mut self, draw: u64) {
        let (kind, write) = match self.queuer.next(draw) {
            QueueAsk::Push(value) => {
                ("queue push", Write::PutSequential { prefix: QUEUE.into(), value, lease: 0 })
            }
            QueueAsk::Pop => ("queue pop", Write::PopFirst { keys: Keys::prefix(QUEUE.into()) }),
        };
        let Asked { fate, .. } = self.asker.ask(kind, Manner::Named, write.into(), None).await;
        let answer = match fate {
            Fate::Done(StrongAnswer { body: Body::Sequential { .. }, .. }) => QueueAnswer::Pushed,
            Fate::Done(StrongAnswer { body: Body::Popped { first }, .. }) => {
                QueueAnswer::Popped(first.map(|kv| kv.value))
            }
            Fate::Failed => QueueAnswer::Failed,
            Fate::Unknown => QueueAnswer::Unknown,
            Fate::Done(answer) => {
                self.asker.tally.note(format!("this is no answer of a queue: {answer:?}"));
                QueueAnswer::Unknown
            }
            Fate::Refused(body) => {
                self.asker.tally.note(format!("{kind} was refused: {body}"));
                QueueAnswer::Unknown
            }
        };
        let learned = self.queuer.learn(answer);
        self.asker.tally.check(learned);
    }
}
