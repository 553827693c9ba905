//! Holders of one lock. Each grants itself a lease, queues up with a key on it, and holds the lock while its
//! key is the first. Some fall silent while they hold it, and write with their token when it is too late.

use std::collections::BTreeMap;

use starling_strong::api::{
    Answer, Body, EventKind, Fence, Keys, LeaseId, Put, Range, Read, Refusal, Request, Revision, Write,
};

use super::World;
use super::actors::{Outcome, Step};
use super::clients::get;
use super::scribe::replay;

const TTL_MS: u64 = 2_000;
/// A member's clock gains at most so many per mille: so much sooner may a lease end.
const FASTEST: u64 = 1_150;
const LOCK: &[u8] = b"lock";
/// What only the holder writes: its token.
const GUARDED: &[u8] = b"guarded";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Granting,
    Queueing,
    Looking,
    Waiting,
    Holding(Revision),
    Renewing(Option<Revision>),
    Writing(Revision),
    /// Fell silent, and wakes up with this token.
    Zombie(Revision),
    WritingLate(Revision),
    Releasing,
}

pub struct Locker {
    number: u64,
    lease: LeaseId,
    state: State,
    /// The lease lasts until then, whoever leads.
    sure_until: u64,
    /// Since when it holds the lock.
    held_since: Option<u64>,
    /// When it held the lock for certain: from, to.
    pub held: Vec<(u64, u64)>,
    pub writes: u64,
    pub late_writes: u64,
}

impl Locker {
    pub fn new(number: u64) -> Self {
        let lease = (number * 1_000_000).cast_signed();
        Self {
            number,
            lease,
            state: State::Idle,
            sure_until: 0,
            held_since: None,
            held: Vec::new(),
            writes: 0,
            late_writes: 0,
        }
    }

    fn key(&self) -> Vec<u8> {
        format!("lock/{}", self.lease).into_bytes()
    }

    pub fn next(&mut self, now: u64, draw: u64) -> Step {
        match self.state {
            State::Idle => {
                self.lease += 1;
                self.ask(State::Granting, Write::LeaseGrant { id: self.lease, ttl_ms: TTL_MS })
            }
            State::Queueing => {
                let put = Put {
                    key: self.key(),
                    value: Some(self.number.to_string().into_bytes()),
                    lease: Some(self.lease),
                    prev: false,
                };
                self.ask(State::Queueing, Write::Put(put))
            }
            State::Waiting if draw.is_multiple_of(3) => self.renew(None),
            State::Waiting => {
                self.state = State::Looking;
                let keys = Keys::Range { from: b"lock/".to_vec(), to: Some(b"lock0".to_vec()) };
                let range = Range { keys, keys_only: true, ..get(0) };
                Step::Ask { request: Request::Read(Read::Range(range)), fence: None }
            }
            State::Holding(token) => match draw % 16 {
                0 => self.release(now),
                1 => {
                    self.state = State::Zombie(token);
                    Step::Wait(1 + draw / 16 % (3 * TTL_MS))
                }
                2..=8 => self.renew(Some(token)),
                _ => self.write(State::Writing(token), token),
            },
            State::Zombie(token) => self.write(State::WritingLate(token), token),
            State::Granting
            | State::Looking
            | State::Renewing(_)
            | State::Writing(_)
            | State::WritingLate(_)
            | State::Releasing => {
                self.lose();
                Step::Wait(10)
            }
        }
    }

    fn ask(&mut self, state: State, write: Write) -> Step {
        self.state = state;
        Step::Ask { request: Request::Write(write), fence: None }
    }

    fn renew(&mut self, token: Option<Revision>) -> Step {
        self.state = State::Renewing(token);
        Step::Ask { request: Request::KeepAlive { id: self.lease }, fence: None }
    }

    fn release(&mut self, now: u64) -> Step {
        self.close(now);
        self.sure_until = 0;
        self.ask(State::Releasing, Write::LeaseRevoke { id: self.lease })
    }

    fn write(&mut self, state: State, token: Revision) -> Step {
        self.state = state;
        let value = Some(token.to_string().into_bytes());
        let put = Put { key: GUARDED.to_vec(), value, lease: Some(0), prev: false };
        let fence = Some(Fence { lock: LOCK.to_vec(), token });
        Step::Ask { request: Request::Write(Write::Put(put)), fence }
    }

    /// It held the lock until the earlier of now and the end of its lease.
    fn close(&mut self, now: u64) {
        if let Some(since) = self.held_since.take() {
            let until = now.min(self.sure_until);
            if since < until {
                self.held.push((since, until));
            }
        }
    }

    fn lose(&mut self) {
        self.close(self.sure_until);
        self.state = State::Idle;
    }

    /// Its lease is gone: then its time has to be over.
    fn gone(&mut self, now: u64, what: &str) {
        assert!(
            now >= self.sure_until,
            "lease {} ended {} ms early: {what}",
            self.lease,
            self.sure_until - now
        );
        self.lose();
    }

    pub fn learn(&mut self, now: u64, outcome: &Outcome) {
        let sure = outcome.start + TTL_MS * 1_000 / FASTEST;
        let Some(result) = &outcome.result else { return self.learn_nothing() };
        match (self.state, result) {
            (State::Granting, Ok(_)) => (self.state, self.sure_until) = (State::Queueing, sure),
            (State::Queueing, Ok(_)) => self.state = State::Waiting,
            (State::Renewing(token), Ok(_)) => {
                self.sure_until = self.sure_until.max(sure);
                self.state = token.map_or(State::Waiting, State::Holding);
            }
            (State::Looking, Ok(answer)) => self.look(now, answer),
            (State::Writing(token), Ok(_)) => {
                self.writes += 1;
                self.state = State::Holding(token);
            }
            (State::WritingLate(_), Err(Refusal::StaleFence { .. })) => {
                self.late_writes += 1;
                self.lose();
            }
            (State::Queueing | State::Renewing(_) | State::Writing(_), Err(refusal)) => {
                self.gone(now, &refusal.to_string());
            }
            _ => self.lose(),
        }
    }

    fn learn_nothing(&mut self) {
        match self.state {
            // What a renewal came to is not known: it may have worked.
            State::Renewing(token) => self.state = token.map_or(State::Waiting, State::Holding),
            State::Writing(token) => self.state = State::Holding(token),
            State::Looking => self.state = State::Waiting,
            _ => self.lose(),
        }
    }

    fn look(&mut self, now: u64, answer: &Answer) {
        let Body::Range(found) = &answer.body else { panic!("not what a range is answered") };
        let own = self.key();
        let Some(kv) = found.kvs.iter().find(|kv| kv.key == own) else {
            return self.gone(now, "its key is not there");
        };
        let is_first = found.kvs.iter().all(|other| other.create_revision >= kv.create_revision);
        self.state = if is_first { State::Holding(kv.create_revision) } else { State::Waiting };
        if is_first && now < self.sure_until {
            self.held_since.get_or_insert(now);
        }
    }
}

/// Every write under the lock carries the token of the one holder at its revision, and no two held it at
/// the same time.
pub fn check(world: &World, lockers: &[&Locker]) {
    let mut holders = BTreeMap::new();
    for (_, events) in world.scribe.changes.values() {
        for event in events {
            if event.kv.key == GUARDED && event.kind == EventKind::Put {
                let text = String::from_utf8_lossy(&event.kv.value).into_owned();
                let first = holders.values().min().copied();
                let at = event.kv.mod_revision;
                assert_eq!(text.parse().ok(), first, "the token written at revision {at}");
            }
        }
        for event in events.iter().filter(|event| event.kv.key.starts_with(b"lock/")) {
            replay(&mut holders, event);
        }
    }
    let mut held: Vec<(u64, u64, u64)> = lockers
        .iter()
        .flat_map(|locker| locker.held.iter().map(|(from, to)| (*from, *to, locker.number)))
        .collect();
    held.sort_unstable();
    for pair in held.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two held the lock (from, to, who): {pair:?}");
    }
}
