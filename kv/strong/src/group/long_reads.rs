//! Reads of many keys. All reads that are served at one time share one portion of rows. A read that is not done
//! within it continues in portions of its own, which the group's other work interrupts; see `work`.

use std::collections::VecDeque;

use starling_kv::{Engine, Error};

use super::requests::Waiter;
use super::{Group, Token};
use crate::api::{Answer, Failure, Keys, Read, Refusal};
use crate::machine::Reading;

/// Rows that one portion visits, about. A guess: a few milliseconds of work when the rows are cached.
const PORTION_ROWS: usize = 2048;
/// Long reads that advance in turn; further ones wait until one is done. Each holds at most the bytes of one answer.
const ACTIVE_MAX: usize = 8;

/// The reads that were not done in the shared portion.
#[derive(Default)]
pub struct LongReads {
    active: VecDeque<(Waiter, Reading)>,
    /// Reads that have not begun.
    waiting: VecDeque<(Waiter, Read)>,
    /// Rows of the shared portion that are used up.
    used: usize,
}

impl LongReads {
    pub fn len(&self) -> usize {
        self.active.len() + self.waiting.len()
    }

    /// Ends the shared portion: the next reads have a new one.
    pub fn end_turn(&mut self) {
        self.used = 0;
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

impl<E: Engine> Group<E> {
    /// Answers a read now, or queues it as a long read.
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
            // What it has found is dropped: many reads may wait, and their results could take much memory.
            Ok(None) => self.long_reads.waiting.push_back((waiter, read)),
            result => self.answer_read(waiter, result),
        }
    }

    /// Does one portion of one long read. Returns whether there was one.
    pub(super) fn read_on(&mut self) -> bool {
        let Some((waiter, next)) = self.long_reads.next() else { return false };
        let mut reading = next.unwrap_or_else(|read| self.machine.begin_read(&read));
        match self.machine.go_on(&mut reading, &mut { PORTION_ROWS }) {
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
