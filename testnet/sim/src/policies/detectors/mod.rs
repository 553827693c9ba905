//! Failure detectors: heartbeats with three shapes and three bounds on silence, SWIM with and without Lifeguard, and the
//! node's own, against the same faults, measured in the same way.
//!
//! Each is a [`machine::Machine`] for one node, without clock and network. Equal seeds give equal runs.

pub mod heartbeat;
pub mod machine;
mod network;
pub mod own;
pub mod silence;
pub mod swim;
#[cfg(test)]
mod tests;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Estimate;
use super::overlay::random_regular;
use crate::Threads;
use heartbeat::{Config, Heartbeats, Shape};
use network::Network;
pub use network::{DOWN_US, Fault, LATE_US, Outcome, Plan, STALL_EVERY_US, STALL_US};
use own::Own;
use silence::Patience;
use swim::Swim;

/// A detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detector {
    /// Heartbeats to one node, fixed time-out.
    Central,
    /// Heartbeats to the next node, fixed time-out.
    Ring,
    /// Heartbeats to all, fixed time-out.
    All,
    /// Heartbeats to all, Jacobson's time-out.
    AllJacobson,
    /// Heartbeats to all, phi accrual.
    AllPhi,
    /// SWIM.
    Swim,
    /// SWIM with Lifeguard.
    Lifeguard,
    /// The node's own.
    Own,
}

/// Time between two heartbeats, and of a probe, microseconds: memberlist's period.
const PERIOD_US: u64 = 1_000_000;
/// The fixed time-out: three heartbeats, and as long as the node's own detector promises.
const FIXED_US: u64 = 3_000_000;
/// Phi at which a node is considered faulty: Akka's and Cassandra's default.
const PHI: u32 = 8;
/// Neighbours of a node: the node's default.
const DEGREE: usize = 5;
/// Pairs of a watching and a watched node that are simulated, at most.
const PAIRS_MAX: usize = 20_000;

impl Detector {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Central,
        Self::Ring,
        Self::All,
        Self::AllJacobson,
        Self::AllPhi,
        Self::Swim,
        Self::Lifeguard,
        Self::Own,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Central => "heartbeats to one, 3 s",
            Self::Ring => "heartbeats on a ring, 3 s",
            Self::All => "heartbeats to all, 3 s",
            Self::AllJacobson => "heartbeats to all, Jacobson",
            Self::AllPhi => "heartbeats to all, phi 8",
            Self::Swim => "SWIM",
            Self::Lifeguard => "SWIM with Lifeguard",
            Self::Own => "Starling's own",
        }
    }

    fn heartbeats(self, nodes: usize) -> Option<Config> {
        let all = Shape::All { watching: (PAIRS_MAX / nodes).clamp(2, nodes) };
        let fixed = Patience::Fixed(FIXED_US);
        let (shape, patience) = match self {
            Self::Central => (Shape::Central, fixed),
            Self::Ring => (Shape::Ring, fixed),
            Self::All => (all, fixed),
            Self::AllJacobson => (all, Patience::Jacobson),
            Self::AllPhi => (all, Patience::Phi(PHI)),
            Self::Swim | Self::Lifeguard | Self::Own => return None,
        };
        Some(Config { shape, patience, period_us: PERIOD_US })
    }

    /// How many of the nodes watch others in a network of this size; of a large one where all watch all, a sample.
    pub fn watching(self, nodes: usize) -> usize {
        match self.heartbeats(nodes).map(|config| config.shape) {
            Some(Shape::All { watching }) => watching,
            _ => nodes,
        }
    }

    /// Runs it once.
    pub fn run(self, plan: &Plan, seed: u64) -> Outcome {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = plan.nodes;
        // Node 0 is the centre, whose own end no one notices.
        let faulty = rng.random_range(1..nodes);
        let network_seed = rng.next_u64();
        if let Some(config) = self.heartbeats(nodes) {
            let mut machine = |own| Heartbeats::new(config, own, nodes, rng.random_range(0..PERIOD_US));
            let machines = (0..nodes).map(&mut machine).collect();
            let watching = self.watching(nodes);
            let outcome = Network::new(plan, machines, faulty, (0..watching).collect(), network_seed).run();
            return scaled(outcome, watching, nodes);
        }
        if self == Self::Own {
            let degree = DEGREE.min(nodes - 1);
            let overlay = random_regular(nodes, degree, &mut rng);
            let of = |node: usize| overlay[node].iter().map(|other| *other as usize).collect::<Vec<_>>();
            let machines = (0..nodes).map(|node| Own::new(node, of(node))).collect();
            return Network::new(plan, machines, faulty, of(faulty), network_seed).run();
        }
        let is_guarded = self == Self::Lifeguard;
        let mut machine = |own| {
            let first_us = rng.random_range(0..PERIOD_US);
            Swim::new(is_guarded, own, nodes, first_us, rng.next_u64())
        };
        let machines = (0..nodes).map(&mut machine).collect();
        Network::new(plan, machines, faulty, (0..nodes).collect(), network_seed).run()
    }
}

/// The traffic of a network in which all nodes watch, of one in which `watching` of them do.
fn scaled(mut outcome: Outcome, watching: usize, nodes: usize) -> Outcome {
    if watching < nodes {
        let factor = (nodes - 1) as f64 / watching as f64;
        outcome.messages = (outcome.messages as f64 * factor) as u64;
        outcome.bytes = (outcome.bytes as f64 * factor) as u64;
        // A node that watches receives as many heartbeats as all send to it, and sends as many to the others.
        outcome.busiest = 2 * outcome.messages / nodes as u64;
    }
    outcome
}

/// Many runs of one plan.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The detector.
    pub detector: Detector,
    /// Runs.
    pub runs: u32,
    /// Runs in which some node considered the faulty one faulty.
    pub noticed: u32,
    /// Until the first did, milliseconds, over these runs.
    pub first_ms: Estimate,
    /// Until all did that can, milliseconds, over the runs in which they did.
    pub all_ms: Estimate,
    /// Runs in which they did.
    pub complete: u32,
    /// Share of those that can, which did.
    pub share: Estimate,
    /// Healthy nodes that came to be considered faulty by healthy ones, per node and hour.
    pub false_per_node_hour: f64,
    /// Verdicts of the faulty node about healthy ones, per run.
    pub by_the_faulty: Estimate,
    /// Messages that a node sends per second.
    pub messages_s: f64,
    /// Bytes of these.
    pub bytes_s: f64,
    /// Messages that the busiest node sends and receives per second.
    pub busiest_s: f64,
}

/// Runs each detector's plan with as many seeds from `seed` on as stand beside it: every run is a job of its own.
pub fn measure(threads: &Threads, cases: &[(Detector, Plan, u32)], seed: u64) -> Vec<Summary> {
    let jobs = cases.iter().flat_map(|case| (0..case.2).map(move |run| (case, run)));
    let outcomes =
        threads.map(jobs, |((detector, plan, _), run)| detector.run(plan, seed.wrapping_add(u64::from(run))));
    let mut outcomes = outcomes.into_iter();
    let mut of = |runs| outcomes.by_ref().take(runs as usize).collect::<Vec<_>>();
    cases.iter().map(|(detector, plan, runs)| summarize(*detector, plan, &of(*runs))).collect()
}

fn summarize(detector: Detector, plan: &Plan, outcomes: &[Outcome]) -> Summary {
    let runs = outcomes.len() as u32;
    let node_seconds = plan.nodes as f64 * plan.measure_ms as f64 / 1000.0 * f64::from(runs);
    let total = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>() as f64;
    let noticed = outcomes.iter().filter_map(|outcome| outcome.first_ms);
    let complete = outcomes.iter().filter_map(|outcome| outcome.all_ms);
    Summary {
        detector,
        runs,
        noticed: noticed.clone().count() as u32,
        first_ms: Estimate::of(noticed),
        complete: complete.clone().count() as u32,
        all_ms: Estimate::of(complete),
        share: Estimate::of(outcomes.iter().map(|outcome| outcome.share)),
        false_per_node_hour: total(&|outcome| outcome.false_positives) / (node_seconds / 3600.0),
        by_the_faulty: Estimate::of(outcomes.iter().map(|outcome| outcome.by_the_faulty as f64)),
        messages_s: total(&|outcome| outcome.messages) / node_seconds,
        bytes_s: total(&|outcome| outcome.bytes) / node_seconds,
        busiest_s: total(&|outcome| outcome.busiest) / (plan.measure_ms as f64 / 1000.0 * f64::from(runs)),
    }
}
