//! `--only-missing`: the records of a group that are left out because their key exists.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use starling_api::strong::{self, Body, Compare, Keys, Operand, Put, Relation, Txn, TxnOp};
use starling_api::{Check, Error, Op, Range, Write};
use starling_client::Client;

/// Keys that are looked up at a time, at most. A guess: their answers are small.
const LOOKUPS: usize = 32;

/// A keyspace and a key in it.
type Place = (String, Vec<u8>);

/// The record before: those of one key that follow each other are one, as `export` writes large sets and maps.
struct Before {
    place: Place,
    is_value: bool,
    is_missing: bool,
}

/// What is known of the keys of an import to eventual keyspaces.
#[derive(Default)]
pub struct Missing {
    before: Option<Before>,
}

impl Missing {
    /// Which of these records, each with the writes to one key, have a key that does not exist.
    pub async fn of(&mut self, client: &Client, records: &[&[Write]]) -> Result<Vec<bool>, Error> {
        let places: BTreeSet<Place> = records.iter().filter_map(|writes| place(writes)).collect();
        let lookups = places.into_iter().map(async |(keyspace, key)| {
            let exists = exists(client, &keyspace, &key).await?;
            Ok::<_, Error>(((keyspace, key), exists))
        });
        let mut existing: BTreeMap<Place, bool> =
            stream::iter(lookups).buffer_unordered(LOOKUPS).try_collect().await?;
        Ok(records.iter().map(|writes| self.decide(writes, &mut existing)).collect())
    }

    fn decide(&mut self, writes: &[Write], existing: &mut BTreeMap<Place, bool>) -> bool {
        let Some(place) = place(writes) else { return true };
        let is_value = writes.iter().all(|write| matches!(write.op, Op::Put { .. }));
        let belongs = self.before.as_ref().filter(|it| it.place == place && !(is_value && it.is_value));
        let is_missing = match belongs {
            Some(before) => before.is_missing,
            // Behind the first record of a key it exists.
            None => existing.insert(place.clone(), true) == Some(false),
        };
        self.before = Some(Before { place, is_value, is_missing });
        is_missing
    }
}

fn place(writes: &[Write]) -> Option<Place> {
    writes.first().map(|write| (write.keyspace.clone(), write.key.clone()))
}

async fn exists(client: &Client, keyspace: &str, key: &[u8]) -> Result<bool, Error> {
    let end = [key, &[0]].concat();
    let only = Range { start: Some(key.into()), end: Some(end.into()), limit: Some(1), ..Range::default() };
    Ok(!client.list(keyspace, &only).await?.keys.is_empty())
}

/// How many of these keys of a strong keyspace exist.
pub async fn count_strong(
    client: &Client,
    keyspace: &str,
    keys: impl Iterator<Item = Vec<u8>>,
) -> Result<u64, Error> {
    let count = |key| async move {
        let only = strong::Range { count_only: true, ..strong::Range::of(Keys::One(key)) };
        match client.ask(keyspace, &strong::Read::Range(only).into()).await?.body {
            Body::Range(found) => Ok(found.count),
            _ => Ok(0),
        }
    };
    let counts = stream::iter(keys.map(count)).buffer_unordered(LOOKUPS);
    counts.try_fold(0, async |sum, count| Ok(sum + count)).await
}

/// Has the node refuse a plain value whose key has got one since it was looked up.
pub fn check_again(writes: &mut [Write]) {
    if let [write @ Write { op: Op::Put { .. }, check: None, .. }] = writes {
        write.check = Some(Check::Absent);
    }
}

/// A put of a strong keyspace that changes nothing if the key exists.
pub fn put_if_absent(put: Put) -> TxnOp {
    let absent =
        Compare { keys: Keys::One(put.key.clone()), is: Relation::Equal, to: Operand::CreateRevision(0) };
    TxnOp::Txn(Txn { compare: vec![absent], then: vec![TxnOp::Put(put)], otherwise: Vec::new() })
}

/// How many of these puts in a transaction found that their key exists.
pub fn count_existing(answer: &Body) -> u64 {
    let Body::Txn { bodies, .. } = answer else { return 0 };
    bodies.iter().filter(|body| matches!(body, Body::Txn { succeeded: false, .. })).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_of_a_key_counts_and_its_further_pages_belong_to_it() {
        let value = |key: &str| vec![Write::new("k", key, Op::Put { value: "v".into() })];
        let page = |key: &str| vec![Write::new("k", key, Op::SetAdd { members: vec!["m".into()] })];
        let mut existing: BTreeMap<Place, bool> = [("old", true), ("new", false), ("set", false)]
            .map(|(key, it)| (("k".into(), key.into()), it))
            .into();
        let mut missing = Missing::default();
        let records = [
            (value("old"), false),
            (page("old"), false),
            (value("new"), true),
            (value("new"), false),
            (page("set"), true),
            (page("set"), true),
            (value("set"), true),
            (value("new"), false),
            (page("set"), false),
        ];
        for (at, (writes, expected)) in records.iter().enumerate() {
            assert_eq!(missing.decide(writes, &mut existing), *expected, "record {at}");
        }
    }
}
