//! Elections while every core is busy with clients' writes and nothing fails.

use std::time::Duration;

use serde::Serialize;
use starling_api::strong::{StrongCall, Write};
use starling_load::Work;
use starling_report::{Report, number};

use super::{KEYSPACE, MEMBERS, OUTSIDER};
use crate::bench::keyspace::led;
use crate::error::{Error, Result};
use crate::load::VALUE_BYTES;
use crate::network::Network;
use crate::progress::Phase;
use crate::usage::machine_time;

/// Clients, and the connections that they share.
const CLIENTS: usize = 64;
const CONNECTIONS: usize = 6;
const KEYS: u64 = 10_000;
/// Between two compactions: a keyspace that keeps every version of so many writes is full some time.
const COMPACT_EVERY: Duration = Duration::from_secs(10);

/// A time of load.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    seconds: f64,
    clients: usize,
    /// Changes of the term.
    elections: u64,
    writes: u64,
    writes_failed: u64,
    p99_ms: f64,
    /// Of the time of all cores, how much somebody used.
    busy_percent: f64,
}

/// Writes through all members for so long.
pub async fn count(network: &Network, duration: Duration) -> Result<Loaded> {
    let phase = Phase::begin(format!("{CLIENTS} clients write as fast as they can"), 0);
    let before = led(network, KEYSPACE, OUTSIDER).await?;
    let endpoints = MEMBERS.map(|member| network.node(member).etcd());
    let load = starling_load::Plan {
        endpoints: endpoints.into_iter().collect::<Result<_>>()?,
        clients: CLIENTS,
        connections: CONNECTIONS,
        warm_up: Duration::ZERO,
        duration,
        work: Work::Put { value_bytes: VALUE_BYTES, keys: KEYS },
        servers: Vec::new(),
    };
    let machine = machine_time()?;
    let report = tokio::select! {
        report = starling_load::run(&load) => report.map_err(Error::Load)?,
        error = compact(network) => return Err(error),
    };
    let busy_percent = machine_time()?.busy_percent_since(machine);
    let after = led(network, KEYSPACE, OUTSIDER).await?;
    let loaded = Loaded {
        seconds: duration.as_secs_f64(),
        clients: CLIENTS,
        elections: after.term.saturating_sub(before.term),
        writes: report.operations,
        writes_failed: report.failed,
        p99_ms: report.p99_us as f64 / 1000.0,
        busy_percent,
    };
    phase.done(format!("{} elections", loaded.elections));
    Ok(loaded)
}

/// Now and then forgets what was superseded; returns only if that failed.
async fn compact(network: &Network) -> Error {
    loop {
        tokio::time::sleep(COMPACT_EVERY).await;
        let revision = match led(network, KEYSPACE, OUTSIDER).await {
            Ok(led) => led.revision,
            Err(error) => return error,
        };
        let node = network.node(OUTSIDER);
        let call = StrongCall::from(Write::Compact { revision });
        let done = match node.client() {
            Ok(client) => client.ask(KEYSPACE, &call).await.map_err(node.failed()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            return error;
        }
    }
}

impl Loaded {
    /// Its part of the report.
    pub fn add_to(&self, report: Report) -> Report {
        report
            .line(format!(
                "{} clients wrote for {} s through the three members, {} writes/s, p99 {} ms, {} failed; \
                 the cores were busy for {} % of the time",
                self.clients,
                number(self.seconds),
                number(self.writes as f64 / self.seconds),
                number(self.p99_ms),
                self.writes_failed,
                number(self.busy_percent),
            ))
            .bar(format!("elections in {} s of load", number(self.seconds)), self.elections as f64, "", 0.0)
    }
}
