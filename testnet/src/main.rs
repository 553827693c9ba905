//! Starling networks of real processes on this machine: shown, broken on purpose, and measured.

mod attach;
mod bench;
mod chaos;
mod churn;
mod conformity;
mod data;
mod doctor;
mod error;
mod history;
mod hosts;
mod judge;
mod load;
mod network;
mod notice;
mod observe;
mod policies;
mod process;
mod progress;
mod relay;
mod report;
mod samples;
mod show;
mod sim;
mod states;
mod strong;
mod swarm;
mod topology;
mod traffic;
mod usage;
mod views;
mod writer;
mod written;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::{Args, Parser, Subcommand};
use starling_sim::Threads;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::data::DataSet;
use crate::error::{Error, Result};
use crate::network::{Network, Plan};
use crate::report::Output;

/// Locks what is never left half changed, also where a thread has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nodes of the show, beside the bootstrap node.
const NODES_DEFAULT: usize = 16;

/// Starts a network of Starling nodes, loads data, shows that it converges, kills a quarter of the
/// nodes and shows that it repairs itself. Then it stays up to be tried.
#[derive(Debug, Parser)]
#[command(name = "testnet", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    show: Show,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// The node's binary [default: `starling` beside this program]
    #[arg(long, global = true, env = "STARLING_BINARY", value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Number of nodes, beside the bootstrap node [default: 16, or that of the measurement]
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    nodes: Option<u32>,
    /// Seed of every random choice, such as the nodes that are written to and killed
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Threads that simulate seeds and runs of `sim`, `swarm` and `policies`; results do not depend on it [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Folder of the data directories [default: a temporary folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Keep the temporary folder
    #[arg(long, global = true)]
    keep: bool,
    /// A setting of every node, as `starling config` lists them; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
    /// Format of the results on standard output
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Args)]
struct Show {
    /// Records to import instead of the built-in ones: NDJSON, or CSV if its name ends so
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The member or column of --data that is the key [default: `key`, or the first column]
    #[arg(long, value_name = "NAME", requires = "data")]
    key_field: Option<String>,
    /// End after the report instead of staying up
    #[arg(long)]
    exit: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one measurement and print its figures beside their targets
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Simulate a network in virtual time: a scenario with its faults, churn and clients, measured
    Sim(sim::Options),
    /// Search for bugs: draw networks and faults from seeds, and check the invariants of every run
    Swarm(swarm::Options),
    /// Compare protocols that spread rumors, elect a leader or detect failures, simulated without a store
    Policies {
        #[command(subcommand)]
        policy: policies::Policy,
    },
    /// Run a scenario on real processes, which are killed, stopped, wiped and partitioned, and measure it
    Churn(churn::Options),
    /// Measure a network that runs already, through the APIs of its nodes; nothing is started, stopped or broken
    Attach(attach::Options),
    /// Write a scenario with the nodes, regions and delays of a running network, for `sim` and `churn`
    Topology(topology::Options),
    /// Break a network by the book (chaos monkey, gorilla, kong), and say how available it was; or look after a running one (doctor,
    /// janitor)
    Chaos(chaos::Options),
    /// Find the nodes of a running network that break rules: version, durability, clock, zones, leftovers, weak settings
    Conformity(conformity::Options),
    /// Kill and stop the voters of a strong keyspace under clients of all kinds, and check every answer
    Strong(strong::Options),
    /// Start and end nodes on this machine for `churn --hosts` of another one, by requests on the standard input
    Agent(hosts::AgentOptions),
    /// Show results that were written as JSON again: as tables or as a page, several side by side
    Report(report::Options),
}

impl Common {
    /// Threads for simulations.
    fn threads(&self) -> Threads {
        Threads::new(self.threads.and_then(|threads| NonZeroUsize::new(threads.into())))
    }

    /// The node's binary.
    fn binary(&self) -> Result<PathBuf> {
        let own = std::env::current_exe().map_err(Error::io(Path::new("/proc/self/exe")))?;
        Ok(self.binary.clone().unwrap_or_else(|| own.with_file_name("starling")))
    }

    /// The network to start, with so many nodes unless the person said otherwise.
    fn plan(&self, nodes: usize) -> Result<Plan> {
        Ok(Plan {
            binary: self.binary()?,
            nodes: self.nodes.map_or(nodes, |n| n as usize),
            seed: self.seed,
            dir: self.dir.clone(),
            keep: self.keep,
            environment: self.set.iter().map(|(key, value)| (variable(key), value.clone())).collect(),
            etcd: None,
            labels: Vec::new(),
            relay: None,
            hosts: None,
        })
    }
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
    format!("STARLING_{}", key.to_uppercase().replace('.', "_"))
}

fn parse_setting(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text} is not KEY=VALUE"))?;
    Ok((key.to_string(), value.to_string()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(supervise(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until the end or a signal, whichever is first. Dropping the unfinished work drops its
/// network, which ends the nodes.
async fn supervise(cli: Cli) -> Result<()> {
    let mut signals = Signals::new()?;
    let keeps = cli.common.keep || cli.common.dir.is_some();
    let network = tokio::select! {
        result = run(cli) => result?,
        () = signals.any() => return Err(Error::Broken("interrupted; every node has been ended".into())),
    };
    let Some((mut network, stays)) = network else { return Ok(()) };
    if stays {
        signals.any().await;
    }
    if keeps {
        network.leave().await?;
        eprintln!("the data directories are in {}", network.root().display());
    }
    Ok(())
}

/// The signals that ask this program to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).map_err(|e| Error::Unsupported(format!("cannot handle signals: {e}")));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Does what was asked. The show returns its network and whether it is to stay up.
async fn run(cli: Cli) -> Result<Option<(Network, bool)>> {
    if let Some(Command::Bench { bench }) = cli.command {
        return bench.run(&cli.common).await.map(|()| None);
    }
    if let Some(Command::Churn(options)) = &cli.command {
        return options.run(&cli.common).await.map(|()| None);
    }
    if let Some(Command::Attach(options)) = &cli.command {
        return options.run(&cli.common).await.map(|()| None);
    }
    if let Some(Command::Topology(options)) = &cli.command {
        return options.run().await.map(|()| None);
    }
    if let Some(Command::Chaos(options)) = &cli.command {
        return options.run(&cli.common).await.map(|()| None);
    }
    if let Some(Command::Conformity(options)) = &cli.command {
        return options.run(&cli.common, None).await.map(|()| None);
    }
    if let Some(Command::Strong(options)) = &cli.command {
        return options.run(&cli.common).await.map(|()| None);
    }
    if let Some(Command::Agent(options)) = &cli.command {
        return options.run(&cli.common).await.map(|()| None);
    }
    if let Some(Command::Report(options)) = &cli.command {
        return options.run(cli.common.output).map(|()| None);
    }
    if let Some(Command::Sim(options)) = &cli.command {
        return options.run(&cli.common).map(|()| None);
    }
    if let Some(Command::Swarm(options)) = &cli.command {
        return options.run(&cli.common).map(|()| None);
    }
    if let Some(Command::Policies { policy }) = cli.command {
        return policy.run(&cli.common).map(|()| None);
    }
    let data = match &cli.show.data {
        Some(path) => DataSet::read(path, cli.show.key_field.as_deref())?,
        None => DataSet::built_in()?,
    };
    let plan = cli.common.plan(NODES_DEFAULT)?;
    let (network, report) = show::run(&plan, &data).await?;
    cli.common.output.print(&report);
    if !cli.show.exit {
        suggest(&plan, &network, &data)?;
    }
    Ok(Some((network, !cli.show.exit)))
}

/// Says what to try while the network stays up.
fn suggest(plan: &Plan, network: &Network, data: &DataSet) -> Result<()> {
    let example = data.records.get_key_value("6379/tcp").or_else(|| data.records.first_key_value());
    let starling = |index| -> Result<String> {
        Ok(format!("{} --api {}", plan.binary.display(), network.node(index).client()?.url()))
    };
    let (first, last) = (starling(0)?, starling(plan.nodes - 1)?);
    eprintln!("\nThe network stays up until Ctrl-C. Try in another terminal:\n");
    eprintln!("  {first} nodes");
    if let Some((key, _)) = example {
        eprintln!("  {first} get -k {} '{key}'", data.keyspace);
    }
    eprintln!("  {first} watch & {last} put greeting hello");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_show_needs_no_argument_and_options_are_understood_after_a_measurement() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["testnet"]).expect("valid").command.is_none());
        let cli = Cli::try_parse_from([
            "testnet", "bench", "latency", "--nodes", "3", "--output", "json", "--set", "a.b=c",
        ]);
        let cli = cli.expect("valid");
        let plan = cli.common.plan(64).expect("valid");
        assert_eq!(plan.environment, [("STARLING_A_B".to_string(), "c".to_string())]);
        assert_eq!((cli.common.nodes, cli.common.output), (Some(3), Output::Json));
        assert!(Cli::try_parse_from(["testnet", "--nodes", "0"]).is_err());
    }
}
