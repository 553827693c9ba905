//! Conversion of answers into etcd's messages.

use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::mvccpb;
use starling_strong::api::{Body, Event, EventKind, Found, KeyValue};
use tonic::Status;

use super::wire;

pub fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: wire(kv.create_revision),
        mod_revision: wire(kv.mod_revision),
        version: wire(kv.version),
        value: kv.value,
        lease: kv.lease,
    }
}

pub fn prev(kvs: Vec<KeyValue>) -> Vec<mvccpb::KeyValue> {
    kvs.into_iter().map(key_value).collect()
}

pub fn found(header: Option<pb::ResponseHeader>, found: Found) -> pb::RangeResponse {
    pb::RangeResponse { header, kvs: prev(found.kvs), more: found.more, count: wire(found.count) }
}

/// Converts the answer to a transaction. `header` is that of the whole transaction. Each operation has the revision
/// at which it was executed: after a change within the transaction that is the next one.
pub fn txn_answer(header: Option<pb::ResponseHeader>, body: Body) -> Result<pb::TxnResponse, Status> {
    let after = header.as_ref().map_or(0, |header| header.revision);
    let before = after - i64::from(changes(&body));
    let mut within = Within { before, has_changed: false };
    within.txn(header, body)
}

fn changes(body: &Body) -> bool {
    match body {
        Body::Put { .. } => true,
        Body::Delete { deleted, .. } => *deleted > 0,
        Body::Txn { bodies, .. } => bodies.iter().any(changes),
        _ => false,
    }
}

/// The position within the answers of a transaction.
struct Within {
    /// The revision before the transaction.
    before: i64,
    has_changed: bool,
}

impl Within {
    fn txn(&mut self, header: Option<pb::ResponseHeader>, body: Body) -> Result<pb::TxnResponse, Status> {
        let Body::Txn { succeeded, bodies } = body else { return Err(unexpected()) };
        let responses = bodies.into_iter().map(|body| self.response(body)).collect::<Result<_, _>>()?;
        Ok(pb::TxnResponse { header, succeeded, responses })
    }

    fn response(&mut self, body: Body) -> Result<pb::ResponseOp, Status> {
        use pb::response_op::Response;
        if matches!(body, Body::Txn { .. }) {
            // A nested transaction has no revision of its own, as in etcd.
            let txn = self.txn(Some(pb::ResponseHeader::default()), body)?;
            return Ok(pb::ResponseOp { response: Some(Response::ResponseTxn(txn)) });
        }
        self.has_changed |= changes(&body);
        let revision = self.before + i64::from(self.has_changed);
        let header = Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() });
        let response = match body {
            Body::Range(range) => Response::ResponseRange(found(header, range)),
            Body::Put { prev } => {
                Response::ResponsePut(pb::PutResponse { header, prev_kv: prev.map(key_value) })
            }
            Body::Delete { deleted, prev: kvs } => Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                header,
                deleted: wire(deleted),
                prev_kvs: prev(kvs),
            }),
            _ => return Err(unexpected()),
        };
        Ok(pb::ResponseOp { response: Some(response) })
    }
}

pub fn events(events: Vec<Event>) -> Vec<mvccpb::Event> {
    let kind = |kind| match kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    let event = |event: Event| mvccpb::Event {
        r#type: kind(event.kind).into(),
        kv: Some(key_value(event.kv)),
        prev_kv: event.prev.map(key_value),
    };
    events.into_iter().map(event).collect()
}

/// The error for an answer that does not fit its request: a bug in this program.
pub fn unexpected() -> Status {
    Status::internal("starling: an answer to another question")
}
