//! The encoding of deltas, which rumors, repair and bootstrap all transfer.
//!
//! ```text
//! [version: u8 = 1][actors: varint]
//! per actor, in order of ids:
//!   [id: 16 bytes]
//!   [spans: varint] per claimed span [gap to the one before: varint][length - 1: varint]
//!   [entries: varint] per entry, in order of seq
//!     [seq - the one before: varint]
//!     [bytes shared with the place before: u8][rest of the place: length, bytes][body: length, bytes]
//! ```
//!
//! The empty byte string is the delta that claims nothing.
//!
//! A delta claims exactly the dots of its spans: an entry's dot is live, every other claimed dot is
//! dead. Decoding is total: it accepts or rejects, never panics, and allocates in proportion to its
//! input.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::body;
use crate::codec::{Input, put_bytes, put_varint};
use crate::place::PlaceRef;
use crate::{ActorId, Dot, Intervals, MalformedDelta};

const VERSION: u8 = 1;

/// Largest sequence number that is accepted from a peer: far more than an actor can create, and low enough that
/// arithmetic on it cannot overflow.
pub const SEQ_MAX: u64 = 1 << 56;

/// Bytes that a place shares with the one before, at most. It bounds the memory per input byte, and covers the
/// longest keyspace and a common beginning of the keys.
const SHARED_BYTES_MAX: usize = 127;

/// Bytes of an entry on the wire beyond place and body, at most.
const ENTRY_OVERHEAD_BYTES: usize = 16;
/// Bytes of a claimed span, at most.
const SPAN_BYTES: usize = 12;

/// A delta under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Builder {
    actors: BTreeMap<ActorId, Section>,
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Section {
    claimed: Intervals,
    entries: BTreeMap<u64, (Vec<u8>, Bytes)>,
}

impl Builder {
    /// Claims consecutive dots.
    pub fn claim(&mut self, actor: ActorId, first: u64, last: u64) {
        let section = self.actors.entry(actor).or_default();
        let before = section.claimed.spans().len();
        section.claimed.insert(first, last);
        self.bytes += section.claimed.spans().len().saturating_sub(before) * SPAN_BYTES;
        if before == 0 {
            self.bytes += 24;
        }
    }

    /// Adds a live entry; its dot must be claimed.
    pub fn entry(&mut self, dot: Dot, place: Vec<u8>, body: Bytes) {
        self.bytes += Self::entry_bytes(&place, &body);
        self.actors.entry(dot.actor).or_default().entries.insert(dot.seq, (place, body));
    }

    /// Bytes that [`Builder::entry`] adds to [`Builder::bytes`].
    pub fn entry_bytes(place: &[u8], body: &[u8]) -> usize {
        place.len() + body.len() + ENTRY_OVERHEAD_BYTES
    }

    /// Whether it has any entry.
    pub fn has_entries(&self) -> bool {
        self.actors.values().any(|section| !section.entries.is_empty())
    }

    /// Removes the entry of `dot`, if there is one, because it has been superseded.
    pub fn kill(&mut self, dot: Dot) {
        let entry = self.actors.get_mut(&dot.actor).and_then(|section| section.entries.remove(&dot.seq));
        if let Some((place, body)) = entry {
            self.bytes -= Self::entry_bytes(&place, &body);
        }
    }

    /// Upper bound of the encoded size.
    pub fn bytes(&self) -> usize {
        self.bytes + 16
    }

    /// Writes the delta; no bytes at all if it claims nothing.
    pub fn encode(&self) -> Bytes {
        if self.actors.is_empty() {
            return Bytes::new();
        }
        let mut out = Vec::with_capacity(self.bytes());
        out.push(VERSION);
        put_varint(&mut out, self.actors.len() as u64);
        let mut former: &[u8] = &[];
        for (actor, section) in &self.actors {
            out.extend_from_slice(&actor.0);
            put_spans(&mut out, &section.claimed);
            put_varint(&mut out, section.entries.len() as u64);
            let mut seq_before = 0;
            for (&seq, (place, body)) in &section.entries {
                put_varint(&mut out, seq - seq_before);
                seq_before = seq;
                let shared =
                    former.iter().zip(place).take(SHARED_BYTES_MAX).take_while(|(a, b)| a == b).count();
                out.push(shared as u8);
                put_bytes(&mut out, &place[shared..]);
                put_bytes(&mut out, body);
                former = place;
            }
        }
        out.into()
    }
}

/// Appends intervals: their count, then per span the gap and the length.
pub(crate) fn put_spans(out: &mut Vec<u8>, intervals: &Intervals) {
    put_varint(out, intervals.spans().len() as u64);
    let mut floor = 1;
    for &(first, last) in intervals.spans() {
        put_varint(out, first - floor);
        put_varint(out, last - first);
        floor = last + 2;
    }
}

/// The inverse of [`put_spans`].
pub(crate) fn read_spans(input: &mut Input<'_>) -> Option<Intervals> {
    // A span has at least two bytes, so the count is bounded by the input.
    let count = input.varint().filter(|&count| count <= input.rest().len() as u64 / 2)?;
    let mut spans = Vec::with_capacity(count as usize);
    let mut floor = 1u64;
    for _ in 0..count {
        let first = floor.checked_add(input.varint()?)?;
        let last = first.checked_add(input.varint()?).filter(|&last| last <= SEQ_MAX)?;
        spans.push((first, last));
        floor = last + 2;
    }
    Intervals::from_spans(spans)
}

/// A decoded delta; bodies are borrowed from the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<'a> {
    /// The part of each actor, in order of ids.
    pub actors: Vec<ActorDelta<'a>>,
}

/// The part of a delta about one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorDelta<'a> {
    /// The actor.
    pub actor: ActorId,
    /// The claimed dots.
    pub claimed: Intervals,
    /// The live ones among them, in order of `seq`.
    pub entries: Vec<Entry<'a>>,
}

/// A live entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its dot's sequence number.
    pub seq: u64,
    /// Its place.
    pub place: Vec<u8>,
    /// Its body, as its origin wrote it.
    pub body: &'a [u8],
}

/// Reads a delta.
///
/// # Errors
/// Fails if the bytes break a rule of the format. There is no partial result: a delta is joined as a whole
/// or not at all.
pub fn decode(bytes: &[u8]) -> Result<Delta<'_>, MalformedDelta> {
    if bytes.is_empty() {
        return Ok(Delta { actors: Vec::new() });
    }
    let mut input = Input::new(bytes);
    if input.byte() != Some(VERSION) {
        return Err(MalformedDelta { reason: "unknown version" });
    }
    let count = input.varint().ok_or(MalformedDelta { reason: "cut short" })?;
    let mut actors: Vec<ActorDelta<'_>> = Vec::new();
    let mut former = Vec::new();
    for _ in 0..count {
        let actor = ActorId(input.array().ok_or(MalformedDelta { reason: "cut short" })?);
        if actors.last().is_some_and(|before| before.actor >= actor) {
            return Err(MalformedDelta { reason: "actors out of order" });
        }
        let claimed =
            read_spans(&mut input).ok_or(MalformedDelta { reason: "claimed dots are no intervals" })?;
        let entries = read_entries(&mut input, &claimed, &mut former)?;
        actors.push(ActorDelta { actor, claimed, entries });
    }
    if !input.is_empty() {
        return Err(MalformedDelta { reason: "bytes after the end" });
    }
    Ok(Delta { actors })
}

fn read_entries<'a>(
    input: &mut Input<'a>,
    claimed: &Intervals,
    former: &mut Vec<u8>,
) -> Result<Vec<Entry<'a>>, MalformedDelta> {
    let cut_short = MalformedDelta { reason: "cut short" };
    let count = input.varint().ok_or(cut_short.clone())?;
    let mut entries: Vec<Entry<'a>> = Vec::new();
    let mut seq = 0u64;
    for _ in 0..count {
        let step = input.varint().ok_or(cut_short.clone())?;
        seq = seq.checked_add(step).ok_or(MalformedDelta { reason: "sequence number out of range" })?;
        if step == 0 || !claimed.contains(seq, seq) {
            return Err(MalformedDelta { reason: "an entry's dot is not claimed" });
        }
        let shared = usize::from(input.byte().ok_or(cut_short.clone())?);
        if shared > SHARED_BYTES_MAX || shared > former.len() {
            return Err(MalformedDelta { reason: "a place shares more than there is" });
        }
        former.truncate(shared);
        former.extend_from_slice(input.bytes().ok_or(cut_short.clone())?);
        if PlaceRef::parse(former).is_none() {
            return Err(MalformedDelta { reason: "not a place" });
        }
        let body = input.bytes().ok_or(cut_short.clone())?;
        if !body::is_acceptable(body) {
            return Err(MalformedDelta { reason: "not a body" });
        }
        entries.push(Entry { seq, place: former.clone(), body });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hlc;
    use crate::Kind;
    use crate::place::place;
    use proptest::prelude::*;

    fn sample(count: u64, value: &[u8]) -> Builder {
        let mut builder = Builder::default();
        builder.claim(ActorId([7; 16]), 1, count);
        builder.claim(ActorId([3; 16]), 5, 9);
        for seq in 1..=count {
            let place = place("default", format!("key{seq:09}").as_bytes(), Kind::Register, &[]);
            builder.entry(Dot { actor: ActorId([7; 16]), seq }, place, body::encode(Hlc(seq), None, value));
        }
        builder
    }

    #[test]
    fn round_trips_within_its_bound() {
        let builder = sample(100, &[b'x'; 100]);
        let bytes = builder.encode();
        assert!(bytes.len() <= builder.bytes());
        let delta = decode(&bytes).expect("well-formed");
        assert_eq!(delta.actors.len(), 2);
        assert_eq!(delta.actors[0].claimed.spans(), [(5, 9)]);
        assert_eq!(delta.actors[1].entries.len(), 100);
        assert_eq!(delta.actors[1].entries[99].body[10..], [b'x'; 100]);
    }

    #[test]
    fn an_entry_costs_at_most_twenty_bytes_beyond_key_and_value() {
        let bytes = sample(1000, &[b'x'; 100]).encode().len();
        assert!(bytes <= 1000 * (12 + 100 + 20), "{bytes}");
    }

    #[test]
    fn a_span_that_grows_costs_nothing_more() {
        let mut builder = Builder::default();
        builder.claim(ActorId([7; 16]), 1, 1);
        let bytes = builder.bytes();
        builder.claim(ActorId([7; 16]), 2, 9);
        assert_eq!(builder.bytes(), bytes);
        builder.claim(ActorId([7; 16]), 11, 11);
        assert_eq!(builder.bytes(), bytes + SPAN_BYTES);
    }

    #[test]
    fn killed_entries_stay_claimed() {
        let mut builder = sample(2, b"v");
        builder.kill(Dot { actor: ActorId([7; 16]), seq: 1 });
        let bytes = builder.encode();
        let delta = decode(&bytes).expect("well-formed");
        assert_eq!(delta.actors[1].entries.len(), 1);
        assert!(delta.actors[1].claimed.contains(1, 2));
    }

    proptest! {
        #[test]
        fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_deltas_are_read_or_refused(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = sample(3, b"value").encode().to_vec();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            if let Ok(delta) = decode(&bytes) {
                for actor in &delta.actors {
                    for entry in &actor.entries {
                        prop_assert!(actor.claimed.contains(entry.seq, entry.seq));
                    }
                }
            }
        }
    }
}
