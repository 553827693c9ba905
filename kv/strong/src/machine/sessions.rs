//! Writes with a request id are applied at most once: the answer to each is remembered, per client.
//!
//! A client's answers are in a ring of [`WINDOW`] rows: a new answer replaces an old one's row, so that no write
//! removes it. When there are too many clients or answers, the client with the oldest id is evicted: an id contains
//! the time at which it was drawn. Of the evicted ids only the latest time is kept ([`Sessions::forgotten_ms`]). An
//! unknown id that is not younger may have been evicted, so its write is refused: no write is applied twice, however
//! late it is repeated. Clocks matter for that only as far as a client whose clock is behind is refused too early.
//! All of it depends on the log alone, so that all replicas evict the same clients.
//!
//! Until a group has adopted [`DATED`], ids may be any numbers, the client whose last write is the oldest is evicted,
//! and a write that is repeated after that is applied again.

use std::collections::{BTreeMap, BTreeSet};

use starling_kv::Error;
use starling_kv::codec::{Input, put_varint};

use super::rows::corrupt;
use crate::api::{Answer, Refusal, RequestId};
use crate::codec;

/// Sequence numbers of one client for which answers are remembered: the last ones. A client may have at most as many
/// writes under way. A guess.
pub const WINDOW: u64 = 1024;
/// The data version from which on request ids contain the time.
pub const DATED: u16 = 3;
/// Clients remembered before [`DATED`], at most; from then on [`ANSWERS_MAX`] is the only bound. A guess.
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
    /// The fingerprint of the write; `None` in a row of before [`DATED`].
    pub fingerprint: Option<Fingerprint>,
}

/// The first bytes of a hash of a write and its fence, by which a request id that is used for another write is noticed.
pub(super) type Fingerprint = [u8; 8];

impl Remembered {
    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(32);
        for number in [self.seq, self.index, self.floor] {
            put_varint(&mut row, number);
        }
        row.extend(codec::encode(&self.answer));
        row.extend(self.fingerprint.into_iter().flatten());
        row
    }

    pub fn decode(row: &[u8]) -> Result<Self, Error> {
        let damaged = || corrupt("a remembered answer");
        let mut input = Input::new(row);
        let mut number = || input.varint().ok_or_else(damaged);
        let (seq, index, floor) = (number()?, number()?, number()?);
        let rest = input.rest();
        // The encoding of an answer has no valid continuation.
        let (answer, fingerprint) = if let Ok(answer) = codec::decode(rest, "answer") {
            (answer, None)
        } else {
            let (answer, fingerprint) = rest.split_last_chunk().ok_or_else(damaged)?;
            (codec::decode(answer, "answer").map_err(|_| damaged())?, Some(*fingerprint))
        };
        Ok(Self { seq, index, floor, answer, fingerprint })
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
    /// Whether the group has adopted [`DATED`].
    is_dated: bool,
    /// The latest time of an evicted id, milliseconds since 1970; 0 if none was evicted.
    forgotten_ms: u64,
    clients: BTreeMap<u128, Client>,
    /// Clients in the order of their eviction; see [`Sessions::rank`].
    order: BTreeSet<(u64, u128)>,
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
    /// No remembered answers, in a group of this data version.
    pub fn new(version: u16, forgotten_ms: u64) -> Self {
        Self { is_dated: version >= DATED, forgotten_ms, ..Self::default() }
    }

    /// Adds a row that was read when the machine was opened.
    pub fn load(&mut self, client: u128, slot: u16, row: &[u8]) -> Result<(), Error> {
        let Remembered { seq, index, floor, .. } = Remembered::decode(row)?;
        if self.clients.get(&client).is_none_or(|known| index >= known.last) {
            self.touch(client, index).floor = floor;
        }
        self.clients.entry(client).or_default().rows.insert(slot, (seq, row.len()));
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    /// The numbers of clients and of remembered answers.
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.rows)
    }

    /// Whether the group has adopted [`DATED`].
    pub fn is_dated(&self) -> bool {
        self.is_dated
    }

    /// The latest time of an evicted id, milliseconds since 1970.
    pub fn forgotten_ms(&self) -> u64 {
        self.forgotten_ms
    }

    /// What is remembered of a write.
    ///
    /// Before [`DATED`], an unknown client that has received an answer was evicted, and one that was evicted before
    /// that looks like a new one.
    pub fn look(&self, id: &RequestId) -> Known {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::SessionForgotten) {
            return Known::New;
        }
        let Some(client) = self.clients.get(&id.client) else {
            let is_old = self.is_dated && drawn_ms(id.client) <= self.forgotten_ms;
            return if is_old || id.answered_below > 1 { Known::Forgotten } else { Known::New };
        };
        match client.rows.get(&slot(id.seq)) {
            _ if id.seq < client.floor => Known::Forgotten,
            Some((seq, _)) if *seq == id.seq => Known::Answered { slot: slot(id.seq) },
            _ => Known::New,
        }
    }

    /// Remembers the answer to a new write, which entry `index` has applied.
    pub fn remember(
        &mut self,
        id: &RequestId,
        index: u64,
        answer: &Result<Answer, Refusal>,
        fingerprint: Option<Fingerprint>,
    ) -> Kept {
        let client = self.touch(id.client, index);
        let window_floor = id.seq.saturating_sub(WINDOW - 1);
        client.floor = client.floor.max(id.answered_below.min(id.seq)).max(window_floor);
        let (seq, floor, answer) = (id.seq, client.floor, answer.clone());
        let mut remembered = Remembered { seq, index, floor, answer, fingerprint };
        let mut row = remembered.encode();
        if row.len() > ANSWER_BYTES_MAX {
            remembered.answer = Err(Refusal::Forgotten);
            row = remembered.encode();
        }
        let slot = slot(id.seq);
        let replaced = client.rows.insert(slot, (id.seq, row.len()));
        self.bytes += row.len();
        match replaced {
            Some((_, bytes)) => self.bytes -= bytes,
            None => self.rows += 1,
        }
        Kept { slot, row, evicted: self.evict(id.client) }
    }

    /// Adopts [`DATED`]: evicts the clients whose ids contain no time. Returns their rows.
    pub fn adopt_dates(&mut self) -> Vec<(u128, u16)> {
        self.is_dated = true;
        self.order = self.clients.iter().map(|(id, client)| (self.rank(*id, client.last), *id)).collect();
        let undated: Vec<u128> = self.clients.keys().copied().filter(|id| drawn_ms(*id) == 0).collect();
        let mut evicted = Vec::new();
        for client in undated {
            self.remove(client, &mut evicted);
        }
        evicted
    }

    /// The client, whose last write is that of entry `index`.
    fn touch(&mut self, id: u128, index: u64) -> &mut Client {
        let before = self.clients.get(&id).map(|client| self.rank(id, client.last));
        if let Some(before) = before {
            self.order.remove(&(before, id));
        }
        self.order.insert((self.rank(id, index), id));
        let client = self.clients.entry(id).or_default();
        client.last = index;
        client
    }

    /// Clients of a lower rank are evicted first.
    fn rank(&self, id: u128, last: u64) -> u64 {
        if self.is_dated { drawn_ms(id) } else { last }
    }

    /// Evicts the clients of the lowest ranks until the rest is within bounds. From [`DATED`] on, that may be the client
    /// whose answer was just added: else one whose clock is ahead would be evicted for it, and all others be refused.
    /// Before, `last` is not evicted.
    fn evict(&mut self, last: u128) -> Vec<(u128, u16)> {
        let clients_max = if self.is_dated { ANSWERS_MAX } else { CLIENTS_MAX };
        let mut evicted = Vec::new();
        while self.clients.len() > clients_max || self.rows > ANSWERS_MAX || self.bytes > ANSWERS_BYTES_MAX {
            let may_go = |id: &u128| self.is_dated || *id != last;
            let Some(oldest) = self.order.iter().map(|(_, id)| *id).find(may_go) else { break };
            if self.is_dated {
                self.forgotten_ms = self.forgotten_ms.max(drawn_ms(oldest));
            }
            self.remove(oldest, &mut evicted);
        }
        evicted
    }

    fn remove(&mut self, id: u128, rows: &mut Vec<(u128, u16)>) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.order.remove(&(self.rank(id, client.last), id));
        self.rows -= client.rows.len();
        for (slot, (_, bytes)) in client.rows {
            self.bytes -= bytes;
            rows.push((id, slot));
        }
    }
}

/// When a client drew its id, milliseconds since 1970; 0 if the id contains no time.
fn drawn_ms(id: u128) -> u64 {
    RequestId::drawn_ms(id).unwrap_or(0)
}
