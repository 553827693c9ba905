//! The baseline with a full view.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use starling_report::{Report, millis};
use starling_sim::Threads;
use starling_sim::policies::Estimate;
use starling_sim::policies::swim::{Network, Protocol, Spread, detect, false_suspicion, refute, spread};

use super::{Links, nodes, show};
use crate::Common;
use crate::error::Result;

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    links: Links,
    /// Updates spread, failures detected, suspicions refuted
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    trials: u32,
}

/// How one protocol spreads an update.
#[derive(Debug, Serialize)]
pub struct Dissemination {
    /// Times an update was received, per member beyond the one needed.
    pub rmr: Estimate,
    /// Datagrams that the longest chain came over.
    pub last_hop: Estimate,
    /// Until the last member that learned it, milliseconds.
    pub all_ms: Estimate,
    /// Mean over members, milliseconds.
    pub node_ms: Estimate,
    /// Share of members never reached.
    pub residue: Estimate,
}

/// What one protocol did.
#[derive(Debug, Serialize)]
struct Outcome {
    protocol: Protocol,
    /// Times that each member may send an update.
    retransmits: u32,
    dissemination: Dissemination,
    /// From a failure until the first suspicion, which waits for the end of the period.
    suspected_ms: f64,
    /// From there until every member has declared the failure.
    declared_ms: f64,
    /// Suspicions of live members, per member and hour.
    false_suspicions_hour: f64,
    /// Share of false suspicions that some member did not hear refuted in time.
    false_failures: f64,
    /// Datagrams that a member sends per second when there is nothing to say: pings and acks.
    idle_datagrams_s: f64,
}

/// Failures whose detection is simulated.
const FAILURES: u32 = 300;

/// Spreads updates.
pub fn disseminate(protocol: &Protocol, network: &Network, updates: u32, seed: u64) -> Dissemination {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let spreads: Vec<Spread> = (0..updates).map(|_| spread(protocol, network, &mut rng)).collect();
    let over = |of: &dyn Fn(&Spread) -> f64| Estimate::of(spreads.iter().map(of));
    let last_ms = |s: &Spread| s.arrivals_us.last().copied().unwrap_or(0) as f64 / 1000.0;
    let mean_ms = |s: &Spread| s.arrivals_us.iter().sum::<u64>() as f64 / s.arrivals_us.len() as f64 / 1000.0;
    Dissemination {
        rmr: over(&|s| s.copies as f64 / (s.arrivals_us.len() - 1).max(1) as f64 - 1.0),
        last_hop: over(&|s| f64::from(s.hops_max)),
        all_ms: over(&last_ms),
        node_ms: over(&mean_ms),
        residue: over(&|s| 1.0 - s.arrivals_us.len() as f64 / network.members as f64),
    }
}

fn measure(protocol: Protocol, network: &Network, trials: u32, seed: u64) -> Outcome {
    let dissemination = disseminate(&protocol, network, trials, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let period_ms = protocol.period_ms as f64;
    let detection = detect(network.members, FAILURES, &mut rng);
    let refuted = (0..trials).map(|_| refute(&protocol, network, &mut rng));
    let failures = refuted.filter(|spread| spread.expired > 0).count();
    Outcome {
        protocol,
        retransmits: protocol.retransmits(network.members),
        suspected_ms: detection.in_turn.mean * period_ms,
        declared_ms: millis(protocol.suspicion(network.members)) + dissemination.all_ms.mean,
        dissemination,
        false_suspicions_hour: false_suspicion(&protocol, network.links.loss) * 3_600_000.0 / period_ms,
        false_failures: failures as f64 / f64::from(trials),
        idle_datagrams_s: 2000.0 / period_ms,
    }
}

impl Options {
    /// The paper's protocol and Serf's, side by side.
    pub fn run(&self, common: &Common, threads: &Threads) -> Result<Report> {
        let network = Network { members: nodes(common).max(3), links: self.links.checked()? };
        let protocols = [Protocol::paper(), Protocol::serf()];
        let outcomes =
            threads.map(protocols, |protocol| measure(protocol, &network, self.trials, common.seed));
        let row = |name: &str, of: &dyn Fn(&Outcome) -> String| {
            [name.to_string(), of(&outcomes[0]), of(&outcomes[1])]
        };
        let rows = [
            row("an update is sent by each member, times", &|o| o.retransmits.to_string()),
            row("copies received per member beyond the one needed", &|o| show(o.dissemination.rmr)),
            row("share of members never reached", &|o| show(o.dissemination.residue)),
            row("until a member knows, mean ms", &|o| show(o.dissemination.node_ms)),
            row("until all know, ms", &|o| show(o.dissemination.all_ms)),
            row("last hop", &|o| show(o.dissemination.last_hop)),
            row("failure until first suspected, ms", &|o| format!("{:.0}", o.suspected_ms)),
            row("suspected until declared everywhere, ms", &|o| format!("{:.0}", o.declared_ms)),
            row("live members suspected, per member and hour", &|o| {
                format!("{:.3}", o.false_suspicions_hour)
            }),
            row("of these declared failed by another node", &|o| format!("{:.3}", o.false_failures)),
            row("datagrams per member and second when idle", &|o| format!("{:.1}", o.idle_datagrams_s)),
        ];
        let title = format!("Full view: {} members, loss {}", network.members, network.links.loss);
        let values = serde_json::json!({ "network": network, "outcomes": outcomes });
        Ok(Report::new(title, &values).table(["", "SWIM", "Serf"], rows))
    }
}
