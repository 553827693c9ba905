//! The default policy on a synthetic overlay.

use std::time::Instant;

use starling_report::Report;
use starling_sim::cost;
use starling_sim::policies::Links;
use starling_sim::policies::starling::{Figures, Outcome, Plan, Senders, run};

use super::{nodes, up_to_a_minute};
use crate::Common;
use crate::error::{Error, Result};

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Who publishes: one node every rumor, or a random node each
    #[arg(long, value_enum, default_value_t = Who::Many)]
    senders: Who,
    /// Rumors in which the tree settles, reported apart
    #[arg(long, default_value_t = 30, value_name = "RUMORS", value_parser = rumors())]
    cold: u32,
    /// Rumors measured after them
    #[arg(long, default_value_t = 30, value_name = "RUMORS", value_parser = rumors())]
    rounds: u32,
    /// Publish at this interval instead of one rumor after the other
    #[arg(long, value_name = "MS", value_parser = up_to_a_minute())]
    every_ms: Option<u64>,
    /// Neighbours of each node
    #[arg(long, default_value_t = 5, value_name = "N")]
    degree: usize,
    #[command(flatten)]
    links: super::Links,
    /// Bytes of a rumor's payload
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    payload_bytes: u32,
}

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Who {
    One,
    Many,
}

/// A number of rumors: each costs a bit or two per node.
fn rumors() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..=10_000)
}

/// Nodes of the comparison with iroh-gossip's simulator.
const BAR_NODES: usize = 1000;

impl Options {
    fn plan(&self, common: &Common) -> Result<Plan> {
        let nodes = nodes(common);
        if !(2..nodes).contains(&self.degree) {
            let what = format!("--degree has to be at least 2 and below the number of nodes, {nodes}");
            return Err(Error::Unsupported(what));
        }
        let Links { latency_min_ms, latency_max_ms, loss } = self.links.checked()?;
        Ok(Plan {
            nodes,
            degree: self.degree,
            latency_min_ms,
            latency_max_ms,
            loss,
            senders: match self.senders {
                Who::One => Senders::One,
                Who::Many => Senders::Many,
            },
            rounds_cold: self.cold as usize,
            rounds: self.rounds as usize,
            every_ms: self.every_ms,
            payload_bytes: self.payload_bytes as usize,
            seed: common.seed,
        })
    }

    /// Runs it.
    pub fn run(&self, common: &Common) -> Result<Report> {
        let plan = self.plan(common)?;
        let start = Instant::now();
        let outcome = run(&plan);
        let cost = cost(outcome.events, outcome.virtual_ms * 1000, plan.nodes, start.elapsed());
        let title = format!("Starling's rumors: {} nodes, {:?} sender(s)", plan.nodes, plan.senders);
        let values = serde_json::json!({ "plan": plan, "outcome": outcome, "cost": cost });
        let report = Report::new(title, &values).table(HEADER, rows(&outcome)).line(format!(
            "RMR: copies received per node beyond the one needed; all: until the last node has it, mean and\n\
                 largest over the rumors; node: until a node has it, mean and 99 %; asked: nodes that had\n\
                 asked for it before it came; bytes per node and rumor, of whole frames.\n\n\
                 {} events in {:.1} s: {:.0} ns and {:.0} bytes per node",
            outcome.events, cost.wall_s, cost.event_ns, cost.node_bytes,
        ));
        Ok(if has_bars(&plan) { bars(report, &outcome.settled) } else { report })
    }
}

/// Whether the run is the one to which the targets apply.
fn has_bars(plan: &Plan) -> bool {
    let links = (plan.degree, plan.latency_min_ms, plan.latency_max_ms) == (5, 10, 50);
    plan.nodes == BAR_NODES && links && plan.loss == 0.0 && plan.every_ms.is_none() && plan.rounds > 0
}

const HEADER: [&str; 11] = [
    "",
    "RMR",
    "last hop",
    "all ms",
    "max ms",
    "node ms",
    "p99 ms",
    "asked",
    "missed",
    "full B",
    "control B",
];

fn rows(outcome: &Outcome) -> [[String; 11]; 2] {
    [("the first", &outcome.cold), ("the next", &outcome.settled)].map(|(name, f)| {
        [
            format!("{name} {} rumors", f.rounds),
            format!("{:.3}", f.rmr),
            format!("{:.1}", f.last_hop),
            format!("{:.0}", f.all_mean_ms),
            format!("{:.0}", f.all_max_ms),
            format!("{:.0}", f.node_mean_ms),
            f.node_p99_ms.to_string(),
            format!("{:.1}", f.grafted_nodes),
            f.missed.to_string(),
            format!("{:.0}", f.full_bytes),
            format!("{:.0}", f.control_bytes),
        ]
    })
}

/// iroh-gossip's simulator at the same size and latencies: RMR .42, 20.7 hops and 606 ms with many
/// senders; .07, 13 hops and 361 ms with one.
fn bars(report: Report, settled: &Figures) -> Report {
    report
        .bar("RMR", settled.rmr, "", 0.05)
        .bar("last hop", settled.last_hop, "", 12.0)
        .bar("mean time to all", settled.all_mean_ms, "ms", 300.0)
        .bar("missed", settled.missed as f64, "", 0.0)
}
