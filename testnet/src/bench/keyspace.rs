//! Strong keyspaces of a network: made, asked, and waited for.

use std::time::Duration;

use starling_api::strong::{CreateKeyspace, Keys, Range, StrongCall};
use starling_api::{Error as ApiError, ErrorCode};
use starling_client::Client;

use crate::error::{Error, Result};
use crate::network::{Network, wait_until};

/// How long a state may take before the run is given up.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long one request may take that finds out about a state, milliseconds.
const ASK_MS: u64 = 1_000;

/// Who leads a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    /// Index of the replica.
    pub leader: usize,
    /// Counts elections.
    pub term: u64,
    /// Of the last change that whoever was asked knows.
    pub revision: u64,
}

/// Makes a keyspace on these replicas.
pub async fn create(network: &Network, keyspace: &str, on: &[usize]) -> Result<()> {
    let first = network.node(*on.first().ok_or_else(|| Error::Broken("a keyspace on no node".into()))?);
    let voters = on.len() as u8;
    let on = on.iter().map(|index| network.node(*index).name().to_string()).collect();
    let create = CreateKeyspace { name: keyspace.into(), voters, on, manual: false };
    // Whoever makes it may not have heard of the others yet.
    wait_until(&format!("the keyspace {keyspace} is made"), DEADLINE, POLL, async || {
        match first.client()?.create_keyspace(&create).await {
            Ok(_) => Ok(None),
            Err(error) if error.code == ErrorCode::Conflict => Ok(None),
            Err(error) => Ok(Some(error.to_string())),
        }
    })
    .await
    .map(drop)
}

/// Waits until every running replica, member or not, answers a linearizable read.
pub async fn served(network: &Network, keyspace: &str) -> Result<()> {
    wait_until(&format!("every node serves {keyspace}"), DEADLINE, POLL, async || {
        for index in network.live() {
            let node = network.node(index);
            if let Err(error) = revision(node.client()?, keyspace, false).await {
                return Ok(Some(format!("{}: {error}", node.name())));
            }
        }
        Ok(None)
    })
    .await
    .map(drop)
}

/// Waits until what a member has itself is no older than this revision.
pub async fn caught_up(network: &Network, member: usize, keyspace: &str, least: u64) -> Result<()> {
    let node = network.node(member);
    wait_until(&format!("{} has caught up", node.name()), DEADLINE, POLL, async || {
        Ok(match revision(node.client()?, keyspace, true).await {
            Ok(revision) if revision >= least => None,
            Ok(revision) => Some(format!("it has revision {revision} of {least}")),
            Err(error) => Some(error.to_string()),
        })
    })
    .await
    .map(drop)
}

/// Waits until a replica knows who leads.
pub async fn led(network: &Network, keyspace: &str, asked: usize) -> Result<Led> {
    let node = network.node(asked);
    let mut found = None;
    wait_until(&format!("{} knows who leads {keyspace}", node.name()), DEADLINE, POLL, async || {
        let info = match node.client()?.strong_info(keyspace).await {
            Ok(Some(info)) => info,
            Ok(None) => return Ok(Some("it knows no such keyspace".into())),
            Err(error) => return Ok(Some(error.to_string())),
        };
        let Some(name) = &info.leader else { return Ok(Some("nobody leads".into())) };
        let leader = network.nodes().iter().position(|node| node.name() == name);
        let leader =
            leader.ok_or_else(|| Error::Broken(format!("{name} leads, and is not of this network")))?;
        found = Some(Led { leader, term: info.term, revision: info.revision });
        Ok(None)
    })
    .await?;
    found.ok_or_else(|| Error::Broken("nobody leads".into()))
}

/// The revision that a node answers a read with. `stale`: of its own replica.
async fn revision(client: &Client, keyspace: &str, stale: bool) -> Result<u64, ApiError> {
    let range = Range { count_only: true, ..Range::of(Keys::One("any".into())) };
    let call = StrongCall { stale, timeout_ms: ASK_MS, ..range.into() };
    client.ask(keyspace, &call).await.map(|answer| answer.revision)
}
