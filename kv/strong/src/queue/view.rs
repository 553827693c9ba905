//! What a queue holds, for people.

use std::collections::BTreeSet;

use starling_types::strong::queue::{Listed, QueueStats, Standing};

use super::keys::{Area, Part, QueueKeys};
use super::{About, Unfitting, found, get, outcomes, read_rules};
use crate::api::{Body, KeyValue, Range, Txn, TxnOp};

/// What is counted: the keys of a part in an area.
const COUNTED: [(Part, Area); 8] = [
    (Part::Item, Area::Ready),
    (Part::Item, Area::Tenants),
    (Part::Item, Area::Later),
    (Part::Hold, Area::Later),
    (Part::Claim, Area::Ready),
    (Part::Claim, Area::Tenants),
    (Part::Claim, Area::Later),
    (Part::Item, Area::Dead),
];

/// The read that counts the items of a queue.
pub fn count(keys: &QueueKeys) -> Txn {
    let mut then = vec![get(keys.rules())];
    let counts = COUNTED.map(|(part, area)| {
        TxnOp::Range(Range { count_only: true, ..Range::of(keys.range(part, area, None, None)) })
    });
    then.extend(counts);
    Txn { then, ..Txn::default() }
}

/// The numbers that were counted.
///
/// # Errors
/// Fails if the answer is none to the count.
pub fn counted(body: Body) -> Result<QueueStats, Unfitting> {
    let mut bodies = outcomes(body)?.1.into_iter();
    let mut next = || bodies.next().ok_or(Unfitting).and_then(found);
    let rules = read_rules(next()?.kvs.pop());
    let mut counts = [0; COUNTED.len()];
    for count in &mut counts {
        *count = next()?.count;
    }
    let [ready, tenants, later, delayed, claims @ .., dead] = counts;
    let reserved = claims.iter().sum();
    let ready = (ready + tenants + later).saturating_sub(delayed + reserved);
    Ok(QueueStats { ready, reserved, delayed, dead, rules })
}

/// The items among the keys of a queue, in the order of the keys.
pub fn list(keys: &QueueKeys, kvs: &[KeyValue]) -> Vec<Listed> {
    let places = |part: Part| -> BTreeSet<Vec<u8>> {
        kvs.iter().filter_map(|kv| keys.place_of(part, &kv.key).map(<[u8]>::to_vec)).collect()
    };
    let (claims, holds) = (places(Part::Claim), places(Part::Hold));
    let about = |at: &[u8]| {
        let key = keys.at(Part::About, at);
        let found = kvs.binary_search_by(|kv| kv.key.cmp(&key));
        found.map(|found| About::read(&kvs[found].value)).unwrap_or_default()
    };
    let item = |kv: &KeyValue| {
        let (place, at) = (keys.place(&kv.key)?, keys.place_of(Part::Item, &kv.key)?);
        let standing = match place.area {
            Area::Dead => Standing::Dead,
            _ if claims.contains(at) => Standing::Reserved,
            _ if holds.contains(at) => Standing::Delayed,
            _ => Standing::Ready,
        };
        let About { attempts, cost_ms, tenant, .. } = about(at);
        let (key, value, priority) = (kv.key.clone().into(), kv.value.clone().into(), place.priority);
        Some(Listed { key, standing, attempts, priority, cost_ms, tenant, value })
    };
    kvs.iter().filter_map(item).collect()
}

/// What a change of a key means for an item, named by its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It may be free now.
    Freed(Vec<u8>),
    /// A worker has it.
    Taken(Vec<u8>),
    /// It is deleted.
    Gone(Vec<u8>),
}

/// What a change of a key of the queue means; `None`: nothing for a client that waits for items.
pub fn change(keys: &QueueKeys, key: &[u8], is_put: bool) -> Option<Change> {
    let at = |part| keys.place_of(part, key).map(<[u8]>::to_vec);
    if let Some(place) = keys.place(key) {
        let item = at(Part::Item)?;
        return match place.area {
            Area::Dead => None,
            _ if !is_put => Some(Change::Gone(item)),
            // Its hold ends later.
            Area::Later => None,
            Area::Ready | Area::Tenants => Some(Change::Freed(item)),
        };
    }
    match (at(Part::Claim), at(Part::Hold)) {
        (Some(item), _) if is_put => Some(Change::Taken(item)),
        (Some(item), _) => Some(Change::Freed(item)),
        (None, Some(item)) if !is_put => Some(Change::Freed(item)),
        _ => None,
    }
}
