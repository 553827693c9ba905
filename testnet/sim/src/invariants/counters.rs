//! Max and min registers show the greatest and the least of their live entries. Counters show what was counted: at any time the sum over the actors of their latest field, and after
//! healing the sum of all acknowledged increments that any replica still knows of.

use std::collections::BTreeMap;

use starling_kv::{ActorId, Dot, Kind, MemoryEngine, Store};
use starling_types::eventual::{Data, Extremum};

use super::{History, State};
use crate::clients::KEYSPACE;

/// A counter's fields, by the actor that wrote them: the latest dot and its sum.
type Fields = BTreeMap<ActorId, (u64, i128)>;

fn counters(state: &State) -> BTreeMap<&[u8], Fields> {
    let mut counters: BTreeMap<&[u8], Fields> = BTreeMap::new();
    for (dot, entry) in state.live.iter().filter(|(_, entry)| entry.kind() == Kind::Counter as u8) {
        let field = counters.entry(entry.key()).or_default().entry(dot.actor).or_default();
        *field = (*field).max((dot.seq, entry.sum()));
    }
    counters
}

/// What reads answer, against the live entries.
pub fn check(state: &State, store: &Store<MemoryEngine>) -> Result<(), String> {
    let reader = store.reader();
    for (key, fields) in counters(state) {
        let expected: i128 = fields.values().map(|(_, sum)| sum).sum();
        let found = reader.counter(0, KEYSPACE, key).expect("a memory engine reads");
        if found != Some(expected) {
            let key = key.escape_ascii();
            return Err(format!("counter {key} reads {found:?}, and its fields add up to {expected}"));
        }
    }
    check_extremes(state, store)
}

/// What reads of max and min registers answer, against the live entries.
fn check_extremes(state: &State, store: &Store<MemoryEngine>) -> Result<(), String> {
    let mut extremes: BTreeMap<(&[u8], u8), (i64, i64)> = BTreeMap::new();
    let tags = [Kind::Max as u8, Kind::Min as u8];
    for entry in state.live.values().filter(|entry| entry.is_in(KEYSPACE) && tags.contains(&entry.kind())) {
        let value = entry.value().try_into().map_or(0, i64::from_be_bytes);
        let (least, greatest) = extremes.entry((entry.key(), entry.kind())).or_insert((value, value));
        (*least, *greatest) = (value.min(*least), value.max(*greatest));
    }
    for ((key, tag), (least, greatest)) in extremes {
        let (kind, value) = if tag == tags[0] { (Kind::Max, greatest) } else { (Kind::Min, least) };
        let expected =
            if tag == tags[0] { Data::Max(Extremum { value }) } else { Data::Min(Extremum { value }) };
        let found = store.reader().read_kind(0, KEYSPACE, key, kind, None, 0).expect("a memory engine reads");
        if found.as_ref() != Some(&expected) {
            let key = key.escape_ascii();
            return Err(format!(
                "the {kind} register {key} reads {found:?}, and its live entries {expected:?}"
            ));
        }
    }
    Ok(())
}

/// After healing: counters that are never deleted, against the acknowledged increments. An actor's field
/// holds the sum up to its latest increment that survived.
pub fn check_sums(history: &History, state: &State) -> Result<(), String> {
    let mut latest: BTreeMap<(&[u8], ActorId), u64> = BTreeMap::new();
    for increment in history.increments.iter().filter(|increment| state.seen.contains(increment.dot)) {
        let Dot { actor, seq } = increment.dot;
        let last = latest.entry((&increment.key, actor)).or_default();
        *last = seq.max(*last);
    }
    let mut expected: BTreeMap<&[u8], i128> = BTreeMap::new();
    for increment in &history.increments {
        let Dot { actor, seq } = increment.dot;
        if latest.get(&(increment.key.as_slice(), actor)).is_some_and(|last| seq <= *last) {
            *expected.entry(&increment.key).or_default() += i128::from(increment.by);
        }
    }
    let found = counters(state);
    for (key, expected) in expected {
        let found = found.get(key).map(|fields| fields.values().map(|(_, sum)| sum).sum::<i128>());
        if found != Some(expected) {
            let key = key.escape_ascii();
            return Err(format!(
                "counter {key} holds {found:?}; acknowledged increments sum up to {expected}"
            ));
        }
    }
    Ok(())
}
