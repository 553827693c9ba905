//! How soon a watch tells a put.

use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::time::Instant;

use crate::Phase;
use crate::connection::Connection;
use crate::report::{Error, Tally};
use crate::work::put;

/// One client with a key and a watch of its own.
pub async fn drive(
    connection: &Connection,
    client: usize,
    value_bytes: usize,
    phase: &Phase,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let key = format!("load/watched/{client}").into_bytes();
    let create = pb::WatchCreateRequest { key: key.clone(), ..pb::WatchCreateRequest::default() };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (_open, mut answers) =
        connection.stream::<pb::WatchResponse>("etcdserverpb.Watch/Watch", &create).await?;
    // It stands.
    answers.next().await?.ok_or(Error::Nonsense)?;
    while !phase.is_over() {
        let started = Instant::now();
        let put = async { put(connection, key.clone(), vec![b'v'; value_bytes]).await };
        let told = async {
            loop {
                let answer = answers.next().await?.ok_or(Error::Nonsense)?;
                if !answer.events.is_empty() {
                    return Ok::<_, Error>(started.elapsed());
                }
            }
        };
        let (put, told) = tokio::join!(put, told);
        put?;
        if phase.counts() {
            tally.times.record(told?.as_micros() as u64);
        }
    }
    Ok(tally)
}
