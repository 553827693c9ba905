//! `testnet churn`: a scenario on real processes, over the relay's links, measured as the simulator
//! measures it.

mod apps;
mod clients;
mod clocks;
mod faults;
mod fleet;
mod links;
mod overlay;
mod results;
mod sample;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use starling_report::{Healing, Run};
use starling_sim::scenario::Scenario;
use tokio::time::{Instant, sleep, timeout};

use crate::Common;
use crate::error::{Error, Result};
use crate::hosts::Hosts;
use crate::judge::judge;
use crate::network::{Network, Plan};
use crate::progress::Phase;
use crate::samples::Samples;
use crate::sim::{command, load};
use crate::states::views_whole;
use crate::variable;
use faults::Faults;
pub use faults::check;
use fleet::{Fleet, State};
use links::Paths;
use results::Results;

/// The scenario with the targets for real processes.
const SCENARIO_DEFAULT: &str = "processes";
/// How often it is looked whether all replicas are equal.
const EQUAL_POLL: Duration = Duration::from_millis(50);

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A scenario of Starling, or a file
    #[arg(value_name = "SCENARIO", default_value = SCENARIO_DEFAULT)]
    scenario: String,
    /// Run the nodes on the machines that this file names, in turn, each by an agent there
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// Write one page with tables and plots that opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Options {
    /// This scenario, the machines that it runs on, if they are others, and the page to write.
    pub fn of(scenario: String, hosts: Option<PathBuf>, html: Option<PathBuf>) -> Self {
        Self { scenario, hosts, html }
    }

    /// Runs the scenario and prints its report.
    pub async fn run(&self, common: &Common) -> Result<()> {
        let scenario = Scenario { seed: common.seed, ..load(common, &self.scenario)? };
        check(&scenario)?;
        if scenario.seeds != 1 {
            return Err(Error::Unsupported(
                "a network of processes has one bootstrap node: add  --set seeds=1".into(),
            ));
        }
        let hosts = match &self.hosts {
            Some(file) => Some(Arc::new(connect(file).await?)),
            None => None,
        };
        let plan = Plan {
            hosts,
            environment: environment(&scenario),
            nodes: scenario.nodes,
            labels: labels(&scenario),
            ..common.plan(0)?
        };
        let run = run(&scenario, plan).await?;
        let hosts = self.hosts.as_ref().map(|file| format!(" --hosts '{}'", file.display()));
        let command = command("churn", common, &self.scenario, common.seed) + &hosts.unwrap_or_default();
        let run = Run { command, ..run };
        common.output.print_runs(&[run], self.html.as_deref())
    }
}

/// Starts the agents of other machines.
async fn connect(file: &Path) -> Result<Hosts> {
    let phase = Phase::begin("starting the agents of the hosts", 0);
    let hosts = Hosts::connect(file).await?;
    phase.done(format!("{} are ready", hosts.all().len()));
    Ok(hosts)
}

/// The scenario's settings of every node.
fn environment(scenario: &Scenario) -> Vec<(String, String)> {
    let node = &scenario.node;
    vec![
        (variable("gossip.active_view"), node.active.to_string()),
        (variable("detector.detect_ms"), node.detect_ms.to_string()),
    ]
}

/// The labels of replicas in turn: regions, and zones within them.
fn labels(scenario: &Scenario) -> Vec<String> {
    let label = |replica| {
        let zone = scenario.zone(replica).map(|zone| format!(",zone={zone}"));
        format!("region={}{}", scenario.region(replica).unwrap_or_default(), zone.unwrap_or_default())
    };
    (0..scenario.regions.len() * scenario.zones.max(1)).map(label).collect()
}

/// Runs a scenario on processes.
async fn run(scenario: &Scenario, plan: Plan) -> Result<Run> {
    let paths = Paths::new(scenario, plan.hosts.as_ref())?;
    let mut network = Network::begin(&Plan { relay: paths.relay(), ..plan }).await?;
    paths.apply();
    let phase = Phase::begin(format!("starting {} nodes", scenario.nodes), scenario.nodes as u64);
    network.start_all(|| phase.advance(1)).await?;
    views_whole(&network).await?;
    phase.done("");
    let fleet = Fleet::of(network, scenario).await?;
    fleet.estimate_clocks().await;
    if let Some(users) = &scenario.users {
        users::create(&fleet, users).await?;
    }
    let measured = measure(scenario, &fleet, paths).await?;

    let phase = Phase::begin("everything mended: waiting until all nodes are equal", 0);
    let settled = settle(&fleet, scenario).await?;
    phase.done(settled.equal_ms.map_or("never".into(), |ms| format!("after {ms} ms")));
    let phase = Phase::begin("reading every key at every node", 0);
    let replicas = clients::read_all(&fleet).await?;
    let judgement = judge(&fleet.history(), &replicas, fleet.clocks().apart());
    phase.done(if judgement.findings.is_empty() { "nothing wrong" } else { "" });
    judgement.findings.iter().for_each(|finding| eprintln!("  {finding}"));
    let overlay = overlay::snapshot(&fleet).await;
    let notices = fleet.notices();
    let history = fleet.history();
    let healings = measured.healings.into_iter().chain([settled]).collect();
    let results = Results { scenario, history: &history, since: measured.since, end: measured.end };
    let run = results.report(judgement.writes, measured.samples, &overlay, healings, &notices);
    let takeovers = apps::report(&fleet, scenario.app.as_ref());
    let (availability, clocks) = (fleet.availabilities().kinds(), fleet.clocks().report());
    Ok(Run { availability, takeovers, clocks, ..run })
}

/// What was taken note of while clients wrote and faults happened.
struct Measured {
    samples: Samples,
    healings: Vec<Healing>,
    /// The measured time, in the history's.
    since: Duration,
    end: Duration,
}

/// Clients write; after the warm-up faults begin, and are over when this returns.
async fn measure(scenario: &Scenario, fleet: &Fleet, paths: Paths) -> Result<Measured> {
    let clients = clients::write(fleet, &scenario.workload, scenario.seed);
    tokio::pin!(clients);
    let phase = Phase::begin("warming up", 0);
    tokio::select! {
        ended = &mut clients => ended?,
        () = sleep(Duration::from_secs_f64(scenario.warmup_s)) => {}
    }
    phase.done("");
    let phase = Phase::begin(
        format!("running {}", scenario.name),
        Duration::from_secs_f64(scenario.measure_s).as_secs(),
    );
    let mut samples = sample::begin(fleet).await;
    let since = fleet.history().now();
    let faults = Faults::begin(scenario, fleet, paths);
    tokio::select! {
        ended = &mut clients => ended?,
        ended = sample::run(&mut samples, fleet, &faults, || phase.advance(1)) => ended?,
        ended = users::run(fleet, scenario.users.as_ref()) => ended?,
        ended = apps::run(fleet, scenario.app.as_ref()) => ended?,
        ended = faults.run() => ended?,
    }
    sample::take(&mut samples, fleet, faults.hinders()).await;
    let end = fleet.history().now();
    phase.done(format!("{} writes", fleet.history().writes.len()));
    Ok(Measured { samples, healings: faults.healings(), since, end })
}

/// After the last fault: waits until the running replicas are one component and equal.
async fn settle(fleet: &Fleet, scenario: &Scenario) -> Result<Healing> {
    let (began, limit) = (Instant::now(), Duration::from_secs_f64(scenario.settle_s));
    let whole = overlay::one_component(fleet, began + limit).await;
    let equal = async {
        while !are_equal(fleet).await {
            sleep(EQUAL_POLL).await;
        }
        began.elapsed().as_millis() as u64
    };
    let equal = timeout(limit, equal).await.ok();
    fleet.check()?;
    Ok(Healing {
        what: "the end of writes and faults".into(),
        healed_at_ms: Duration::from_secs_f64(scenario.measure_s).as_millis() as u64,
        one_component_ms: whole.map(|whole| whole.as_millis() as u64),
        equal_ms: equal,
    })
}

async fn are_equal(fleet: &Fleet) -> bool {
    let seats = fleet.seats();
    let asked = fleet.replicas(State::Up).into_iter().map(async |member| {
        let status = seats[member].client.as_ref()?.status().await.ok()?;
        status.root
    });
    let roots: Vec<Option<String>> = futures::future::join_all(asked).await;
    roots.first().is_none_or(|first| first.is_some() && roots.iter().all(|root| root == first))
}
