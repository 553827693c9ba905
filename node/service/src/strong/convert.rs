//! Between the API's types and the keyspace's own.

use starling_api::strong::{
    Compare, Delete, Fence, Found, Get, KeyValue, Keys, Operand, Put, Relation, RequestId, SortBy, Staleness,
    StrongAnswer, StrongRequest, StrongResult, Txn, TxnOp,
};
use starling_api::{Blob, Error};
use starling_strong::api;

use crate::report::hex;

/// What a client asks.
pub fn request(request: StrongRequest) -> api::Request {
    let write = match request {
        StrongRequest::Get(get) => return api::Request::Read(api::Read::Range(range(get))),
        StrongRequest::Leases => return api::Request::Read(api::Read::Leases),
        StrongRequest::Hash => return api::Request::Read(api::Read::Hash),
        StrongRequest::KeepAlive { id } => return api::Request::KeepAlive { id },
        StrongRequest::TimeToLive { id } => return api::Request::TimeToLive { id, keys: true },
        StrongRequest::Txn(txn) if !txn.writes() => {
            return api::Request::Read(api::Read::Txn(self::txn(txn)));
        }
        StrongRequest::Put(put) => api::Write::Put(self::put(put)),
        StrongRequest::PutSequential { prefix, value, lease } => {
            api::Write::PutSequential { prefix: prefix.0, value: value.0, lease }
        }
        StrongRequest::Delete(delete) => api::Write::Delete(self::delete(delete)),
        StrongRequest::PopFirst { keys } => api::Write::PopFirst { keys: self::keys(keys) },
        StrongRequest::Txn(txn) => api::Write::Txn(self::txn(txn)),
        StrongRequest::Compact { revision } => api::Write::Compact { revision },
        StrongRequest::LeaseGrant { id, ttl_ms } => api::Write::LeaseGrant { id, ttl_ms },
        StrongRequest::LeaseRevoke { id } => api::Write::LeaseRevoke { id },
    };
    api::Request::Write(write)
}

/// The name of a write.
pub fn request_id(id: &RequestId) -> Result<api::RequestId, Error> {
    let wrong = |_| Error::invalid("request_id.client is not a number", "write 1 to 32 hexadecimal digits");
    let client = u128::from_str_radix(&id.client, 16).map_err(wrong)?;
    Ok(api::RequestId { client, seq: id.seq, answered_below: id.answered_below })
}

/// The proof that a lock is held.
pub fn fence(fence: Fence) -> api::Fence {
    api::Fence { lock: fence.lock.0, token: fence.token }
}

/// Keys of a range.
pub fn keys(keys: Keys) -> api::Keys {
    match keys {
        Keys::Key(key) => api::Keys::One(key.0),
        Keys::Prefix(prefix) => api::Keys::Range { to: after(&prefix.0), from: prefix.0 },
        Keys::Range { from, to } => api::Keys::Range { from: from.0, to: to.map(|to| to.0) },
    }
}

/// The first key behind all that begin with `prefix`, if there is one.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn range(get: Get) -> api::Range {
    let Get { limit, revision, sort, max_create_revision, keys_only, count_only, .. } = get;
    let sort = sort.map(|sort| {
        let order = if sort.descending { api::SortOrder::Descending } else { api::SortOrder::Ascending };
        (sort_by(sort.by), order)
    });
    let all = api::Range::of(keys(get.keys));
    api::Range { limit, revision, sort, max_create_revision, keys_only, count_only, ..all }
}

fn sort_by(by: SortBy) -> api::SortBy {
    match by {
        SortBy::Key => api::SortBy::Key,
        SortBy::Version => api::SortBy::Version,
        SortBy::CreateRevision => api::SortBy::CreateRevision,
        SortBy::ModRevision => api::SortBy::ModRevision,
        SortBy::Value => api::SortBy::Value,
    }
}

fn put(put: Put) -> api::Put {
    api::Put { key: put.key.0, value: Some(put.value.0), lease: Some(put.lease), prev: put.prev }
}

fn delete(delete: Delete) -> api::Delete {
    api::Delete { keys: keys(delete.keys), prev: delete.prev }
}

fn txn(txn: Txn) -> api::Txn {
    api::Txn {
        compare: txn.compare.into_iter().map(compare).collect(),
        then: txn.then.into_iter().map(op).collect(),
        otherwise: txn.otherwise.into_iter().map(op).collect(),
    }
}

fn op(op: TxnOp) -> api::TxnOp {
    match op {
        TxnOp::Get(get) => api::TxnOp::Range(range(get)),
        TxnOp::Put(put) => api::TxnOp::Put(self::put(put)),
        TxnOp::Delete(delete) => api::TxnOp::Delete(self::delete(delete)),
    }
}

fn compare(compare: Compare) -> api::Compare {
    let is = match compare.is {
        Relation::Equal => api::Relation::Equal,
        Relation::NotEqual => api::Relation::NotEqual,
        Relation::Greater => api::Relation::Greater,
        Relation::Less => api::Relation::Less,
    };
    let to = match compare.to {
        Operand::Version(version) => api::Operand::Version(version),
        Operand::CreateRevision(revision) => api::Operand::CreateRevision(revision),
        Operand::ModRevision(revision) => api::Operand::ModRevision(revision),
        Operand::Value(value) => api::Operand::Value(value.0),
        Operand::Lease(lease) => api::Operand::Lease(lease),
    };
    api::Compare { keys: api::Keys::One(compare.key.0), is, to }
}

/// What a client is answered.
pub fn answer(answer: api::Answer, stale: Option<Staleness>) -> StrongAnswer {
    StrongAnswer { revision: answer.revision, stale, result: result(answer.body) }
}

fn result(body: api::Body) -> StrongResult {
    match body {
        api::Body::Range(found) => StrongResult::Found(Found {
            kvs: found.kvs.into_iter().map(kv).collect(),
            more: found.more,
            count: found.count,
        }),
        api::Body::Put { prev } => StrongResult::Put { prev: prev.map(kv) },
        api::Body::Sequential { key } => StrongResult::Sequential { key: Blob(key) },
        api::Body::Delete { deleted, prev } => {
            StrongResult::Deleted { deleted, prev: prev.into_iter().map(kv).collect() }
        }
        api::Body::Popped { first } => StrongResult::Popped { first: first.map(kv) },
        api::Body::Txn { succeeded, bodies } => {
            StrongResult::Txn { succeeded, results: bodies.into_iter().map(result).collect() }
        }
        api::Body::Compacted => StrongResult::Compacted,
        api::Body::LeaseGranted { id, ttl_ms } => StrongResult::LeaseGranted { id, ttl_ms },
        api::Body::LeaseRevoked => StrongResult::LeaseRevoked,
        api::Body::KeptAlive { id, ttl_ms } => StrongResult::KeptAlive { id, ttl_ms },
        api::Body::TimeToLive { id, granted_ms, left_ms, keys } => {
            let keys = keys.into_iter().map(Blob).collect();
            StrongResult::TimeToLive { id, granted_ms, left_ms, keys }
        }
        api::Body::Leases { leases } => StrongResult::Leases { leases },
        api::Body::Hash { hash, .. } => StrongResult::Hash { hash: hex(&hash) },
    }
}

/// A key as it is.
pub fn kv(kv: api::KeyValue) -> KeyValue {
    KeyValue {
        key: Blob(kv.key),
        value: Blob(kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let end = |prefix: &[u8]| match keys(Keys::Prefix(prefix.into())) {
            api::Keys::Range { to, .. } => to,
            api::Keys::One(_) => panic!("a range"),
        };
        assert_eq!(end(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end(b"\xff"), None);
        assert_eq!(end(b""), None);
    }

    #[test]
    fn a_transaction_that_only_reads_is_no_write() {
        let get = TxnOp::Get(Get::of(Keys::Key("a".into())));
        let reads = Txn { then: vec![get.clone()], ..Txn::default() };
        assert!(matches!(request(StrongRequest::Txn(reads)), api::Request::Read(_)));
        let delete = TxnOp::Delete(Delete { keys: Keys::Key("a".into()), prev: false });
        let writes = Txn { then: vec![get], otherwise: vec![delete], ..Txn::default() };
        assert!(matches!(request(StrongRequest::Txn(writes)), api::Request::Write(_)));
    }
}
