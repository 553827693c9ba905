//! `testnet sim`: a scenario on virtual nodes in virtual time.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use starling_report::Run;
use starling_sim::scenario::{self, Scenario};
use starling_sim::{Progress, Simulation};

use crate::Common;
use crate::error::{Error, Result};

/// The scenarios that come with the source, seen from its top, where `testnet/run` starts this program.
const SCENARIOS: &str = "testnet/scenarios";

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A scenario of Starling, or a file; without one the scenarios are listed
    #[arg(value_name = "SCENARIO")]
    scenario: Option<String>,
    /// Number of seeds to run, from --seed on, one after the other on each thread
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Encode and decode every message, as between processes (slower)
    #[arg(long)]
    codec: bool,
    /// Write one page with tables and plots that opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The file of a scenario: a path, or the name of one that comes with the source.
pub fn file_of(scenario: &str) -> PathBuf {
    let path = PathBuf::from(scenario);
    if path.exists() { path } else { Path::new(SCENARIOS).join(format!("{scenario}.toml")) }
}

/// Names and descriptions of the scenarios that come with the source.
pub fn list() -> Result<Vec<(String, String)>> {
    let folder = Path::new(SCENARIOS);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let scenario = scenario::load(&path, &[]).map_err(Error::Scenario)?;
            found.push((scenario.name, scenario.about));
        }
    }
    found.sort();
    Ok(found)
}

/// A scenario with what the command line sets of it. Its seed is the file's.
pub fn load(common: &Common, name: &str) -> Result<Scenario> {
    let mut set = common.set.clone();
    set.extend(common.nodes.map(|nodes| ("nodes".into(), nodes.to_string())));
    scenario::load(&file_of(name), &set).map_err(Error::Scenario)
}

/// The command that runs a scenario again, in the simulator (`sim`) or on processes (`churn`).
pub fn command(subcommand: &str, common: &Common, name: &str, seed: u64) -> String {
    let mut command = format!("./testnet/run {subcommand} {name} --seed {seed}");
    if let Some(nodes) = common.nodes {
        let _ = write!(command, " --nodes {nodes}");
    }
    for (path, value) in &common.set {
        let _ = write!(command, " --set '{path}={value}'");
    }
    command
}

impl Options {
    /// One run of this scenario, and the page to write.
    pub fn of(scenario: String, html: Option<PathBuf>) -> Self {
        Self { scenario: Some(scenario), seeds: 1, codec: false, html }
    }

    /// Simulates and prints the report.
    pub fn run(&self, common: &Common) -> Result<()> {
        let Some(name) = &self.scenario else {
            println!("Scenarios, to be run with  testnet sim NAME:\n");
            for (name, about) in list()? {
                println!("  {name:<18} {about}");
            }
            return Ok(());
        };
        let scenario = load(common, name)?;
        if scenario.app.is_some() {
            return Err(Error::Unsupported(
                "an application runs on processes only: run it with  testnet churn".into(),
            ));
        }
        let threads = common.threads();
        let seeds = common.seed..common.seed.saturating_add(self.seeds);
        let runs =
            threads.map(seeds, |seed| self.simulate(Scenario { seed, ..scenario.clone() }, common, name));
        let runs: Vec<Run> = runs.into_iter().collect::<Result<_>>()?;
        if self.seeds > 1 {
            eprintln!("{}", threads.effort().line());
        }
        common.output.print_runs(&runs, self.html.as_deref())
    }

    fn simulate(&self, scenario: Scenario, common: &Common, name: &str) -> Result<Run> {
        let seed = scenario.seed;
        let mut simulation = Simulation::new(scenario).map_err(Error::Scenario)?;
        if self.codec {
            simulation.world.pass_through_codec();
        }
        let bar = Bar::new(self.seeds == 1 && std::io::stderr().is_terminal());
        let run = simulation.run(|progress| bar.show(progress));
        bar.bar.finish_and_clear();
        let codec = if self.codec { " --codec" } else { "" };
        Ok(Run { command: command("sim", common, name, seed) + codec, ..run })
    }
}

/// How far the run is, on a terminal.
struct Bar {
    bar: ProgressBar,
    began: Instant,
}

impl Bar {
    fn new(is_shown: bool) -> Self {
        let bar = if is_shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} virtual s {bar:30} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, began: Instant::now() }
    }

    fn show(&self, progress: Progress) {
        self.bar.set_length(whole(progress.of_s.max(progress.virtual_s)));
        self.bar.set_position(whole(progress.virtual_s));
        let rate = progress.events as f64 / self.began.elapsed().as_secs_f64().max(0.001) / 1e3;
        self.bar.set_message(format!(
            "{rate:.0} k events/s, {} nodes live, {} writes under way",
            progress.live, progress.open
        ));
    }
}

/// Whole virtual seconds, which are never negative.
fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs()
}
