//! `testnet swarm`: seeds that each draw a network and its faults, judged by invariants.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use starling_sim::scenario::{self, Scenario};
use starling_sim::swarm::{self, Finding};

use crate::Common;
use crate::error::{Error, Result};

/// Runs that a failing scenario is made smaller in, at most.
const SHRINKING_RUNS_MAX: usize = 400;

/// Which seeds, and for how long.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Number of seeds, from --seed on [default: 100]
    #[arg(long, value_name = "COUNT", conflicts_with = "scenario", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Run seeds for this time, seconds
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["seeds", "scenario"], value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Run this scenario file with --seed instead of drawing one
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Shrink the first failing run while it fails in the same way, and print it as a scenario file
    #[arg(long)]
    shrink: bool,
}

/// What all runs together came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    virtual_s: f64,
    events: u64,
    faults: BTreeMap<&'static str, u64>,
    failures: Vec<(Scenario, Finding)>,
}

impl Total {
    fn add(&mut self, scenario: Scenario, finding: Finding) {
        self.seeds += 1;
        self.virtual_s += finding.virtual_s;
        self.events += finding.events;
        for (&fault, count) in &finding.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        if finding.violation.is_some() {
            self.failures.push((scenario, finding));
        }
    }
}

impl Options {
    /// Runs the seeds and says what was found; an error if any invariant did not hold.
    pub fn run(&self, common: &Common) -> Result<()> {
        let began = Instant::now();
        let total = match &self.scenario {
            Some(path) => {
                let mut set = common.set.clone();
                set.extend(common.nodes.map(|nodes| ("nodes".into(), nodes.to_string())));
                let mut scenario = scenario::load(path, &set).map_err(Error::Scenario)?;
                scenario.seed = common.seed;
                let mut total = Total::default();
                let finding = swarm::run(&scenario).map_err(Error::Scenario)?;
                total.add(scenario, finding);
                total
            }
            None => self.run_seeds(common.seed, began)?,
        };
        print!("{}", summary(&total, began.elapsed()));
        for (scenario, finding) in &total.failures {
            println!("\n{}", self.failure(scenario, finding));
        }
        if let Some((scenario, _)) = total.failures.first().filter(|_| self.shrink) {
            println!("\n{}", shrunk(scenario));
        }
        match total.failures.len() {
            0 => Ok(()),
            count => {
                Err(Error::Broken(format!("an invariant did not hold in {count} of {} runs", total.seeds)))
            }
        }
    }

    /// Seeds one after the other on every processor.
    fn run_seeds(&self, first: u64, began: Instant) -> Result<Total> {
        let deadline = self.seconds.map(|seconds| began + Duration::from_secs(seconds));
        let count = self.seeds.unwrap_or(if deadline.is_some() { u64::MAX - first } else { 100 });
        let bar = progress(self.seeds);
        let seeds = Mutex::new(first..first + count);
        let next = || {
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            seeds.lock().ok()?.next().filter(|_| !is_over)
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let totals: Vec<Result<Total>> = std::thread::scope(|scope| {
            let work = || {
                let mut total = Total::default();
                while let Some(seed) = next() {
                    let scenario = swarm::draw(seed);
                    let finding = swarm::run(&scenario).map_err(Error::Scenario)?;
                    total.add(scenario, finding);
                    bar.inc(1);
                }
                Ok(total)
            };
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().expect("a run does not panic")).collect()
        });
        bar.finish_and_clear();
        let mut all = Total::default();
        for total in totals {
            let total = total?;
            all.seeds += total.seeds;
            all.virtual_s += total.virtual_s;
            all.events += total.events;
            total
                .faults
                .into_iter()
                .for_each(|(fault, count)| *all.faults.entry(fault).or_default() += count);
            all.failures.extend(total.failures);
        }
        all.failures.sort_by_key(|(scenario, _)| scenario.seed);
        Ok(all)
    }

    fn failure(&self, scenario: &Scenario, finding: &Finding) -> String {
        let violation = finding.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        let again = match &self.scenario {
            Some(path) => format!("--scenario {} --seed {}", path.display(), scenario.seed),
            None => format!("--seeds 1 --seed {}", scenario.seed),
        };
        let nodes = scenario.nodes;
        format!(
            "seed {} ({nodes} nodes) violates {violation}\n  again: ./testnet/run swarm {again}",
            scenario.seed
        )
    }
}

fn progress(seeds: Option<u64>) -> ProgressBar {
    let bar = match seeds {
        _ if !std::io::stderr().is_terminal() => ProgressBar::hidden(),
        Some(count) => ProgressBar::new(count),
        None => ProgressBar::new_spinner(),
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} seeds {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn summary(total: &Total, took: Duration) -> String {
    let faults = total.faults.iter().fold(String::new(), |mut text, (fault, count)| {
        let _ = write!(text, "{}{count} {fault}", if text.is_empty() { "" } else { ", " });
        text
    });
    format!(
        "{} seeds, {:.0} virtual seconds, {} events in {:.1} s\nfaults: {}\nfailures: {}\n",
        total.seeds,
        total.virtual_s,
        total.events,
        took.as_secs_f64(),
        if faults.is_empty() { "none" } else { &faults },
        total.failures.len(),
    )
}

fn shrunk(scenario: &Scenario) -> String {
    eprintln!("shrinking seed {}", scenario.seed);
    let mut steps = 0;
    let small = swarm::shrink(scenario.clone(), SHRINKING_RUNS_MAX, |_| steps += 1);
    format!(
        "# Seed {0}, made smaller in {steps} steps. Save it as FILE and run\n#   ./testnet/run swarm --scenario FILE --seed {0}\n{1}",
        scenario.seed,
        swarm::text(&small),
    )
}
