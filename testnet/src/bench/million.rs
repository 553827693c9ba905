//! One node with a large store, and large stores for the other measurements.

use std::time::{Duration, Instant};

use serde::Serialize;
use starling_report::{Report, bytes, millis, number};

use crate::Common;
use crate::error::{Error, Result};
use crate::load::{made_up, made_up_bytes, write_all};
use crate::network::{Network, Node, Plan, wait_until};
use crate::progress::Phase;
use crate::usage::{Memory, disk_bytes, memory};

/// Keyspace of the made-up records.
pub const KEYSPACE: &str = "million";
/// Time for a root to be rebuilt, of a million entries.
const ROOT_DEADLINE: Duration = Duration::from_secs(300);
const ROOT_POLL: Duration = Duration::from_millis(20);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Keys in the store
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    keys: u64,
    payload_bytes: u64,
    load_ms: f64,
    loaded: Memory,
    disk_bytes: u64,
    polite: Start,
    killed: Start,
}

/// A start with a full store.
#[derive(Debug, Serialize)]
struct Start {
    /// From `exec` until the API listened.
    listening_ms: f64,
    /// From `exec` until a stored key was read.
    answered_ms: f64,
    /// From `exec` until the root fingerprint was known.
    root_ms: f64,
    memory: Memory,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = Plan { nodes: 1, ..common.plan(1)? };
    let mut network = Network::begin(&plan).await?;
    network.node_mut(0).start().await?;
    let load = fill(&network, 0, plan.seed, options.keys).await?;
    let loaded = memory(network.node(0).process()?.pid())?;
    network.node_mut(0).kill().await?;
    let killed = start(&mut network, "after kill -9").await?;
    network.node_mut(0).leave().await?;
    let disk_bytes = disk_bytes(network.node(0).data_dir());
    let polite = start(&mut network, "after a polite end").await?;
    let payload_bytes = made_up_bytes(options.keys);
    let outcome = Outcome {
        keys: options.keys,
        payload_bytes,
        load_ms: millis(load),
        loaded,
        disk_bytes,
        polite,
        killed,
    };
    Ok(report(&outcome))
}

/// Writes made-up records through one node.
pub async fn fill(network: &Network, through: usize, seed: u64, keys: u64) -> Result<Duration> {
    let phase = Phase::begin(format!("writing {keys} keys"), keys);
    let took =
        write_all(network, &[through], KEYSPACE, made_up(seed, "key-", keys), |n| phase.advance(n)).await?;
    phase.done(format!("{} keys/s", number(keys as f64 / took.as_secs_f64())));
    Ok(took)
}

/// Waits until a node knows its root; returns it.
pub async fn root_known(node: &Node) -> Result<String> {
    let mut found = String::new();
    wait_until("the root fingerprint is known", ROOT_DEADLINE, ROOT_POLL, async || {
        let status = node.client()?.status().await.map_err(node.failed())?;
        match status.root {
            Some(root) => {
                found = root;
                Ok(None)
            }
            None => Ok(Some(format!("{} is rebuilding it", status.name))),
        }
    })
    .await?;
    Ok(found)
}

async fn start(network: &mut Network, how: &str) -> Result<Start> {
    let phase = Phase::begin(format!("starting {how}"), 0);
    let began = Instant::now();
    network.node_mut(0).start().await?;
    let listening = network.node(0).process()?.started_in;
    let node = network.node(0);
    let key = made_up(0, "key-", 1).next().map(|(key, _)| key).unwrap_or_default();
    let found = node.client()?.get_raw(KEYSPACE, key.as_bytes()).await.map_err(node.failed())?;
    found.ok_or_else(|| Error::Broken(format!("{key} is gone {how}")))?;
    let answered = began.elapsed();
    root_known(node).await?;
    let root = began.elapsed();
    phase.done(format!("answered after {} ms", number(millis(answered))));
    Ok(Start {
        listening_ms: millis(listening),
        answered_ms: millis(answered),
        root_ms: millis(root),
        memory: memory(node.process()?.pid())?,
    })
}

fn report(outcome: &Outcome) -> Report {
    let row = |how: &str, start: &Start| {
        let [listening, answered, root] = [start.listening_ms, start.answered_ms, start.root_ms].map(number);
        [
            how.into(),
            listening,
            answered,
            root,
            bytes(start.memory.rss_bytes),
            bytes(start.memory.pss_anonymous_bytes),
        ]
    };
    let header = ["start", "listening ms", "first read ms", "root known ms", "RSS", "anonymous"];
    let rows = [row("after a polite end", &outcome.polite), row("after kill -9", &outcome.killed)];
    Report::new(format!("One node with {} keys of 100 B", outcome.keys), outcome)
        .line(format!(
            "loaded through the API in {} s; then RSS {} ({} anonymous), disk {} for {} of keys and values",
            number(outcome.load_ms / 1000.0),
            bytes(outcome.loaded.rss_bytes),
            bytes(outcome.loaded.pss_anonymous_bytes),
            bytes(outcome.disk_bytes),
            bytes(outcome.payload_bytes),
        ))
        .table(header, rows)
        .bar("first read after a polite end", outcome.polite.answered_ms / 1000.0, "s", 2.0)
        .bar("first read after kill -9", outcome.killed.answered_ms / 1000.0, "s", 2.0)
}
