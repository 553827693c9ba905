//! After the faults: what has to come about by itself, within bounds.

use std::time::Duration;

use starling_api::strong::{Body, Keys, Put, Range, Read, StrongCall, Write};
use starling_client::Client;
use starling_history::Change;

use super::members::Members;
use super::watchers::put;
use super::{DEADLINE, KEYSPACE, POLL};
use crate::error::{Error, Result};
use crate::network::wait_until;

/// When every voter runs again, every node has to take a write within this time. A guess with room for both
/// cores being busy: some elections, and the catching up of whoever was away.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(30);
/// How long one of these writes may take before it is tried again.
const WRITE_MS: u64 = 2_000;
/// The key of these writes.
const PROGRESS_KEY: &str = "progress";

/// A client of a node that runs.
pub fn client(members: &Members, node: usize) -> Result<Client> {
    members.client(node).ok_or_else(|| Error::Broken(format!("node {} is not running", members.name(node))))
}

/// Waits until every node has taken a write; says how long the first and the last took.
pub async fn progress(members: &Members) -> Result<[Duration; 2]> {
    let took = futures::future::try_join_all((0..members.count()).map(async |node| {
        let (name, client) = (members.name(node), client(members, node)?);
        let write = Write::Put(Put::new(PROGRESS_KEY, name.clone()));
        let call = StrongCall { timeout_ms: WRITE_MS, ..write.into() };
        wait_until(&format!("a write through {name}"), PROGRESS_DEADLINE, POLL, async || {
            Ok(client.ask(KEYSPACE, &call).await.err().map(|error| error.to_string()))
        })
        .await
    }))
    .await?;
    let of = |extreme: Option<Duration>| extreme.unwrap_or_default();
    Ok([of(took.iter().min().copied()), of(took.iter().max().copied())])
}

/// Waits until no lease is left: nobody keeps one alive any more.
pub async fn leases_end(members: &Members) -> Result<Duration> {
    let client = client(members, members.count() - 1)?;
    wait_until("every lease has run out", DEADLINE, POLL, async || {
        Ok(match client.ask(KEYSPACE, &Read::Leases.into()).await.map(|answer| answer.body) {
            Ok(Body::Leases { leases }) if leases.is_empty() => None,
            other => Some(format!("{other:?}")),
        })
    })
    .await
}

/// A change that watchers of `prefix` are told last.
pub fn mark(prefix: &[u8]) -> Put {
    Put::new([prefix, b".end"].concat(), "")
}

/// What every replica holds, and what a client outside of the group reads, once all replicas tell the same
/// hash.
pub async fn states(members: &Members) -> Result<Vec<(String, Vec<Change>)>> {
    let voters = (0..members.voters()).map(|voter| client(members, voter)).collect::<Result<Vec<_>>>()?;
    wait_until("all replicas tell the same hash", DEADLINE, POLL, async || {
        let mut hashes = Vec::new();
        for client in &voters {
            let call = StrongCall { stale: true, ..Read::Hash.into() };
            match client.ask(KEYSPACE, &call).await.map(|answer| (answer.revision, answer.body)) {
                Ok((revision, Body::Hash { hash, .. })) => hashes.push((revision, hash)),
                other => return Ok(Some(format!("{other:?}"))),
            }
        }
        let is_one = hashes.iter().all(|hash| *hash == hashes[0]);
        Ok((!is_one).then(|| format!("they tell {hashes:?}")))
    })
    .await?;
    let mut states = Vec::new();
    for node in 0..members.count() {
        let (name, is_stale) = (members.name(node), node < members.voters());
        let state = read_all(&client(members, node)?, is_stale).await.map_err(members.failed(node))?;
        states.push((name, state));
    }
    Ok(states)
}

/// Everything, page by page. Nobody writes meanwhile.
async fn read_all(client: &Client, stale: bool) -> std::result::Result<Vec<Change>, starling_api::Error> {
    let (mut kept, mut from) = (Vec::<Change>::new(), Vec::new());
    loop {
        let call = StrongCall { stale, ..Range::of(Keys::Range { from, to: None }).into() };
        let answer = client.ask(KEYSPACE, &call).await?;
        let Body::Range(found) = answer.body else { return Ok(kept) };
        kept.extend(found.kvs.into_iter().map(put));
        let Some(last) = kept.last().filter(|_| found.more) else { return Ok(kept) };
        from = [&last.key[..], &[0]].concat();
    }
}
