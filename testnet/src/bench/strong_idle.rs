//! Strong keyspaces that nobody uses: what it costs to have them.

use std::time::Duration;

use serde::Serialize;
use starling_report::{Report, bytes, number};

use super::namespace;
use super::window::Window;
use crate::Common;
use crate::bench::keyspace::{create, served};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::progress::Phase;
use crate::show::start;

/// Voters of each keyspace.
const VOTERS: usize = 3;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Strong keyspaces of three voters, spread over the nodes
    #[arg(long, default_value_t = 100)]
    keyspaces: usize,
    /// Seconds before each measurement, until the effects of the start and of the creation are over
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// Seconds that are measured, without and with the keyspaces
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    nodes: usize,
    keyspaces: usize,
    without: Cost,
    with: Cost,
}

/// An idle network. CPU is of all nodes together, everything else is an average per node.
#[derive(Debug, Serialize)]
struct Cost {
    seconds: f64,
    cpu_percent: f64,
    interface_bytes_per_s: f64,
    packets_per_s: f64,
    /// Frames about strong keyspaces, before encryption.
    strong_bytes_per_s: f64,
    pss_bytes: u64,
    rss_bytes: u64,
}

/// Runs the measurement. Begins by running this program again in a network namespace of its own.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    namespace::enter()?;
    let plan = common.plan(5)?;
    if plan.nodes < VOTERS {
        return Err(Error::Unsupported("keyspaces of three voters need --nodes 3 or more".into()));
    }
    let (network, _) = start(&plan).await?;
    let without = watch(&network, options, "without strong keyspaces").await?;
    let phase =
        Phase::begin(format!("making {} strong keyspaces", options.keyspaces), options.keyspaces as u64);
    let names: Vec<String> = (0..options.keyspaces).map(|number| format!("idle-{number}")).collect();
    for (name, voters) in names.iter().zip(triples(plan.nodes).iter().cycle()) {
        create(&network, name, voters).await?;
        phase.advance(1);
    }
    for name in &names {
        served(&network, name).await?;
    }
    phase.done("every node serves each");
    let with = watch(&network, options, "with them").await?;
    let outcome = Outcome { nodes: plan.nodes, keyspaces: options.keyspaces, without, with };
    Ok(report(&outcome))
}

/// Every choice of three of so many nodes.
fn triples(nodes: usize) -> Vec<[usize; VOTERS]> {
    let pairs = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
    pairs.flat_map(|(a, b)| (b + 1..nodes).map(move |c| [a, b, c])).collect()
}

async fn watch(network: &Network, options: &Options, name: &str) -> Result<Cost> {
    let phase = Phase::begin(format!("idle, {name}"), 0);
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    let window = Window::watch(network, options.seconds).await?;
    let each = |amount: u64| window.per_node_second(amount as f64);
    let cost = Cost {
        seconds: window.seconds,
        cpu_percent: window.cpu_percent(),
        interface_bytes_per_s: each(window.interface_bytes),
        packets_per_s: each(window.packets),
        strong_bytes_per_s: each(window.received.strong_bytes),
        pss_bytes: window.mean(|m| m.pss_bytes),
        rss_bytes: window.mean(|m| m.rss_bytes),
    };
    phase.done(format!("{} % of a core", number(cost.cpu_percent)));
    Ok(cost)
}

fn report(outcome: &Outcome) -> Report {
    let row = |name: String, cost: &Cost| {
        let [cpu, interface, packets, strong] =
            [cost.cpu_percent, cost.interface_bytes_per_s, cost.packets_per_s, cost.strong_bytes_per_s]
                .map(number);
        [name, cpu, interface, packets, strong, bytes(cost.pss_bytes), bytes(cost.rss_bytes)]
    };
    let rows = [
        row("none".into(), &outcome.without),
        row(format!("{} of {VOTERS} voters", outcome.keyspaces), &outcome.with),
    ];
    let header = [
        "strong keyspaces",
        "CPU % in all",
        "B/s at the interface",
        "packets/s",
        "B/s in strong frames",
        "PSS",
        "RSS",
    ];
    let nodes = outcome.nodes;
    Report::new(format!("Idle strong keyspaces on {nodes} processes; bytes and memory for each"), outcome)
        .table(header, rows)
        .bar(format!("{nodes} processes together, of a core"), outcome.with.cpu_percent, "%", 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspaces_are_spread_over_all_nodes() {
        let chosen = triples(5);
        assert_eq!(chosen.len(), 10);
        for node in 0..5 {
            assert_eq!(chosen.iter().filter(|triple| triple.contains(&node)).count(), 6);
        }
        assert_eq!(triples(3), [[0, 1, 2]]);
    }
}
