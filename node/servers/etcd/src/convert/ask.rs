//! Conversion of etcd's requests.

use starling_etcd_proto::etcdserverpb as pb;
use starling_strong::api::{
    Compare, Delete, Keys, Operand, Put, Range, Relation, SortBy, SortOrder, Txn, TxnOp,
};
use tonic::Status;

use super::unsigned;
use crate::failure;

fn keys(key: Vec<u8>, range_end: Vec<u8>) -> Result<Keys, Status> {
    if key.is_empty() {
        return Err(Status::invalid_argument(failure::EMPTY_KEY));
    }
    Ok(spread(key, range_end))
}

/// Keys from etcd's range end: an empty one means a single key, a zero byte means no end.
fn spread(key: Vec<u8>, range_end: Vec<u8>) -> Keys {
    match range_end.as_slice() {
        [] => Keys::One(key),
        [0] => Keys::Range { from: key, to: None },
        _ => Keys::Range { from: key, to: Some(range_end) },
    }
}

/// The keys of a watch, which without a key begins with the lowest possible one; `None` for an empty range.
pub fn watch_keys(key: Vec<u8>, range_end: Vec<u8>) -> Option<Keys> {
    let key = if key.is_empty() { vec![0] } else { key };
    if range_end.len() > 1 || range_end.first().is_some_and(|end| *end != 0) {
        (key < range_end).then(|| spread(key, range_end))
    } else {
        Some(spread(key, range_end))
    }
}

pub fn range(asked: pb::RangeRequest) -> Result<Range, Status> {
    use pb::range_request::{SortOrder as Order, SortTarget as Target};
    let bad_sort = || Status::invalid_argument("etcdserver: invalid sort option");
    let order = Order::try_from(asked.sort_order).map_err(|_| bad_sort())?;
    let by = match Target::try_from(asked.sort_target).map_err(|_| bad_sort())? {
        Target::Key => SortBy::Key,
        Target::Version => SortBy::Version,
        Target::Create => SortBy::CreateRevision,
        Target::Mod => SortBy::ModRevision,
        Target::Value => SortBy::Value,
    };
    let order = match order {
        Order::Descend => SortOrder::Descending,
        Order::None | Order::Ascend => SortOrder::Ascending,
    };
    Ok(Range {
        keys: keys(asked.key, asked.range_end)?,
        limit: unsigned(asked.limit),
        revision: unsigned(asked.revision),
        // The default order.
        sort: ((by, order) != (SortBy::Key, SortOrder::Ascending)).then_some((by, order)),
        keys_only: asked.keys_only,
        count_only: asked.count_only,
        min_mod_revision: unsigned(asked.min_mod_revision),
        max_mod_revision: unsigned(asked.max_mod_revision),
        min_create_revision: unsigned(asked.min_create_revision),
        max_create_revision: unsigned(asked.max_create_revision),
    })
}

pub fn put(asked: pb::PutRequest) -> Result<Put, Status> {
    if asked.key.is_empty() {
        return Err(Status::invalid_argument(failure::EMPTY_KEY));
    }
    if asked.ignore_value && !asked.value.is_empty() {
        return Err(Status::invalid_argument(failure::VALUE_PROVIDED));
    }
    if asked.ignore_lease && asked.lease != 0 {
        return Err(Status::invalid_argument(failure::LEASE_PROVIDED));
    }
    Ok(Put {
        key: asked.key,
        value: (!asked.ignore_value).then_some(asked.value),
        lease: (!asked.ignore_lease).then_some(asked.lease),
        prev: asked.prev_kv,
    })
}

pub fn delete(asked: pb::DeleteRangeRequest) -> Result<Delete, Status> {
    Ok(Delete { keys: keys(asked.key, asked.range_end)?, prev: asked.prev_kv })
}

/// Converts a transaction. The decoder bounds the nesting, at a hundred levels.
pub fn txn(asked: pb::TxnRequest) -> Result<Txn, Status> {
    let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().filter_map(op).collect::<Result<_, _>>();
    Ok(Txn {
        compare: asked.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        then: ops(asked.success)?,
        otherwise: ops(asked.failure)?,
    })
}

/// Converts an operation. An empty one does nothing, as in etcd.
fn op(asked: pb::RequestOp) -> Option<Result<TxnOp, Status>> {
    use pb::request_op::Request;
    Some(match asked.request? {
        Request::RequestRange(asked) => range(asked).map(TxnOp::Range),
        Request::RequestPut(asked) => put(asked).map(TxnOp::Put),
        Request::RequestDeleteRange(asked) => delete(asked).map(TxnOp::Delete),
        Request::RequestTxn(asked) => txn(asked).map(TxnOp::Txn),
    })
}

fn compare(asked: pb::Compare) -> Result<Compare, Status> {
    use pb::compare::{CompareResult as Is, CompareTarget as Target, TargetUnion as To};
    let unknown = || Status::invalid_argument("etcdserver: a comparison that is not known");
    let mut is = match Is::try_from(asked.result).map_err(|_| unknown())? {
        Is::Equal => Relation::Equal,
        Is::NotEqual => Relation::NotEqual,
        Is::Greater => Relation::Greater,
        Is::Less => Relation::Less,
    };
    let keys = keys(asked.key, asked.range_end)?;
    // No count is below zero, so a comparison with a negative number is never "less" or "equal", and always "greater"
    // or "not equal".
    let mut count = |number: i64| {
        u64::try_from(number).unwrap_or_else(|_| {
            is = match is {
                Relation::Less | Relation::Equal => Relation::Equal,
                Relation::Greater | Relation::NotEqual => Relation::NotEqual,
            };
            u64::MAX
        })
    };
    // A target without its operand is compared with zero, or with an empty value.
    let to = match (Target::try_from(asked.target).map_err(|_| unknown())?, asked.target_union) {
        (Target::Version, Some(To::Version(number))) => Operand::Version(count(number)),
        (Target::Version, _) => Operand::Version(0),
        (Target::Create, Some(To::CreateRevision(number))) => Operand::CreateRevision(count(number)),
        (Target::Create, _) => Operand::CreateRevision(0),
        (Target::Mod, Some(To::ModRevision(number))) => Operand::ModRevision(count(number)),
        (Target::Mod, _) => Operand::ModRevision(0),
        (Target::Value, Some(To::Value(value))) => Operand::Value(value),
        (Target::Value, _) => Operand::Value(Vec::new()),
        (Target::Lease, Some(To::Lease(lease))) => Operand::Lease(lease),
        (Target::Lease, _) => Operand::Lease(0),
    };
    Ok(Compare { keys, is, to })
}

/// Whether all operations of a transaction are reads that may be stale.
pub fn is_serializable(asked: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    asked.success.iter().chain(&asked.failure).all(|op| match &op.request {
        Some(Request::RequestRange(asked)) => asked.serializable,
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
        Some(Request::RequestTxn(asked)) => is_serializable(asked),
        None => true,
    })
}
