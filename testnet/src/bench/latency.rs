//! Single writes on an idle network.

use std::time::Duration;

use serde::Serialize;
use starling_report::{Convergence, Report, number};

use crate::Common;
use crate::error::Result;
use crate::load::made_up_bytes;
use crate::observe::Observer;
use crate::progress::Phase;
use crate::show::{PROBES, Probes, start};
use crate::states::statuses;
use crate::traffic::Traffic;

/// The network is left alone for so long before it is measured.
const QUIET: Duration = Duration::from_secs(3);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Writes that are measured
    #[arg(long, default_value_t = 300)]
    writes: usize,
    /// Writes before those, not measured: meanwhile superfluous links become lazy
    #[arg(long, default_value_t = 100)]
    warm_up: usize,
    /// Milliseconds between a write that is on every node and the next one
    #[arg(long, default_value_t = 50)]
    pause_ms: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    nodes: usize,
    writes: usize,
    convergence: Convergence,
    /// Full rumors received per node and write.
    copies: f64,
    /// Bytes of frames received per node and write.
    bytes_per_write_and_node: f64,
    /// The same for each byte of key and value.
    overhead: f64,
    traffic: Traffic,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = common.plan(64)?;
    let (network, _) = start(&plan).await?;
    let mut observer = Observer::open(&network, PROBES).await?;
    let phase = Phase::begin("warming up", options.warm_up as u64);
    let warm_up = Probes { seed: plan.seed, prefix: "warm-", count: options.warm_up, pause: Duration::ZERO };
    warm_up.run(&network, &mut observer, || phase.advance(1)).await?;
    tokio::time::sleep(QUIET).await;
    phase.done("");
    let phase = Phase::begin("writing at random nodes, one at a time", options.writes as u64);
    let before = Traffic::received(&statuses(&network).await?);
    let pause = Duration::from_millis(options.pause_ms);
    let measured = Probes { seed: plan.seed, prefix: "probe-", count: options.writes, pause };
    let spreads = measured.run(&network, &mut observer, || phase.advance(1)).await?;
    let traffic = Traffic::received(&statuses(&network).await?).since(before);
    phase.done("");
    let deliveries = (options.writes * plan.nodes.saturating_sub(1)).max(1) as f64;
    let outcome = Outcome {
        nodes: plan.nodes,
        writes: options.writes,
        convergence: Convergence::of(&spreads),
        copies: (traffic.payload_new + traffic.payload_old) as f64 / deliveries,
        bytes_per_write_and_node: traffic.bytes() as f64 / deliveries,
        overhead: traffic.bytes() as f64 / deliveries / made_up_bytes(1) as f64,
        traffic,
    };
    Ok(report(&outcome))
}

fn report(outcome: &Outcome) -> Report {
    let all = outcome.convergence.nodes_all;
    Report::new(format!("Single writes on an idle network of {} processes", outcome.nodes), outcome)
        .summaries("time after the acknowledgement", outcome.convergence.rows())
        .line(format!(
            "bytes of frames received per write and node: {}; for each byte of key and value: {}",
            number(outcome.bytes_per_write_and_node),
            number(outcome.overhead)
        ))
        .bar("readable on the last node, p50", all.p50_ms, "ms", 20.0)
        .bar("readable on the last node, p99", all.p99_ms, "ms", 60.0)
        .bar("payload copies received per node", outcome.copies, "", 1.15)
}
