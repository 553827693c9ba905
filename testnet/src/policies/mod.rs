//! `testnet policies`: ways of spreading rumors, of electing a leader, of detecting failures and of ordering a work queue,
//! simulated without a store.

mod compare;
mod demers;
mod detectors;
mod elections;
mod queues;
mod starling;
mod swim;

use clap::builder::RangedU64ValueParser;
use starling_report::Report;
use starling_sim::Threads;
use starling_sim::policies::Estimate;

use crate::Common;
use crate::error::{Error, Result};

/// What to simulate: `--nodes` 100,000 take seconds to minutes.
#[derive(Debug, clap::Subcommand)]
pub enum Policy {
    /// Every policy at one size, in one table: copies, delays, and who is left out
    Compare(compare::Options),
    /// Tables 1 to 3 of Demers et al. (PODC 1987) beside the published figures, at the size they have
    Tables(demers::TablesOptions),
    /// Rumor mongering of one kind: which way, when interest is lost, limits on connections
    ///
    /// For example, pull with a connection limit of one and three further tries:
    ///     testnet policies rumor --direction pull --connections 1 --hunts 3 --nodes 10000
    #[command(verbatim_doc_comment)]
    Rumor(demers::RumorOptions),
    /// Connection limits and hunting: what they do to residue and traffic (section 1.4 of the paper)
    Limits(demers::LimitsOptions),
    /// Anti-entropy: cycles until everybody knows, beside theory
    AntiEntropy(demers::AntiEntropyOptions),
    /// A full view as in SWIM (DSN 2002) and in Serf: dissemination and failure detection
    Swim(swim::Options),
    /// Starling's own rumor machines on a random overlay
    ///
    /// Rounds follow one another as in iroh-gossip's simulator, whose figures are the targets at 1,000
    /// nodes. For example, a rumor every 20 ms from anywhere, one message of twenty lost:
    ///     testnet policies starling --every-ms 20 --loss 0.05
    #[command(verbatim_doc_comment)]
    Starling(starling::Options),
    /// Elections of a leader: rings, bully, Paxos and the node's Raft, counted, under faults, and broken on purpose
    ///
    /// Prints the counts of the textbooks beside the measured ones, a table for each scenario, and a seed for
    /// each failure that the protocols are known for. For example, a run in which a dead candidate's rank
    /// circulates for ever, message by message, and a scenario with other values:
    ///     testnet policies elections --scenario crash-best --protocol ring --seed 1 --transcript
    ///     testnet policies elections --scenario loss --set links.loss=0.2 --nodes 5
    #[command(verbatim_doc_comment)]
    Elections(elections::Options),
    /// Failure detectors: heartbeats, phi accrual, SWIM, Lifeguard and the node's own, against the same faults
    ///
    /// How soon each fault is noticed, how often a healthy node is considered faulty, and what it costs from 10 to
    /// 10,000 nodes. For example, what one slow node does, where one message of twenty is lost:
    ///     testnet policies detectors --fault slow --loss 0.05
    #[command(verbatim_doc_comment)]
    Detectors(detectors::Options),
    /// Orders of a work queue: arrival, shortest first with and without ageing, longest first, tenants in turn
    ///
    /// Makespan, mean wait and utilisation on stated distributions of arrivals and costs, beside what theory says where its
    /// assumptions hold. For example, where stated costs are wrong:
    ///     testnet policies queues --scenario misjudged
    #[command(verbatim_doc_comment)]
    Queues(queues::Options),
}

impl Policy {
    /// Runs it and prints its tables.
    pub fn run(&self, common: &Common) -> Result<()> {
        let threads = common.threads();
        common.output.print(&self.report(common, &threads)?);
        eprintln!("{}", threads.effort().line());
        Ok(())
    }

    /// Its tables, which do not depend on the number of threads.
    fn report(&self, common: &Common, threads: &Threads) -> Result<Report> {
        match self {
            Self::Compare(options) => options.run(common, threads),
            Self::Tables(options) => Ok(options.run(common, threads)),
            Self::Rumor(options) => Ok(options.run(common, threads)),
            Self::Limits(options) => Ok(options.run(common, threads)),
            Self::AntiEntropy(options) => Ok(options.run(common, threads)),
            Self::Swim(options) => options.run(common, threads),
            Self::Starling(options) => options.run(common),
            Self::Elections(options) => options.run(common, threads),
            Self::Detectors(options) => options.run(common, threads),
            Self::Queues(options) => options.run(common, threads),
        }
    }
}

/// What messages go through.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Links {
    /// Least latency, one way
    #[arg(long, default_value_t = 10, value_name = "MS", value_parser = up_to_a_minute())]
    latency_min_ms: u64,
    /// Largest latency, one way
    #[arg(long, default_value_t = 50, value_name = "MS", value_parser = up_to_a_minute())]
    latency_max_ms: u64,
    /// Share of messages that are lost
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    loss: f64,
}

/// Milliseconds that virtual time can be asked to wait.
fn up_to_a_minute() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(..=60_000)
}

impl Links {
    /// The links as the simulator takes them.
    fn checked(&self) -> Result<starling_sim::policies::Links> {
        let what = if self.latency_min_ms > self.latency_max_ms {
            "--latency-min-ms must not exceed --latency-max-ms"
        } else if !(0.0..1.0).contains(&self.loss) {
            "--loss is a share of the messages: 0 to below 1"
        } else {
            let Self { latency_min_ms, latency_max_ms, loss } = *self;
            return Ok(starling_sim::policies::Links { latency_min_ms, latency_max_ms, loss });
        };
        Err(Error::Unsupported(what.into()))
    }
}

/// Nodes, unless the person said otherwise: as many as the tables of the paper have.
const NODES_DEFAULT: usize = starling_sim::policies::tables::SITES;

/// The number of nodes asked for; at least two, so that there is somebody to tell.
fn nodes(common: &Common) -> usize {
    common.nodes.map_or(NODES_DEFAULT, |nodes| nodes as usize).max(2)
}

/// A mean with its standard error, in as many digits as the error leaves meaning to.
fn show(estimate: Estimate) -> String {
    let Estimate { mean, error } = estimate;
    if mean != 0.0 && mean.abs() < 0.001 {
        return format!("{mean:.1e} ±{error:.0e}");
    }
    // Two digits of the error, five decimals at most.
    let digits = (0..5_usize).find(|digits| error * 10_f64.powf(*digits as f64) >= 10.0);
    let digits = if error > 0.0 { digits.unwrap_or(5) } else { 2 };
    format!("{mean:.digits$} ±{error:.digits$}")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use clap::Parser;

    use super::*;
    use crate::{Cli, Command};

    /// The text and the JSON of a command.
    fn printed(arguments: &str, threads: usize) -> String {
        let cli = Cli::try_parse_from(["testnet", "policies"].into_iter().chain(arguments.split(' ')));
        let cli = cli.expect("a command");
        let Some(Command::Policies { policy }) = &cli.command else { panic!("{arguments} is a policy") };
        let report = policy.report(&cli.common, &Threads::new(NonZeroUsize::new(threads))).expect("it runs");
        report.text() + &report.json()
    }

    #[test]
    fn what_is_printed_is_the_same_whatever_the_number_of_threads() {
        let commands = [
            "compare --nodes 100 --rumors 3",
            "tables --trials 2",
            "rumor --nodes 100 --trials 5",
            "limits --nodes 100 --trials 5",
            "anti-entropy --nodes 100 --trials 5",
            "swim --nodes 100 --trials 3",
            "elections --runs 6",
            "detectors --nodes 10 --runs 3 --sizes 8,12",
            "queues --runs 5",
        ];
        for command in commands {
            let one = printed(command, 1);
            assert_eq!(one, printed(command, 3), "{command}");
            assert_ne!(one, printed(&format!("{command} --seed 2"), 3), "{command}");
        }
    }
}
