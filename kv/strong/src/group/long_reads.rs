//! Reads of many keys. All reads of one turn share one portion; what does not get done in it goes on portion
//! by portion, between everything else.

use std::collections::VecDeque;

use starling_kv::{Engine, Error};

use super::requests::Waiter;
use super::{Group, Token};
use crate::api::{Answer, Failure, Keys, Read, Refusal};
use crate::machine::Reading;

/// Rows that the reads of one turn, or one portion of a long one, look at, about. A guess: a few
/// milliseconds of work on a disk's cache.
const PORTION_ROWS: usize = 2048;
/// Long reads that go on in turn; others wait until one is done. Each holds at most an answer's size.
const ACTIVE_MAX: usize = 8;

/// The reads that were not done in their turn.
#[derive(Default)]
pub struct LongReads {
    active: VecDeque<(Waiter, Reading)>,
    /// Not begun.
    waiting: VecDeque<(Waiter, Read)>,
    /// Rows that reads of this turn have looked at.
    used: usize,
}

impl LongReads {
    pub fn len(&self) -> usize {
        self.active.len() + self.waiting.len()
    }

    /// What comes next has a portion of its own.
    pub fn end_turn(&mut self) {
        self.used = 0;
    }

    /// Gives up those whose time is over.
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

    /// Gives up all of them.
    pub fn give_up(&mut self) -> Vec<Waiter> {
        let active = self.active.drain(..).map(|(waiter, _)| waiter);
        active.chain(self.waiting.drain(..).map(|(waiter, _)| waiter)).collect()
    }

    /// The one whose turn it is.
    fn next(&mut self) -> Option<(Waiter, Result<Reading, Read>)> {
        if self.active.len() < ACTIVE_MAX
            && let Some((waiter, read)) = self.waiting.pop_front()
        {
            return Some((waiter, Err(read)));
        }
        self.active.pop_front().map(|(waiter, reading)| (waiter, Ok(reading)))
    }
}

impl<E: Engine> Group<E> {
    /// Answers a read, now or later.
    pub(super) fn read(&mut self, waiter: Waiter, read: Read) {
        let is_small = !matches!(&read, Read::Range(range) if matches!(range.keys, Keys::Range { .. }))
            && !matches!(read, Read::Txn(_));
        let mut room = if is_small { 1 } else { PORTION_ROWS.saturating_sub(self.long_reads.used) };
        if room == 0 {
            self.long_reads.waiting.push_back((waiter, read));
            return;
        }
        let before = room;
        let mut reading = self.machine.begin_read(&read);
        let result = self.machine.go_on(&mut reading, &mut room);
        self.long_reads.used += before - room;
        match result {
            // What it has found is dropped: many may wait.
            Ok(None) => self.long_reads.waiting.push_back((waiter, read)),
            result => self.answer_read(waiter, result),
        }
    }

    /// One portion of one long read; whether there was one.
    pub(super) fn read_on(&mut self) -> bool {
        let Some((waiter, next)) = self.long_reads.next() else { return false };
        let mut reading = next.unwrap_or_else(|read| self.machine.begin_read(&read));
        match self.machine.go_on(&mut reading, &mut { PORTION_ROWS }) {
            Ok(None) => self.long_reads.active.push_back((waiter, reading)),
            result => self.answer_read(waiter, result),
        }
        true
    }

    /// A read that failed changed nothing, and the next one may work.
    fn answer_read(&mut self, waiter: Waiter, result: Result<Option<Result<Answer, Refusal>>, Error>) {
        let result = match result {
            Ok(Some(result)) => result.map_err(Failure::from),
            Ok(None) => Err(Failure::Overloaded),
            Err(error) => Err(Failure::Storage(error.to_string())),
        };
        self.answer(waiter.token, result);
    }
}
