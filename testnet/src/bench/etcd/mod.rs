//! A strong keyspace of three nodes beside etcd of three servers: the same machine, the same run, the same
//! load over the same API, in turn.

mod cluster;
mod loads;
mod rows;
mod servers;
mod synced;

use std::time::Duration;

use serde::Serialize;
use starling_report::{Report, median, number};

use crate::Common;
use crate::bench::keyspace::{create, served};
use crate::error::{Error, Result};
use crate::network::{Network, Plan};
use crate::progress::Phase;
use crate::show::start;

use cluster::Cluster;
use loads::{LOADS, VALUE_BYTES};
use rows::rows;
use servers::Servers;

/// The keyspace, and who has it.
const KEYSPACE: &str = "orders";
const MEMBERS: [usize; 3] = [0, 1, 2];

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rounds of each load on each of the two, in turn; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each load
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Seconds of each load before those, not measured
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Keys in the store while memory is measured and the loads run
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    /// Absent: it is not installed.
    etcd_version: Option<String>,
    rounds: u32,
    seconds: f64,
    keys: u64,
    memory: [Option<Memory>; 2],
    loads: Vec<Measured>,
    /// One small write into a file, synced; median of each round, milliseconds.
    synced_write_ms: Vec<f64>,
}

/// Resident memory, mean of the three servers, bytes.
#[derive(Clone, Copy, Debug, Serialize)]
struct Memory {
    idle_bytes: u64,
    loaded_bytes: u64,
}

/// One load, measured in each round.
#[derive(Debug, Default, Serialize)]
struct Measured {
    name: &'static str,
    starling: Vec<starling_load::Report>,
    etcd: Vec<starling_load::Report>,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = Plan { nodes: MEMBERS.len(), etcd: Some(KEYSPACE.into()), ..common.plan(0)? };
    let (network, _) = start(&plan).await?;
    create(&network, KEYSPACE, &MEMBERS).await?;
    served(&network, KEYSPACE).await?;
    let starling = Servers { endpoints: endpoints(&network)?, pids: network.pids() };
    let cluster = Cluster::start(&network.root().join("etcd")).await?;
    match &cluster {
        Some(cluster) => eprintln!("etcd {} runs beside it, with three servers", cluster.version),
        None => eprintln!(
            "etcd is not installed (Debian: apt-get install etcd-server): Starling alone is measured"
        ),
    }
    let etcd = cluster.as_ref().map(|cluster| &cluster.servers);

    let memory = [
        Some(fill(&starling, options.keys, "Starling").await?),
        match etcd {
            Some(etcd) => Some(fill(etcd, options.keys, "etcd").await?),
            None => None,
        },
    ];
    let mut loads: Vec<Measured> =
        LOADS.iter().map(|load| Measured { name: load.name, ..Measured::default() }).collect();
    let mut synced_write_ms = Vec::new();
    for round in 1..=options.rounds {
        let name = format!("round {round} of {}", options.rounds);
        let phase = Phase::begin(name, LOADS.len() as u64);
        synced_write_ms.push(synced::write_ms(network.root())?);
        for (load, measured) in LOADS.iter().zip(&mut loads) {
            measured.starling.push(load.run(&starling, options).await?);
            if let Some(etcd) = etcd {
                measured.etcd.push(load.run(etcd, options).await?);
            }
            phase.advance(1);
        }
        phase.done("");
    }
    let outcome = Outcome {
        etcd_version: cluster.as_ref().map(|cluster| cluster.version.clone()),
        rounds: options.rounds,
        seconds: options.seconds,
        keys: options.keys,
        memory,
        loads,
        synced_write_ms,
    };
    Ok(report(&outcome))
}

fn endpoints(network: &Network) -> Result<Vec<std::net::SocketAddr>> {
    MEMBERS.iter().map(|member| network.node(*member).etcd()).collect()
}

/// Memory without any key, and with so many.
async fn fill(servers: &Servers, keys: u64, name: &str) -> Result<Memory> {
    let phase = Phase::begin(format!("putting {keys} keys into {name}"), 0);
    let leader = servers.leader_first().await?;
    let idle_bytes = servers.rss_bytes()?;
    let Some(leader) = leader.first() else { return Err(Error::Broken("there is no server".into())) };
    starling_load::lay(*leader, keys, VALUE_BYTES).await.map_err(Error::Load)?;
    let loaded_bytes = servers.rss_bytes()?;
    phase.done("");
    Ok(Memory { idle_bytes, loaded_bytes })
}

fn report(outcome: &Outcome) -> Report {
    let etcd = outcome.etcd_version.as_ref();
    let title = match etcd {
        Some(version) => format!("Starling and etcd {version}: 3 servers each, synced writes of 100 B"),
        None => "Starling without etcd beside it: 3 servers, synced writes of 100 B".into(),
    };
    let synced = median(outcome.synced_write_ms.iter().copied());
    let failed = |of: fn(&Measured) -> &Vec<starling_load::Report>| -> u64 {
        outcome.loads.iter().flat_map(of).map(|report| report.failed).sum()
    };
    let report = Report::new(title, outcome).side_by_side(["Starling", "etcd"], rows(outcome)).line(format!(
        "medians of {} rounds of {} s, in turn; ratio: how many times better Starling is; \
             requests that failed: {} of Starling, {} of etcd; a synced write takes {} ms here",
        outcome.rounds,
        number(outcome.seconds),
        failed(|measured| &measured.starling),
        failed(|measured| &measured.etcd),
        number(synced),
    ));
    let p50_ms = |name: &str| {
        let measured = outcome.loads.iter().find(|measured| measured.name == name);
        median(measured.into_iter().flat_map(|it| &it.starling).map(|report| report.p50_us as f64 / 1000.0))
    };
    let needed = synced + p50_ms(loads::GET_ALONE);
    report.bar("put, 1 client, p50, against a synced write and a get", p50_ms(loads::PUT_ALONE), "ms", needed)
}

impl Options {
    fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}
