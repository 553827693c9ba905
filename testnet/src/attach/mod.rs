//! `testnet attach`: measures a network that already runs and that this program did not start, through the APIs of as many
//! of its nodes as are reached, and a crawl for the others.
//!
//! It reads counters, views and roots, and opens a watch of a keyspace that does not exist on each node. Only with `--write`
//! it writes: into that keyspace, with a time to live, and deletes what it wrote.

pub mod clock;
mod fleet;
mod probes;
mod results;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use starling_api::admin::Nodes;
use starling_report::Run;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::Common;
use crate::error::{Error, Result};
use crate::judge::judge;
use crate::network::wait_until;
use crate::progress::Phase;
use crate::samples::{OVERLAY_EVERY, PERIOD, Samples};
pub use clock::Estimate;
pub use fleet::Fleet;
use probes::Probes;
use results::Results;
pub use targets::{Reached, Targets, place};

/// What crawls call nodes that keep data.
pub const REPLICA: &str = "replica";
/// Probes of one run, at most: each is kept in memory with what every node showed of it.
const PROBES_MAX: f64 = 1e6;
/// Every node has to be watched within this time; one that is not is left out of the convergence.
const WATCHED_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Probes have to be on every node, and roots equal, this long after the last probe.
const SETTLED: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    targets: Targets,
    /// How long to measure
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// Write probes, and measure how they spread: into a keyspace of their own, with a time to live, deleted at the end
    #[arg(long)]
    write: bool,
    /// Probes a second
    #[arg(long, default_value_t = 5.0, value_name = "RATE", requires = "write", value_parser = parse_rate)]
    writes_s: f64,
    /// Bytes of a probe's value
    #[arg(long, default_value_t = 100, value_name = "BYTES", requires = "write", value_parser = clap::value_parser!(u32).range(0..=65_536))]
    value_bytes: u32,
    /// Write one page with tables and plots that opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    if (0.01..=1000.0).contains(&rate) { Ok(rate) } else { Err("from 0.01 to 1000 a second".into()) }
}

impl Options {
    /// Measures and prints the report.
    pub async fn run(&self, common: &Common) -> Result<()> {
        if self.write && self.writes_s * self.seconds as f64 > PROBES_MAX {
            return Err(Error::Unsupported(format!(
                "{} s with {} probes a second are more than {PROBES_MAX} probes, which are all kept in memory: choose a lower \
                 --writes-s",
                self.seconds, self.writes_s
            )));
        }
        let phase = Phase::begin("reaching the nodes", 0);
        let Reached { nodes, silent } = self.targets.connect().await?;
        phase.done(format!("{} answer", nodes.len()));
        for (address, reason) in &silent {
            eprintln!("  no answer from {address}: {reason}");
        }
        let fleet = Fleet::new(nodes);
        let crawl = self.crawl(&fleet).await?;
        let probes = self.write.then(|| Probes {
            keyspace: Probes::keyspace(),
            writes_s: self.writes_s,
            value_bytes: self.value_bytes as usize,
            seconds: Duration::from_secs(self.seconds),
        });
        let measured = self.measure(&fleet, probes.as_ref()).await;
        if let Some(probes) = &probes {
            clean_up(&fleet, probes).await;
        }
        let run =
            Results { options: self, fleet: &fleet, silent: &silent, begin: &crawl, measured: measured? };
        let run = Run { command: self.command(), ..run.report() };
        common.output.print_runs(&[run], self.html.as_deref())
    }

    async fn crawl(&self, fleet: &Fleet) -> Result<Nodes> {
        let phase = Phase::begin("a crawl for the nodes whose API is not reached", 0);
        let crawl = fleet.crawl().await.map_err(Error::Broken)?;
        phase.done(format!("{} nodes answer, {} do not", crawl.nodes.len(), crawl.unreachable.len()));
        Ok(crawl)
    }

    async fn measure(&self, fleet: &Fleet, probes: Option<&Probes>) -> Result<Measured> {
        let keyspace = probes.map_or_else(Probes::keyspace, |probes| probes.keyspace.clone());
        let _follows = fleet.follow(&keyspace);
        let watched = wait_until("every node is watched", WATCHED_DEADLINE, POLL, async || {
            let missing = fleet.unwatched().join(", ");
            Ok((!missing.is_empty()).then_some(missing))
        });
        if let Err(error) = watched.await {
            eprintln!("  {error}");
        }
        let phase = Phase::begin("measuring", self.seconds);
        let statuses = fleet.statuses().await;
        let first = fleet.counted(&statuses, Duration::ZERO).into_iter().map(|(answer, _)| answer);
        let mut samples = Samples::begin(first.collect());
        let since = fleet.learned().history.now();
        let mut roots = Roots::default();
        let writes = async {
            match probes {
                Some(probes) => probes.write(fleet).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = writes => {}
            () = sample(fleet, &mut samples, &mut roots, || phase.advance(1)) => {}
            () = sleep(Duration::from_secs(self.seconds)) => {}
        }
        let end = fleet.learned().history.now();
        take(fleet, &mut samples, &mut roots, end.saturating_sub(since)).await;
        phase.done("");
        let phase = Phase::begin("waiting until all nodes are equal", 0);
        let equal = settle(fleet).await;
        phase.done(equal.map_or("not within half a minute".into(), |ms| format!("after {ms} ms")));
        let writes = match probes {
            Some(probes) => {
                let replicas = probes.read(fleet, SETTLED).await;
                judge(&fleet.learned().history, &replicas, Duration::ZERO)
            }
            None => crate::judge::Judgement::default(),
        };
        let crawl = fleet.crawl().await.map_err(Error::Broken)?;
        let peers = fleet.peers().await;
        Ok(Measured { samples, roots, since, end, equal_ms: equal, judgement: writes, crawl, peers })
    }

    /// The command that measures the same again.
    fn command(&self) -> String {
        let targets = self.targets.arguments();
        let write = if self.write {
            format!(" --write --writes-s {} --value-bytes {}", self.writes_s, self.value_bytes)
        } else {
            String::new()
        };
        format!("./testnet/run attach {targets} --seconds {}{write}", self.seconds)
    }
}

/// What was measured.
struct Measured {
    samples: Samples,
    roots: Roots,
    /// The measured time, in the history's.
    since: Duration,
    end: Duration,
    /// From the end until the roots of all nodes were equal.
    equal_ms: Option<u64>,
    judgement: crate::judge::Judgement,
    crawl: Nodes,
    peers: Vec<Option<starling_api::admin::Peers>>,
}

/// How often the nodes' roots were equal.
#[derive(Clone, Copy, Debug, Default)]
struct Roots {
    samples: u64,
    equal: u64,
}

/// Samples until it is dropped.
async fn sample(fleet: &Fleet, samples: &mut Samples, roots: &mut Roots, on_sample: impl Fn()) {
    let began = Instant::now();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0.. {
        ticks.tick().await;
        take(fleet, samples, roots, began.elapsed()).await;
        if count % OVERLAY_EVERY == 0 {
            let degrees: Vec<f64> = fleet
                .peers()
                .await
                .iter()
                .flatten()
                .map(|peers| crate::states::active_ids(peers).len() as f64)
                .collect();
            let mean = degrees.iter().sum::<f64>() / degrees.len().max(1) as f64;
            samples.note("neighbours per node", mean);
        }
        on_sample();
    }
}

/// Takes one sample.
async fn take(fleet: &Fleet, samples: &mut Samples, roots: &mut Roots, measured: Duration) {
    let statuses = fleet.statuses().await;
    let answered = statuses.iter().flatten();
    let found: std::collections::BTreeSet<_> = answered.clone().map(|status| &status.root).collect();
    roots.samples += 1;
    roots.equal += u64::from(found.len() == 1);
    samples.note("different roots", found.len() as f64);
    let mut counted = Vec::new();
    for (answer, is_older) in fleet.counted(&statuses, measured) {
        if is_older {
            samples.meet(answer);
        } else {
            counted.push(answer);
        }
    }
    let is_hindered = answered.count() < fleet.nodes.len();
    samples.add(counted, statuses.iter().flatten().count(), is_hindered);
}

/// Waits until the roots of all nodes that answer are equal; says how long that took. A network that others write to may
/// never be.
async fn settle(fleet: &Fleet) -> Option<u64> {
    let began = Instant::now();
    let equal = async {
        loop {
            let statuses = fleet.statuses().await;
            let roots: std::collections::BTreeSet<_> =
                statuses.iter().flatten().map(|status| &status.root).collect();
            if roots.len() <= 1 {
                return began.elapsed().as_millis() as u64;
            }
            sleep(POLL).await;
        }
    };
    timeout(SETTLED, equal).await.ok()
}

async fn clean_up(fleet: &Fleet, probes: &Probes) {
    let phase = Phase::begin("deleting the probes", 0);
    match probes.clean_up(fleet).await {
        Ok(count) => phase.done(format!("{count} values")),
        Err(error) => phase.done(format!("failed, they expire unprompted: {error}")),
    }
}
