//! Holders of one lock.

use starling_history::{Checked, GUARDED, LOCK, LOCK_KEYS, LockAnswer, LockAsk, LockStep, Locker};
use starling_kv::engine::prefix_end;
use starling_strong::api::{Body, Fence, Keys, Put, Range, Read, Request, Write};

use super::actors::{Outcome, Step, Told};
use crate::scenario::GAIN_PERMILLE_MAX;

/// A lease's time without a sign of life.
const TTL_MS: u64 = 2_000;

/// Wants the lock again and again.
pub struct LockHolder {
    pub locker: Locker,
}

impl LockHolder {
    pub fn new(number: usize) -> Self {
        // The leader's clock may gain.
        let sure_ms = TTL_MS * 1_000 / (1_000 + GAIN_PERMILLE_MAX as u64);
        Self { locker: Locker::new(number as u64, TTL_MS, sure_ms) }
    }

    pub fn next(&mut self, now_ms: u64, draw: u64) -> Step {
        let ask = match self.locker.next(now_ms, draw) {
            LockStep::Wait(ms) => return Step::Wait(ms),
            LockStep::Ask(ask) => ask,
        };
        let mut fence = None;
        let request = match ask {
            LockAsk::Grant { lease, ttl_ms } => Request::Write(Write::LeaseGrant { id: lease, ttl_ms }),
            LockAsk::Queue { lease, key } => put(key, Vec::new(), lease),
            LockAsk::Look => {
                let keys = Keys::Range { from: LOCK_KEYS.to_vec(), to: prefix_end(LOCK_KEYS) };
                Request::Read(Read::Range(Range { keys_only: true, ..Range::of(keys) }))
            }
            LockAsk::KeepAlive { lease } => Request::KeepAlive { id: lease },
            LockAsk::Write { token } => {
                fence = Some(Fence { lock: LOCK.to_vec(), token });
                put(GUARDED.to_vec(), token.to_string().into_bytes(), 0)
            }
            LockAsk::Revoke { lease } => Request::Write(Write::LeaseRevoke { id: lease }),
        };
        Step::Ask { request, fence, once: false, stale: false }
    }

    pub fn learn(&mut self, outcome: Outcome) -> Checked {
        let Outcome { start_us, now_us, result } = outcome;
        let answer = match result {
            Told::Answer(answer) => match answer.body {
                Body::Range(found) => {
                    let keys = found.kvs.into_iter().map(|kv| (kv.key, kv.create_revision));
                    LockAnswer::Found(keys.collect())
                }
                _ => LockAnswer::Done,
            },
            Told::Refused(refusal) => LockAnswer::Refused(refusal.to_string()),
            Told::Failed => LockAnswer::Failed,
            Told::Unknown => LockAnswer::Unknown,
        };
        self.locker.learn(now_us / 1000, start_us / 1000, &answer)
    }
}

fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> Request {
    Request::Write(Write::Put(Put { key, value: Some(value), lease: Some(lease), prev: false }))
}
