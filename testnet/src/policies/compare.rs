//! Every policy at one size, in one table.

use serde::Serialize;
use starling_report::Report;
use starling_sim::Threads;
use starling_sim::policies::Links;
use starling_sim::policies::mongering::{Direction, Interest, Variant};
use starling_sim::policies::starling::{self, Plan, Senders};
use starling_sim::policies::swim::{Network, Protocol};
use starling_sim::policies::tables;

use super::{nodes, swim};
use crate::Common;
use crate::error::{Error, Result};

/// How long a cycle of the epidemics is taken to last: as long as Serf's gossip interval.
const CYCLE_MS: f64 = 200.0;
/// Latencies of links and datagrams.
const LATENCY_MS: (u64, u64) = (10, 50);

/// A row of the table, and one job.
enum Policy {
    Epidemic(&'static str, Direction, u32),
    FullView(&'static str, fn() -> Protocol),
    Starling,
}

/// The rows, in the order of the table.
const POLICIES: [Policy; 6] = [
    Policy::Epidemic("push, feedback, counter 4", Direction::Push, 4),
    Policy::Epidemic("pull, feedback, counter 2", Direction::Pull, 2),
    Policy::Epidemic("push-pull, feedback, counter 2", Direction::PushPull, 2),
    Policy::FullView("SWIM", Protocol::paper),
    Policy::FullView("Serf", Protocol::serf),
    Policy::Starling,
];

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rumors spread by each policy
    #[arg(long, default_value_t = 20, value_name = "RUMORS", value_parser = clap::value_parser!(u32).range(2..))]
    rumors: u32,
}

/// One policy.
#[derive(Debug, Serialize)]
struct Row {
    policy: String,
    /// Copies received per node beyond the one needed.
    rmr: f64,
    /// Share of the nodes never reached.
    residue: f64,
    /// Until a node has it, mean.
    node_ms: f64,
    /// Until the last node has it, mean over the rumors.
    all_ms: f64,
}

impl Options {
    /// The table.
    pub fn run(&self, common: &Common, threads: &Threads) -> Result<Report> {
        let nodes = nodes(common);
        if nodes < 6 {
            return Err(Error::Unsupported("the overlay needs --nodes 6 or more".into()));
        }
        let rows = threads.map(POLICIES, |policy| match policy {
            Policy::Epidemic(name, direction, k) => {
                let variant = Variant::new(direction, Interest::Counter(k));
                self.epidemic(name, nodes, &variant, common.seed)
            }
            Policy::FullView(name, protocol) => self.full_view(name, &protocol(), nodes, common.seed),
            Policy::Starling => self.starling(nodes, common.seed),
        });
        let table = rows.iter().map(|row| {
            let residue = if row.residue == 0.0 { "0".into() } else { format!("{:.1e}", row.residue) };
            let [rmr, node, all] =
                [format!("{:.2}", row.rmr), format!("{:.0}", row.node_ms), format!("{:.0}", row.all_ms)];
            [row.policy.clone(), rmr, residue, node, all]
        });
        let header = ["", "RMR", "left out", "node ms", "all ms"];
        let title = format!("One rumor among {nodes} nodes, mean of {}", self.rumors);
        Ok(Report::new(title, &rows).table(header, table).line(format!(
            "RMR: copies received per node beyond the one needed; node: until a node has it; all: until the last\n\
             one has it. Epidemics call any node, once per cycle of {CYCLE_MS:.0} ms; SWIM pings once per second;\n\
             Starling knows five neighbours. Latencies are {} to {} ms.",
            LATENCY_MS.0, LATENCY_MS.1,
        )))
    }

    fn epidemic(&self, name: &str, nodes: usize, variant: &Variant, seed: u64) -> Row {
        let measured = tables::measure(nodes, variant, self.rumors, seed);
        Row {
            policy: name.into(),
            rmr: measured.traffic.mean / (1.0 - measured.residue.mean) - 1.0,
            residue: measured.residue.mean,
            node_ms: measured.delay_mean.mean * CYCLE_MS,
            all_ms: measured.delay_last.mean * CYCLE_MS,
        }
    }

    fn full_view(&self, name: &str, protocol: &Protocol, nodes: usize, seed: u64) -> Row {
        let (latency_min_ms, latency_max_ms) = LATENCY_MS;
        let network = Network { members: nodes, links: Links { latency_min_ms, latency_max_ms, loss: 0.0 } };
        let outcome = swim::disseminate(protocol, &network, self.rumors, seed);
        Row {
            policy: name.into(),
            rmr: outcome.rmr.mean,
            residue: outcome.residue.mean,
            node_ms: outcome.node_ms.mean,
            all_ms: outcome.all_ms.mean,
        }
    }

    fn starling(&self, nodes: usize, seed: u64) -> Row {
        let (latency_min_ms, latency_max_ms) = LATENCY_MS;
        let rounds = self.rumors as usize;
        let plan = Plan {
            nodes,
            degree: 5,
            latency_min_ms,
            latency_max_ms,
            loss: 0.0,
            senders: Senders::Many,
            rounds_cold: rounds,
            rounds,
            every_ms: None,
            payload_bytes: 100,
            seed,
        };
        let settled = starling::run(&plan).settled;
        Row {
            policy: "Starling".into(),
            rmr: settled.rmr,
            residue: settled.missed as f64 / (rounds * nodes) as f64,
            node_ms: settled.node_mean_ms,
            all_ms: settled.all_mean_ms,
        }
    }
}
