//! Requests with one answer.

use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use starling_etcd_proto::etcdserverpb::request_op::Request;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::report::{Error, Tally};
use crate::{Phase, Work};

/// Puts under way at once while keys are laid out.
const LAYING: u64 = 64;

/// Puts every key that loads of so many keys write and read.
pub async fn lay(connection: &Connection, keys: u64, value_bytes: usize) -> Result<(), Error> {
    let mut tasks = Vec::new();
    for part in 0..LAYING.min(keys) {
        let connection = connection.clone();
        tasks.push(tokio::spawn(async move {
            let mut number = part;
            while number < keys {
                put(&connection, key(number), vec![b'v'; value_bytes]).await?;
                number += LAYING;
            }
            Ok::<_, Error>(())
        }));
    }
    for task in tasks {
        task.await.map_err(|_| Error::Plan("a client has failed"))??;
    }
    Ok(())
}

/// One client, over and over. A request that fails is counted; a connection that fails ends it.
pub async fn drive(
    connection: &Connection,
    client: usize,
    work: Work,
    phase: &Phase,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut turn = Turn::of(client);
    while !phase.is_over() {
        let started = Instant::now();
        let done = match work {
            Work::Put { value_bytes, keys } => {
                put(connection, key(turn.next() % keys.max(1)), vec![b'v'; value_bytes]).await.map(|()| 0)
            }
            Work::Get { keys, .. } => get(connection, key(turn.next() % keys.max(1))).await.map(|_| 0),
            Work::CompareAndSet { shared } => {
                let key = if shared { b"load/count".to_vec() } else { key(client as u64) };
                count(connection, key, phase).await
            }
            Work::Watch { .. } => return Err(Error::Plan("a watch is no request with one answer")),
        };
        match done {
            Ok(conflicts) if phase.counts() => {
                tally.times.record(started.elapsed().as_micros() as u64);
                tally.conflicts += conflicts;
            }
            Ok(_) => {}
            Err(error @ Error::Refused { .. }) => {
                if phase.counts() {
                    tally.failed += 1;
                }
                tally.last_error = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(tally)
}

/// Which key comes next: spread out, and another sequence for every client (a linear congruence, with
/// Knuth's multiplier for 64 bits).
struct Turn(u64);

impl Turn {
    fn of(client: usize) -> Self {
        Self((client as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("load/{number:012}").into_bytes()
}

pub async fn put(connection: &Connection, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
    let request = pb::PutRequest { key, value, ..pb::PutRequest::default() };
    connection.ask::<pb::PutResponse>("etcdserverpb.KV/Put", &request).await.map(drop)
}

async fn get(connection: &Connection, key: Vec<u8>) -> Result<pb::RangeResponse, Error> {
    let request = pb::RangeRequest { key, ..pb::RangeRequest::default() };
    connection.ask("etcdserverpb.KV/Range", &request).await
}

/// Adds one to a counter; returns how often somebody else came before.
async fn count(connection: &Connection, key: Vec<u8>, phase: &Phase) -> Result<u64, Error> {
    let mut conflicts = 0;
    loop {
        let found = get(connection, key.clone()).await?.kvs.into_iter().next();
        let (revision, value) = found.map_or((0, 0), |kv| {
            (
                kv.mod_revision,
                String::from_utf8(kv.value).ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0),
            )
        });
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            range_end: Vec::new(),
        };
        let value = (value + 1).to_string().into_bytes();
        let put = pb::PutRequest { key: key.clone(), value, ..pb::PutRequest::default() };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { request: Some(Request::RequestPut(put)) }],
            failure: Vec::new(),
        };
        let answer: pb::TxnResponse = connection.ask("etcdserverpb.KV/Txn", &request).await?;
        // One that never succeeds ends with the load.
        if answer.succeeded || phase.is_over() {
            return Ok(conflicts);
        }
        conflicts += 1;
    }
}
