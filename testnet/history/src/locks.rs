//! Holders of one lock. Each grants itself a lease, queues up with a key on it, and holds the lock while its
//! key is the first. Some fall silent while they hold it, and write with their token when it is too late.
//! Times are milliseconds.

use std::collections::BTreeMap;

use crate::log::{Log, take};
use crate::{Checked, Violation, ensure};

/// The lock's name.
pub const LOCK: &[u8] = b"lock";
/// What the keys of those begin with who hold it or wait for it.
pub const LOCK_KEYS: &[u8] = b"lock/";
/// What only the holder writes: its token.
pub const GUARDED: &[u8] = b"guarded";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Granting,
    Queueing,
    Looking,
    Waiting,
    Holding(u64),
    Renewing(Option<u64>),
    Writing(u64),
    /// Fell silent, and wakes up with this token.
    Zombie(u64),
    WritingLate(u64),
    Releasing,
}

/// What a holder asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockAsk {
    /// Make a lease of so long.
    Grant {
        /// Its name.
        lease: i64,
        /// Its time without a sign of life.
        ttl_ms: u64,
    },
    /// Put this key, on a lease.
    Queue {
        /// Which lease.
        lease: i64,
        /// The key.
        key: Vec<u8>,
    },
    /// The keys under [`LOCK_KEYS`], without values.
    Look,
    /// Start the lease's time again.
    KeepAlive {
        /// Which lease.
        lease: i64,
    },
    /// Put [`GUARDED`] as holder of [`LOCK`] with this token, which is the value too.
    Write {
        /// Create revision of the holder's key.
        token: u64,
    },
    /// End the lease.
    Revoke {
        /// Which lease.
        lease: i64,
    },
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockAnswer {
    /// It was done.
    Done,
    /// Keys that were found, with their create revisions.
    Found(Vec<(Vec<u8>, u64)>),
    /// Refused: the lease, or the token, is good no more.
    Refused(String),
    /// It may have been done or not.
    Unknown,
    /// It was said to have changed nothing.
    Failed,
}

/// What it does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockStep {
    /// Ask for this, and learn what comes of it.
    Ask(LockAsk),
    /// Nothing for so long, milliseconds.
    Wait(u64),
}

/// Writes under the lock with one token.
#[derive(Clone, Copy, Debug, Default)]
struct Writes {
    acknowledged: usize,
    unknown: usize,
}

/// One client that wants the lock again and again.
#[derive(Clone, Debug)]
pub struct Locker {
    number: u64,
    ttl_ms: u64,
    /// For so long after it was kept alive a lease does not end.
    sure_ms: u64,
    lease: i64,
    state: State,
    /// The lease lasts until then, whoever leads.
    sure_until: u64,
    /// Since when it holds the lock.
    held_since: Option<u64>,
    /// When it held the lock for certain: from, to.
    held: Vec<(u64, u64)>,
    writes: BTreeMap<u64, Writes>,
    refused_late: u64,
}

impl Locker {
    /// Its leases last `ttl_ms`, and on the slowest clock that counts at least `sure_ms`. Nobody else has its
    /// number.
    pub fn new(number: u64, ttl_ms: u64, sure_ms: u64) -> Self {
        Self {
            number,
            ttl_ms,
            sure_ms,
            lease: (number * 1_000_000).cast_signed(),
            state: State::Idle,
            sure_until: 0,
            held_since: None,
            held: Vec::new(),
            writes: BTreeMap::new(),
            refused_late: 0,
        }
    }

    /// How often it held the lock, wrote under it, and was refused because it came too late.
    pub fn counts(&self) -> (u64, u64, u64) {
        let writes: usize = self.writes.values().map(|writes| writes.acknowledged).sum();
        (self.held.len() as u64, writes as u64, self.refused_late)
    }

    fn key(&self) -> Vec<u8> {
        [LOCK_KEYS, self.lease.to_string().as_bytes()].concat()
    }

    /// What it does now, by a number drawn at random.
    pub fn next(&mut self, now: u64, draw: u64) -> LockStep {
        match self.state {
            State::Idle => {
                self.lease += 1;
                self.ask(State::Granting, LockAsk::Grant { lease: self.lease, ttl_ms: self.ttl_ms })
            }
            State::Queueing => {
                let ask = LockAsk::Queue { lease: self.lease, key: self.key() };
                self.ask(State::Queueing, ask)
            }
            State::Waiting if draw.is_multiple_of(3) => self.renew(None),
            State::Waiting => self.ask(State::Looking, LockAsk::Look),
            State::Holding(token) => match draw % 16 {
                0 => {
                    self.close(now);
                    self.sure_until = 0;
                    self.ask(State::Releasing, LockAsk::Revoke { lease: self.lease })
                }
                1 => {
                    self.state = State::Zombie(token);
                    LockStep::Wait(1 + draw / 16 % (3 * self.ttl_ms))
                }
                2..=8 => self.renew(Some(token)),
                _ => self.ask(State::Writing(token), LockAsk::Write { token }),
            },
            State::Zombie(token) => self.ask(State::WritingLate(token), LockAsk::Write { token }),
            State::Granting
            | State::Looking
            | State::Renewing(_)
            | State::Writing(_)
            | State::WritingLate(_)
            | State::Releasing => {
                self.lose();
                LockStep::Wait(10)
            }
        }
    }

    fn ask(&mut self, state: State, ask: LockAsk) -> LockStep {
        self.state = state;
        LockStep::Ask(ask)
    }

    fn renew(&mut self, token: Option<u64>) -> LockStep {
        self.ask(State::Renewing(token), LockAsk::KeepAlive { lease: self.lease })
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
    fn gone(&mut self, now: u64, what: &str) -> Checked {
        ensure(now >= self.sure_until, || {
            format!("lease {} ended {} ms early: {what}", self.lease, self.sure_until - now)
        })?;
        self.lose();
        Ok(())
    }

    /// It learns at `now` what came of what it asked for first at `start`.
    pub fn learn(&mut self, now: u64, start: u64, answer: &LockAnswer) -> Checked {
        self.count_write(answer);
        let sure = start + self.sure_ms;
        match (self.state, answer) {
            (_, LockAnswer::Unknown | LockAnswer::Failed) => self.learn_nothing(),
            (State::Granting, LockAnswer::Done) => (self.state, self.sure_until) = (State::Queueing, sure),
            (State::Queueing, LockAnswer::Done) => self.state = State::Waiting,
            (State::Renewing(token), LockAnswer::Done) => {
                self.sure_until = self.sure_until.max(sure);
                self.state = token.map_or(State::Waiting, State::Holding);
            }
            (State::Looking, LockAnswer::Found(keys)) => return self.look(now, keys),
            (State::Writing(token), LockAnswer::Done) => self.state = State::Holding(token),
            (State::WritingLate(_), LockAnswer::Refused(_)) => {
                self.refused_late += 1;
                self.lose();
            }
            (State::Queueing | State::Renewing(_) | State::Writing(_), LockAnswer::Refused(why)) => {
                return self.gone(now, why);
            }
            _ => self.lose(),
        }
        Ok(())
    }

    fn count_write(&mut self, answer: &LockAnswer) {
        let (State::Writing(token) | State::WritingLate(token)) = self.state else { return };
        let writes = self.writes.entry(token).or_default();
        match answer {
            LockAnswer::Done => writes.acknowledged += 1,
            LockAnswer::Unknown => writes.unknown += 1,
            LockAnswer::Found(_) | LockAnswer::Refused(_) | LockAnswer::Failed => {}
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

    fn look(&mut self, now: u64, keys: &[(Vec<u8>, u64)]) -> Checked {
        let own = self.key();
        let Some((_, token)) = keys.iter().find(|(key, _)| *key == own) else {
            return self.gone(now, "its key is not there");
        };
        let is_first = keys.iter().all(|(_, other)| other >= token);
        self.state = if is_first { State::Holding(*token) } else { State::Waiting };
        if is_first && now < self.sure_until {
            self.held_since.get_or_insert(now);
        }
        Ok(())
    }
}

/// Every write under the lock carries the token of the one holder at its revision, and is there as often as
/// it was acknowledged; and no two held the lock at the same time.
pub fn check_locks<'l>(log: &Log, lockers: impl IntoIterator<Item = &'l Locker>) -> Checked {
    let mut written = written(log)?;
    let mut held: Vec<(u64, u64, u64)> = Vec::new();
    for locker in lockers {
        for (token, writes) in &locker.writes {
            let count = written.remove(token).unwrap_or_default();
            ensure((writes.acknowledged..=writes.acknowledged + writes.unknown).contains(&count), || {
                format!("{count} writes of token {token} are in the log, and of these is known: {writes:?}")
            })?;
        }
        held.extend(locker.held.iter().map(|(from, to)| (*from, *to, locker.number)));
    }
    ensure(written.is_empty(), || format!("writes of nobody, by token: {written:?}"))?;
    held.sort_unstable();
    match held.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => Err(Violation(format!("two held the lock (from, to, who): {pair:?}"))),
        None => Ok(()),
    }
}

/// How often each token was written.
fn written(log: &Log) -> Result<BTreeMap<u64, usize>, Violation> {
    let (mut holders, mut written) = (BTreeMap::new(), BTreeMap::new());
    for (revision, changes) in log.revisions() {
        for text in changes.iter().filter(|it| it.key == GUARDED).filter_map(|it| it.value.as_ref()) {
            let token = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            let holder = holders.values().map(|change: &&crate::Change| change.create_revision).min();
            ensure(token == holder, || {
                format!("token {token:?} was written at revision {revision}, and {holder:?} held the lock")
            })?;
            *written.entry(token.unwrap_or_default()).or_default() += 1;
        }
        let places = changes.iter().filter(|change| change.key.starts_with(LOCK_KEYS));
        places.for_each(|change| take(&mut holders, change));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::log_of;

    const TTL: u64 = 2_000;
    /// Draws that make a waiting client look, and a holder write or keep its lease.
    const LOOK: u64 = 1;
    const WRITE: u64 = 9;
    const KEEP: u64 = 2;

    /// A client that holds the lock with a token, on a lease granted at 0.
    fn holder(number: u64, token: u64, now: u64) -> Locker {
        let mut locker = Locker::new(number, TTL, TTL);
        for answer in [LockAnswer::Done, LockAnswer::Done] {
            locker.next(0, LOOK);
            locker.learn(0, 0, &answer).expect("in time");
        }
        locker.next(now, LOOK);
        let keys = vec![(locker.key(), token)];
        locker.learn(now, now, &LockAnswer::Found(keys)).expect("in time");
        locker
    }

    fn write(locker: &mut Locker, answer: &LockAnswer) {
        assert!(matches!(locker.next(10, WRITE), LockStep::Ask(LockAsk::Write { .. })));
        locker.learn(11, 10, answer).expect("in time");
    }

    #[test]
    fn writes_of_the_holder_pass() {
        let mut locker = holder(1, 2, 5);
        write(&mut locker, &LockAnswer::Done);
        write(&mut locker, &LockAnswer::Unknown);
        let log = [("lock/1", Some("")), ("guarded", Some("2")), ("lock/1", None)];
        check_locks(&log_of(&log), [&locker]).expect("it held the lock");
        let twice = [log[0], log[1], log[1], log[2]];
        check_locks(&log_of(&twice), [&locker]).expect("the second is not known");
        let thrice = [log[0], log[1], log[1], log[1]];
        check_locks(&log_of(&thrice), [&locker]).expect_err("applied twice");
        check_locks(&log_of(&log[..1]), [&locker]).expect_err("a lost write");
        check_locks(&log_of(&log[..2]), []).expect_err("nobody wrote it");
    }

    #[test]
    fn a_stale_token_in_the_log_is_found() {
        let mut locker = holder(1, 2, 5);
        write(&mut locker, &LockAnswer::Done);
        let log = [("lock/1", Some("")), ("lock/2", Some("")), ("lock/1", None), ("guarded", Some("2"))];
        check_locks(&log_of(&log), [&locker]).expect_err("another one held the lock");
    }

    #[test]
    fn two_holders_at_a_time_are_found() {
        let lost = |mut locker: Locker| {
            locker.next(TTL, KEEP);
            locker.learn(TTL, TTL, &LockAnswer::Refused("gone".into())).expect("late enough");
            locker
        };
        let log = log_of(&[]);
        check_locks(&log, [&lost(holder(1, 2, 5))]).expect("one");
        check_locks(&log, [&lost(holder(1, 2, 5)), &lost(holder(2, 3, 1_999))]).expect_err("two");
        check_locks(&log, [&lost(holder(1, 2, 5)), &lost(holder(2, 2, 5))]).expect_err("two of one token");
    }

    #[test]
    fn a_lease_that_ended_early_is_found() {
        let ended = |at: u64, kept_at: Option<u64>| {
            let mut locker = holder(1, 2, 5);
            if let Some(at) = kept_at {
                locker.next(at, KEEP);
                locker.learn(at, at, &LockAnswer::Done)?;
            }
            locker.next(at, KEEP);
            locker.learn(at, at, &LockAnswer::Refused("gone".into()))
        };
        ended(TTL, None).expect("in time");
        ended(TTL - 1, None).expect_err("early");
        ended(TTL + 500, Some(501)).expect_err("early after it was kept alive");
        ended(TTL + 501, Some(501)).expect("in time");
    }
}
