//! Random requests over few keys, so that they conflict.

use proptest::prelude::*;
use starling_strong::api::*;

pub fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(b'/'), Just(b'a'), Just(b'b'), Just(255)];
    prop::collection::vec(byte, 1..3)
}

pub fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![
        2 => key().prop_map(Keys::One),
        1 => (key(), prop::option::of(key())).prop_map(|(from, to)| Keys::Range { from, to }),
        1 => Just(super::all()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..4)
}

fn put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![4 => Just(Some(0)), 2 => (1i64..4).prop_map(Some), 1 => Just(None)];
    (key(), prop::option::weighted(0.9, value()), lease, any::<bool>())
        .prop_map(|(key, value, lease, prev)| Put { key, value, lease, prev })
}

fn delete() -> impl Strategy<Value = Delete> {
    (keys(), any::<bool>()).prop_map(|(keys, prev)| Delete { keys, prev })
}

pub fn range() -> impl Strategy<Value = Range> {
    let by = prop_oneof![
        Just(SortBy::Key),
        Just(SortBy::Version),
        Just(SortBy::CreateRevision),
        Just(SortBy::ModRevision),
        Just(SortBy::Value)
    ];
    let order = prop_oneof![Just(SortOrder::Ascending), Just(SortOrder::Descending)];
    let bound = || prop_oneof![3 => Just(0u64), 1 => 1u64..30];
    (
        keys(),
        0u64..4,
        bound(),
        prop::option::of((by, order)),
        any::<(bool, bool)>(),
        bound(),
        bound(),
        bound(),
        bound(),
    )
        .prop_map(|(keys, limit, revision, sort, (keys_only, count_only), a, b, c, d)| Range {
            keys,
            limit,
            revision,
            sort,
            keys_only,
            count_only,
            min_mod_revision: a,
            max_mod_revision: b,
            min_create_revision: c,
            max_create_revision: d,
        })
}

fn compare() -> impl Strategy<Value = Compare> {
    let is = prop_oneof![
        Just(Relation::Equal),
        Just(Relation::NotEqual),
        Just(Relation::Greater),
        Just(Relation::Less)
    ];
    let to = prop_oneof![
        (0u64..3).prop_map(Operand::Version),
        (0u64..30).prop_map(Operand::CreateRevision),
        (0u64..30).prop_map(Operand::ModRevision),
        value().prop_map(Operand::Value),
        (0i64..3).prop_map(Operand::Lease),
    ];
    (keys(), is, to).prop_map(|(keys, is, to)| Compare { keys, is, to })
}

pub fn txn() -> impl Strategy<Value = Txn> {
    let op = prop_oneof![
        range().prop_map(TxnOp::Range),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::Delete)
    ];
    let op = op.prop_recursive(2, 8, 3, |op| txn_of(op).prop_map(TxnOp::Txn));
    txn_of(op)
}

fn txn_of(op: impl Strategy<Value = TxnOp> + Clone) -> impl Strategy<Value = Txn> {
    let ops = || prop::collection::vec(op.clone(), 0..3);
    (prop::collection::vec(compare(), 0..2), ops(), ops()).prop_map(|(compare, then, otherwise)| Txn {
        compare,
        then,
        otherwise,
    })
}

pub fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        8 => put().prop_map(Write::Put),
        1 => (key(), value(), 0i64..3)
            .prop_map(|(prefix, value, lease)| Write::PutSequential { prefix, value, lease }),
        4 => delete().prop_map(Write::Delete),
        1 => keys().prop_map(|keys| Write::PopFirst { keys }),
        2 => Just(Write::PopFirst { keys: super::all() }),
        6 => txn().prop_map(Write::Txn),
        1 => (1u64..40).prop_map(|revision| Write::Compact { revision }),
        2 => (1i64..4).prop_map(|id| Write::LeaseGrant { id, ttl_ms: 5000 }),
        1 => (1i64..4).prop_map(|id| Write::LeaseRevoke { id }),
    ]
}

/// A write with its request id and its fence.
#[derive(Clone, Debug)]
pub struct Planned {
    pub id: Option<RequestId>,
    pub fence: Option<Fence>,
    pub write: Write,
}

pub fn planned() -> impl Strategy<Value = Planned> {
    let id = (1u128..4, 1u64..12, 0u64..4).prop_map(|(client, seq, answered_below)| RequestId {
        client,
        seq,
        answered_below,
    });
    let fence = (key(), 2u64..20).prop_map(|(lock, token)| Fence { lock, token });
    (prop::option::weighted(0.3, id), prop::option::weighted(0.1, fence), write())
        .prop_map(|(id, fence, write)| Planned { id, fence, write })
}

pub fn watch() -> impl Strategy<Value = Watch> {
    let only =
        prop_oneof![2 => Just(None), 1 => Just(Some(EventKind::Put)), 1 => Just(Some(EventKind::Delete))];
    (keys(), prop_oneof![1 => Just(0u64), 2 => 1u64..30], any::<bool>(), only)
        .prop_map(|(keys, from_revision, prev, only)| Watch { keys, from_revision, prev, only })
}
