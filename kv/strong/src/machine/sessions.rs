//! Writes with a request id are applied at most once: the answer to each is remembered, per client.
//!
//! A client's answers are in a ring of [`WINDOW`] rows: a new answer replaces an old one's row, so that no write
//! removes it. When there are too many clients or answers, the client whose last write is the oldest is evicted.
//! That depends on the log alone, so that all replicas evict the same client.

use std::collections::BTreeMap;

use starling_kv::Error;
use starling_kv::codec::{Input, put_varint};

use super::rows::corrupt;
use crate::api::{Answer, Refusal, RequestId};
use crate::codec;

/// Sequence numbers of one client for which answers are remembered: the last ones. A client may have at most as many
/// writes under way. A guess.
pub const WINDOW: u64 = 1024;
/// Clients remembered, at most. A guess.
pub const CLIENTS_MAX: usize = 16_384;
/// Answers remembered, at most, over all clients. A guess.
pub const ANSWERS_MAX: usize = 65_536;
/// Bytes of all remembered answers, at most: they are copied when a snapshot begins. A guess.
const ANSWERS_BYTES_MAX: usize = 8 << 20;
/// Longest answer that is remembered, bytes. A repetition of a write with a longer one gets [`Refusal::Forgotten`].
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is remembered of a write with a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not applied.
    New,
    /// It was applied; the answer is in the client's row `slot`.
    Answered { slot: u16 },
    /// It may have been applied; its answer is no longer remembered.
    Forgotten,
}

/// The contents of a row: one remembered answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub seq: u64,
    /// The entry that applied the write.
    index: u64,
    /// The client's floor after that entry; see [`Client::floor`].
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

/// The remembered answers of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Client {
    /// The lowest sequence number that is remembered: the client has received the answers below it, or they have
    /// left the window.
    floor: u64,
    /// The entry of the client's last write.
    last: u64,
    /// Sequence number and bytes of each row, by slot.
    rows: BTreeMap<u16, (u64, usize)>,
}

/// The remembered answers of all clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    clients: BTreeMap<u128, Client>,
    /// Clients by the entry of their last write. An entry has at most one write, so it has one client.
    by_age: BTreeMap<u64, u128>,
    rows: usize,
    bytes: usize,
}

/// The rows that change when an answer is remembered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub slot: u16,
    pub row: Vec<u8>,
    /// The rows of evicted clients: client and slot.
    pub evicted: Vec<(u128, u16)>,
}

fn slot(seq: u64) -> u16 {
    (seq % WINDOW) as u16
}

impl Sessions {
    /// Adds a row that was read when the machine was opened.
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

    /// The numbers of clients and of remembered answers.
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.rows)
    }

    /// What is remembered of a write.
    ///
    /// An unknown client that has received an answer was evicted. A client that was evicted before it received its
    /// first answer looks like a new one; for that, [`CLIENTS_MAX`] other clients have to write during one request.
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

    /// Remembers the answer to a new write, which entry `index` has applied.
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

    /// Evicts the clients whose last write is the oldest, but not `keep`, until the rest is within bounds.
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
