//! Reads in bounded steps. All reads that are served in one step share one portion of rows, so that heartbeats wait
//! for one portion at most. Further reads of single keys wait for the next step. A read of many keys that is not done
//! within the portion continues in portions of its own, which the group's other work interrupts; see `work`.

use std::collections::VecDeque;

use starling_kv::{Engine, Error};

use super::requests::{Query, Waiter};
use super::{Group, Token};
use crate::api::{Answer, Failure, Keys, Read, Refusal};
use crate::machine::{Reading, Room};

/// What one portion visits, about. A guess: a few milliseconds of work when the rows are cached.
const PORTION: Room = Room { rows: 2048, bytes: 1 << 20 };
/// Long reads that advance in turn; further ones wait until one is done. Each holds at most the bytes of one answer.
const ACTIVE_MAX: usize = 8;

/// The reads that were not done in the shared portion.
pub struct LongReads {
    active: VecDeque<(Waiter, Reading)>,
    /// Reads that have not begun.
    waiting: VecDeque<(Waiter, Read)>,
    /// What is left of the shared portion.
    room: Room,
}

impl Default for LongReads {
    fn default() -> Self {
        Self { active: VecDeque::new(), waiting: VecDeque::new(), room: PORTION }
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
        self.room = PORTION;
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
    fn next(&mut self) -> Option<(Waiter, Result<Reading, Read>)> {
        if self.active.len() < ACTIVE_MAX
            && let Some((waiter, read)) = self.waiting.pop_front()
        {
            return Some((waiter, Err(read)));
        }
        self.active.pop_front().map(|(waiter, reading)| (waiter, Ok(reading)))
    }
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
        if self.long_reads.is_used_up() {
            if is_long(&read) {
                self.long_reads.waiting.push_back((waiter, read));
            } else {
                self.requests.serve_later(vec![(waiter, Query::Read(read))]);
            }
            return;
        }
        let mut reading = self.machine.begin_read(&read);
        match self.machine.go_on(&mut reading, &mut self.long_reads.room) {
            // What it has found is dropped: many reads may wait, and their results could take much memory.
            Ok(None) => self.long_reads.waiting.push_back((waiter, read)),
            result => self.answer_read(waiter, result),
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
        let mut reading = next.unwrap_or_else(|read| self.machine.begin_read(&read));
        match self.machine.go_on(&mut reading, &mut { PORTION }) {
            Ok(None) => self.long_reads.active.push_back((waiter, reading)),
            result => self.answer_read(waiter, result),
        }
        true
    }

    /// Answers a read. An error of the engine does not stop the group: a read changes nothing, and the next one may
    /// succeed.
    fn answer_read(&mut self, waiter: Waiter, result: Result<Option<Result<Answer, Refusal>>, Error>) {
        let result = match result {
            Ok(Some(result)) => result.map_err(Failure::from),
            Ok(None) => Err(Failure::Overloaded),
            Err(error) => Err(Failure::Storage(error.to_string())),
        };
        self.answer(waiter.token, result);
    }
}
