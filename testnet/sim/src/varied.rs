//! The operations that clients use less often: maps, flags, deletes of whole keys and of prefixes, several
//! writes in one batch, writes that check what is there.

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use starling_kv::{Check, Field, MemoryEngine, Op, Store, Write};

use crate::clients::KEYSPACE;

/// Names of fields in a map.
const FIELDS: u8 = 6;
/// Most writes in one batch.
const BATCH_MAX: usize = 5;

/// Draws the writes of one batch. A version check asks for what the node shows.
pub fn draw(
    rng: &mut ChaCha8Rng,
    keys: u64,
    value: &Bytes,
    store: Option<&Store<MemoryEngine>>,
) -> Vec<Write> {
    let key =
        |rng: &mut ChaCha8Rng, prefix: &str| format!("{prefix}{}", rng.random_range(0..keys)).into_bytes();
    match rng.random_range(0..10) {
        0..3 => {
            let count = rng.random_range(2..=BATCH_MAX);
            (0..count).map(|_| one(rng, keys, value)).collect()
        }
        3..5 => {
            let key = key(rng, "r");
            let found = store.and_then(|store| {
                store.reader().register(u64::MAX, KEYSPACE, &key).expect("a memory engine reads")
            });
            let check = found.map_or(Check::Absent, |register| Check::Version(register.version));
            vec![Write { check: Some(check), ..write(key, Op::Put { value: value.clone() }) }]
        }
        5 => {
            let key = key(rng, "r");
            vec![Write { check: Some(Check::Absent), ..write(key, Op::Put { value: value.clone() }) }]
        }
        _ => vec![one(rng, keys, value)],
    }
}

/// One write of any type.
fn one(rng: &mut ChaCha8Rng, keys: u64, value: &Bytes) -> Write {
    let mut key = |prefix: &str| format!("{prefix}{}", rng.random_range(0..keys)).into_bytes();
    let (map, flag, any, counter) = (key("m"), key("f"), key("x"), key("c"));
    let (max, min) = (key("h"), key("l"));
    let register = key("r");
    let deletable = [
        register.clone(),
        map.clone(),
        flag.clone(),
        any.clone(),
        max.clone(),
        min.clone(),
        key("s"),
        key("t"),
    ];
    let mut field = || Bytes::from(vec![b'f', b'0' + rng.random_range(0..FIELDS)]);
    let (field, other) = (field(), field());
    let op = match rng.random_range(0..16) {
        0 => return write(register, Op::Put { value: value.clone() }),
        1 => {
            return write(
                map,
                Op::MapPut {
                    fields: vec![Field::new(field, value.clone()), Field::new(other, value.clone())],
                },
            );
        }
        2 => return write(map, Op::MapDelete { names: vec![field] }),
        3 => return write(flag, Op::Flag { enabled: true }),
        4 => return write(flag, Op::Flag { enabled: false }),
        5 => return write(counter, Op::Incr { by: rng.random_range(-3..10) }),
        13 => return write(max, Op::Max { value: rng.random() }),
        14 => return write(min, Op::Min { value: rng.random() }),
        15 => Op::Max { value: rng.random() },
        6 => {
            let index = rng.random_range(0..deletable.len());
            return write(deletable[index].clone(), Op::Delete);
        }
        7 => {
            // `r1` and with it `r10` to `r19`; never the counters, which are to add up.
            let index = rng.random_range(0..deletable.len());
            return write(deletable[index].clone(), Op::DeletePrefix);
        }
        // One key that is written as every type: what does not fit is refused.
        8 => Op::Put { value: value.clone() },
        9 => Op::SetAdd { members: vec![field, other] },
        10 => Op::SetRemove { members: vec![field] },
        11 => Op::MapPut { fields: vec![Field::new(field, value.clone())] },
        _ => Op::Flag { enabled: true },
    };
    write(any, op)
}

fn write(key: Vec<u8>, op: Op) -> Write {
    Write { keyspace: KEYSPACE.into(), key, op, ttl_ms: None, check: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_kind_of_operation_is_drawn_and_counters_are_never_deleted() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let value = Bytes::from_static(b"v");
        let batches: Vec<Vec<Write>> = (0..2_000).map(|_| draw(&mut rng, 5, &value, None)).collect();
        let writes: Vec<&Write> = batches.iter().flatten().collect();
        let kinds: BTreeSet<_> =
            writes.iter().map(|write| format!("{:?}", std::mem::discriminant(&write.op))).collect();
        assert_eq!(kinds.len(), 11);
        assert!(batches.iter().any(|batch| batch.len() == BATCH_MAX));
        let is_delete = |op: &Op| matches!(op, Op::Delete | Op::DeletePrefix);
        assert!(writes.iter().all(|write| !is_delete(&write.op) || write.key[0] != b'c'));
    }
}
