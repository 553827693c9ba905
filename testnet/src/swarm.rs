//! `testnet swarm`: seeds that each draw a network and its faults, judged by invariants.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use starling_sim::Threads;
use starling_sim::scenario::{self, Scenario};
use starling_sim::swarm::{self, Finding};

use crate::Common;
use crate::error::{Error, Result};

/// Runs that a failing scenario is made smaller in, at most.
const SHRINKING_RUNS_MAX: usize = 400;
/// Seeds unless the person said otherwise.
const SEEDS_DEFAULT: u64 = 100;

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
        let threads = common.threads();
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
            None => self.run_seeds(common.seed, &threads)?,
        };
        print!("{}", summary(&total));
        for (scenario, finding) in &total.failures {
            println!("\n{}", self.failure(scenario, finding));
        }
        if let Some((scenario, _)) = total.failures.first().filter(|_| self.shrink) {
            println!("\n{}", shrunk(scenario));
        }
        eprintln!("{}", threads.effort().line());
        match total.failures.len() {
            0 => Ok(()),
            count => {
                Err(Error::Broken(format!("an invariant did not hold in {count} of {} runs", total.seeds)))
            }
        }
    }

    /// Seeds one after the other on each thread. The total does not depend on the number of threads.
    fn run_seeds(&self, first: u64, threads: &Threads) -> Result<Total> {
        let deadline = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let count = self.seeds.unwrap_or(if deadline.is_some() { u64::MAX } else { SEEDS_DEFAULT });
        let bar = progress(self.seeds);
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let seeds = (first..first.saturating_add(count)).take_while(|_| !is_over());
        let run = |seed| {
            let _named = Named(seed);
            let scenario = swarm::draw(seed);
            let finding = swarm::run(&scenario);
            bar.inc(1);
            finding.map(|finding| (scenario, finding))
        };
        let (mut total, mut refused) = (Total::default(), None);
        threads.each(seeds, run, |ran| match ran {
            Ok((scenario, finding)) => total.add(scenario, finding),
            Err(error) => refused = Some(error),
        });
        bar.finish_and_clear();
        refused.map_or(Ok(total), |error| Err(Error::Scenario(error)))
    }

    fn failure(&self, scenario: &Scenario, finding: &Finding) -> String {
        let violation = finding.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        let Scenario { seed, nodes, .. } = scenario;
        let again = match &self.scenario {
            Some(path) => format!("./testnet/run swarm --scenario {} --seed {seed}", path.display()),
            None => again(*seed),
        };
        format!("seed {seed} ({nodes} nodes) violates {violation}\n  again: {again}")
    }
}

/// The command that runs one seed again.
fn again(seed: u64) -> String {
    format!("./testnet/run swarm --seeds 1 --seed {seed}")
}

/// The seed of the run on this thread, which a panic of the run would otherwise not name.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} panicked\n  again: {}", self.0, again(self.0));
        }
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

fn summary(total: &Total) -> String {
    let faults = total.faults.iter().fold(String::new(), |mut text, (fault, count)| {
        let _ = write!(text, "{}{count} {fault}", if text.is_empty() { "" } else { ", " });
        text
    });
    format!(
        "{} seeds, {:.0} virtual seconds, {} events\nfaults: {}\nfailures: {}\n",
        total.seeds,
        total.virtual_s,
        total.events,
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use starling_sim::invariants::Violation;

    use super::*;

    #[test]
    fn a_failure_names_the_command_that_runs_it_again() {
        let mut options = Options { seeds: Some(1), seconds: None, scenario: None, shrink: false };
        let scenario = Scenario { seed: 5, ..Scenario::default() };
        let violation = Violation { invariant: "dots", node: None, at_us: 0, what: "one is missing".into() };
        let finding = Finding {
            violation: Some(violation),
            trace: String::new(),
            virtual_s: 0.0,
            events: 0,
            faults: BTreeMap::new(),
        };
        let text = options.failure(&scenario, &finding);
        assert!(text.ends_with("again: ./testnet/run swarm --seeds 1 --seed 5"), "{text}");
        options.scenario = Some("small.toml".into());
        let text = options.failure(&scenario, &finding);
        assert!(text.ends_with("again: ./testnet/run swarm --scenario small.toml --seed 5"), "{text}");
    }

    #[test]
    fn the_summary_is_the_same_whatever_the_number_of_threads() {
        let options = Options { seeds: Some(3), seconds: None, scenario: None, shrink: false };
        let of = |threads| {
            summary(&options.run_seeds(1, &Threads::new(NonZeroUsize::new(threads))).expect("seeds run"))
        };
        let one = of(1);
        assert!(one.starts_with("3 seeds"), "{one}");
        assert_eq!(one, of(3));
    }
}
