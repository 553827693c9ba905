//! Reads in bounded steps. All reads that are served in one step share one portion of rows, so that heartbeats wait
//! for one portion at most. Further reads of single keys wait for the next step. A read of many keys that is not done
//! within the portion continues in portions of its own, which the group's other work interrupts; see `work`. A write of
//! many keys is measured in the same way before it is proposed.

use std::collections::VecDeque;

use starling_kv::{Engine, Error};

use super::requests::{Query, Waiter};
use super::{Group, Token};
use crate::api::{Answer, Failure, Keys, Read, Refusal};
use crate::machine::{Command, Measuring, Reading, Room};

/// What one portion visits, about. A guess: a few milliseconds of work when the rows are cached.
const PORTION: Room = Room { rows: 2048, bytes: 1 << 20 };
/// Long reads that advance in turn; further ones wait until one is done. Each holds at most the bytes of one answer.
const ACTIVE_MAX: usize = 8;

/// A read that has not begun, or a command whose rows are to be measured before it is proposed.
enum Job {
    Read(Read),
    Measure(Command),
}

/// A job that has begun.
enum Begun {
    Read(Reading),
    Measure(Measuring, Command),
}

impl Begun {
    /// The job, to be begun again.
    fn into_job(self) -> Job {
        match self {
            Self::Read(reading) => Job::Read(reading.into_read()),
            Self::Measure(_, command) => Job::Measure(command),
        }
    }
}

/// The reads that were not done in the shared portion.
pub struct LongReads {
    active: VecDeque<(Waiter, Begun)>,
    /// Those that have not begun.
    waiting: VecDeque<(Waiter, Job)>,
    /// What is left of the shared portion.
    room: Room,
}

impl Default for LongReads {
    fn default() -> Self {
        Self { active: VecDeque::new(), waiting: VecDeque::new(), room: portion() }
    }
}

impl LongReads {
    pub fn len(&self) -> usize {
        self.active.len() + self.waiting.len()
    }

    /// Whether the shared portion is used up.
    pub fn is_used_up(&self) -> bool {
        self.room.is_used_up()
    }

    /// Accounts in the shared portion for an answer that was made without rows.
    pub fn use_up(&mut self, bytes: usize) {
        self.room.take(bytes);
    }

    /// Ends the shared portion: the next reads have a new one.
    pub fn end_turn(&mut self) {
        self.room = portion();
    }

    /// Removes the reads whose deadline has passed, and adds their tokens to `late`.
    pub fn expire(&mut self, now_ms: u64, late: &mut Vec<Token>) {
        let mut waits = |waiter: &Waiter| {
            let waits = now_ms < waiter.deadline_ms;
            if !waits {
                late.push(waiter.token);
            }
            waits
        };
        self.active.retain(|(waiter, _)| waits(waiter));
        self.waiting.retain(|(waiter, _)| waits(waiter));
    }

    /// Removes all reads.
    pub fn take_all(&mut self) -> Vec<Waiter> {
        let active = self.active.drain(..).map(|(waiter, _)| waiter);
        active.chain(self.waiting.drain(..).map(|(waiter, _)| waiter)).collect()
    }

    /// The read to continue, or the next one to begin.
    fn next(&mut self) -> Option<(Waiter, Result<Begun, Job>)> {
        if self.active.len() < ACTIVE_MAX
            && let Some((waiter, job)) = self.waiting.pop_front()
        {
            return Some((waiter, Err(job)));
        }
        self.active.pop_front().map(|(waiter, begun)| (waiter, Ok(begun)))
    }
}

/// A portion that is not used yet.
fn portion() -> Room {
    #[cfg(planted)]
    if starling_planted::on(starling_planted::Bug::PortionWithoutBytes) {
        return Room { bytes: usize::MAX, ..PORTION };
    }
    PORTION
}

/// Whether a read may visit many rows.
pub fn is_long(read: &Read) -> bool {
    match read {
        Read::Range(range) => matches!(range.keys, Keys::Range { .. }),
        Read::Txn(_) => true,
        Read::Leases | Read::Hash => false,
    }
}

impl<E: Engine> Group<E> {
    /// Answers a read now, or queues it.
    pub(super) fn read(&mut self, waiter: Waiter, read: Read) {
        if self.long_reads.is_used_up() && !is_long(&read) {
            self.requests.serve_later(vec![(waiter, Query::Read(read))]);
        } else {
            self.start(waiter, Job::Read(read));
        }
    }

    /// Queues a command for the next proposal, once its rows are measured, if they may be many.
    pub(super) fn measure(&mut self, now_ms: u64, waiter: Waiter, command: Command) {
        let Some(command) = self.revoke_in_pieces(now_ms, waiter, command) else { return };
        match &command {
            Command::Write { write, .. } if self.machine.begin_measuring(write).is_some() => {
                self.start(waiter, Job::Measure(command));
            }
            _ => self.enqueue_for(waiter, command),
        }
    }

    /// Does a job in the shared portion, or queues it.
    fn start(&mut self, waiter: Waiter, job: Job) {
        if self.long_reads.is_used_up() {
            self.long_reads.waiting.push_back((waiter, job));
            return;
        }
        let Some(begun) = self.begin(waiter, job) else { return };
        let mut room = self.long_reads.room;
        // What it has found is dropped: many reads may wait, and their results could take much memory.
        if let Some(begun) = self.go_on(waiter, begun, &mut room) {
            self.long_reads.waiting.push_back((waiter, begun.into_job()));
        }
        self.long_reads.room = room;
    }

    fn begin(&mut self, waiter: Waiter, job: Job) -> Option<Begun> {
        match job {
            Job::Read(read) => Some(Begun::Read(self.machine.begin_read(&read))),
            Job::Measure(command) => {
                let measuring = match &command {
                    Command::Write { write, .. } => self.machine.begin_measuring(write),
                    _ => None,
                };
                let Some(measuring) = measuring else {
                    self.enqueue_for(waiter, command);
                    return None;
                };
                Some(Begun::Measure(measuring, command))
            }
        }
    }

    /// Continues a job, and returns it if there is more to do.
    fn go_on(&mut self, waiter: Waiter, begun: Begun, room: &mut Room) -> Option<Begun> {
        match begun {
            Begun::Read(mut reading) => match self.machine.go_on(&mut reading, room) {
                Ok(None) => return Some(Begun::Read(reading)),
                Ok(Some(result)) => self.answer(waiter.token, result.map_err(Failure::from)),
                Err(error) => self.fail_read(waiter, &error),
            },
            Begun::Measure(mut measuring, command) => match self.machine.measure(&mut measuring, room) {
                Ok(None) => return Some(Begun::Measure(measuring, command)),
                Ok(Some(Ok(()))) => self.enqueue_for(waiter, command),
                Ok(Some(Err(refusal))) => self.reject(waiter, &command, refusal),
                Err(error) => self.fail_read(waiter, &error),
            },
        }
        None
    }

    /// Rejects a command that was not proposed. One with a request id may have been sent before: then the answer to
    /// that one is returned, which is in the log.
    fn reject(&mut self, waiter: Waiter, command: &Command, refusal: Refusal) {
        match command {
            Command::Write { id: Some(id), .. } => {
                self.enqueue_for(waiter, Command::Refuse { id: *id, refusal });
            }
            _ => self.answer(waiter.token, Err(refusal.into())),
        }
    }

    /// The answer to a read of few rows, which are accounted for in the shared portion.
    pub(super) fn read_few(&mut self, read: &Read) -> Result<Result<Answer, Refusal>, Error> {
        let mut room = Room::ALL;
        let answer = self.machine.read_within(read, &mut room);
        self.long_reads.room.use_up(room.used());
        answer
    }

    /// Does one portion of one long read. Returns whether there was one.
    pub(super) fn read_on(&mut self) -> bool {
        let Some((waiter, next)) = self.long_reads.next() else { return false };
        let begun = match next {
            Ok(begun) => Some(begun),
            Err(job) => self.begin(waiter, job),
        };
        if let Some(begun) = begun
            && let Some(begun) = self.go_on(waiter, begun, &mut portion())
        {
            self.long_reads.active.push_back((waiter, begun));
        }
        true
    }

    /// Answers a read that failed. The group does not stop: a read changes nothing, and the next one may succeed.
    fn fail_read(&mut self, waiter: Waiter, error: &Error) {
        self.answer(waiter.token, Err(Failure::Storage(error.to_string())));
    }
}
