//! Named writes are applied once: what each was answered is remembered, client by client.
//!
//! A client's answers are in a ring of [`WINDOW`] rows, so that remembering one costs one row and
//! forgetting it none. Who gives way where there are too many is a function of the log alone: the
//! client whose last write is the oldest.

use std::collections::BTreeMap;

use starling_kv::Error;
use starling_kv::codec::{Input, put_varint};

use super::rows::corrupt;
use crate::api::{Answer, Refusal, RequestId};
use crate::codec;

/// Writes of one client under way at a time, at most; the last so many answers of a client are kept.
pub const WINDOW: u64 = 1024;
/// Clients remembered, at most. A guess.
pub const CLIENTS_MAX: usize = 16_384;
/// Answers remembered, at most, over all clients. A guess.
pub const ANSWERS_MAX: usize = 65_536;
/// Bytes of them, at most: they are copied when a snapshot begins. A guess.
const ANSWERS_BYTES_MAX: usize = 8 << 20;
/// A longer answer is not remembered: a second sending of its write is told that it is forgotten.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is known of a named write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It has not been applied.
    New,
    /// It has; the answer is in this row.
    Answered { slot: u16 },
    /// It may have been; what it was answered is forgotten.
    Forgotten,
}

/// What a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub seq: u64,
    /// Entry that applied it.
    index: u64,
    /// What the client had been answered for certain then: nothing below is remembered.
    floor: u64,
    pub answer: Result<Answer, Refusal>,
}

impl Remembered {
    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(32);
        for number in [self.seq, self.index, self.floor] {
            put_varint(&mut row, number);
        }
        row.extend(codec::encode(&self.answer));
        row
    }

    pub fn decode(row: &[u8]) -> Result<Self, Error> {
        let damaged = || corrupt("a remembered answer");
        let mut input = Input::new(row);
        let mut number = || input.varint().ok_or_else(damaged);
        let (seq, index, floor) = (number()?, number()?, number()?);
        let answer = codec::decode(input.rest(), "answer").map_err(|_| damaged())?;
        Ok(Self { seq, index, floor, answer })
    }
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Client {
    floor: u64,
    /// Entry of its last write.
    last: u64,
    /// The rows there are: slot -> sequence number and bytes.
    rows: BTreeMap<u16, (u64, usize)>,
}

/// All clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    clients: BTreeMap<u128, Client>,
    /// Entry of the last write -> client. An entry is one write, so it names one client.
    by_age: BTreeMap<u64, u128>,
    rows: usize,
    bytes: usize,
}

/// Rows that remembering an answer changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub slot: u16,
    pub row: Vec<u8>,
    /// Clients that gave way, with their rows.
    pub evicted: Vec<(u128, u16)>,
}

fn slot(seq: u64) -> u16 {
    (seq % WINDOW) as u16
}

impl Sessions {
    /// Takes in a row at open.
    pub fn load(&mut self, client: u128, slot: u16, row: &[u8]) -> Result<(), Error> {
        let Remembered { seq, index, floor, .. } = Remembered::decode(row)?;
        let entry = self.clients.entry(client).or_default();
        if index >= entry.last {
            self.by_age.remove(&entry.last);
            self.by_age.insert(index, client);
            (entry.last, entry.floor) = (index, floor);
        }
        entry.rows.insert(slot, (seq, row.len()));
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    /// Clients, and answers remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.rows)
    }

    /// What is known of a write.
    ///
    /// A client that nobody knows and that has been answered before has been evicted. One that was
    /// evicted before its first answer reached it cannot be told from a new one: that takes
    /// [`CLIENTS_MAX`] other clients writing within the time of one request.
    pub fn look(&self, id: &RequestId) -> Known {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::SessionForgotten) {
            return Known::New;
        }
        let Some(client) = self.clients.get(&id.client) else {
            return if id.answered_below > 1 { Known::Forgotten } else { Known::New };
        };
        match client.rows.get(&slot(id.seq)) {
            _ if id.seq < client.floor => Known::Forgotten,
            Some((seq, _)) if *seq == id.seq => Known::Answered { slot: slot(id.seq) },
            _ => Known::New,
        }
    }

    /// Remembers what a new write was answered by entry `index`.
    pub fn remember(&mut self, id: &RequestId, index: u64, answer: &Result<Answer, Refusal>) -> Kept {
        let client = self.clients.entry(id.client).or_default();
        self.by_age.remove(&client.last);
        self.by_age.insert(index, id.client);
        client.last = index;
        let window_floor = id.seq.saturating_sub(WINDOW - 1);
        client.floor = client.floor.max(id.answered_below.min(id.seq)).max(window_floor);
        let mut remembered = Remembered { seq: id.seq, index, floor: client.floor, answer: answer.clone() };
        let mut row = remembered.encode();
        if row.len() > ANSWER_BYTES_MAX {
            remembered.answer = Err(Refusal::Forgotten);
            row = remembered.encode();
        }
        let slot = slot(id.seq);
        self.bytes += row.len();
        match client.rows.insert(slot, (id.seq, row.len())) {
            Some((_, bytes)) => self.bytes -= bytes,
            None => self.rows += 1,
        }
        Kept { slot, row, evicted: self.evict(id.client) }
    }

    /// Forgets the oldest clients, but not `keep`, until the rest is within bounds.
    fn evict(&mut self, keep: u128) -> Vec<(u128, u16)> {
        let mut evicted = Vec::new();
        while self.clients.len() > CLIENTS_MAX || self.rows > ANSWERS_MAX || self.bytes > ANSWERS_BYTES_MAX {
            let Some((&index, &oldest)) = self.by_age.iter().find(|(_, client)| **client != keep) else {
                break;
            };
            self.by_age.remove(&index);
            let Some(client) = self.clients.remove(&oldest) else { continue };
            self.rows -= client.rows.len();
            for (slot, (_, bytes)) in client.rows {
                self.bytes -= bytes;
                evicted.push((oldest, slot));
            }
        }
        evicted
    }
}
