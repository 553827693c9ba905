//! Failures: how soon the neighbours of a dead process notice, and that they are right.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future;
use rand::RngExt;
use serde::Serialize;
use starling_report::{Report, Summary, millis, number};

use crate::error::{Error, Result};
use crate::network::{Network, Node, generator};
use crate::progress::Phase;
use crate::show::start;
use crate::states::{active_ids, overlay, statuses, views_whole};
use crate::{Common, variable};

/// A failure must be noticed within this time.
const NOTICE_DEADLINE: Duration = Duration::from_secs(60);
/// How often each neighbour of a failed node is asked for its view: the resolution of the result.
const NOTICE_POLL: Duration = Duration::from_millis(5);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Processes killed, one after the other
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// Processes stopped, one after the other
    #[arg(long, default_value_t = 5)]
    stops: usize,
    /// Seconds with every core busy
    #[arg(long, default_value_t = 30)]
    busy_seconds: u64,
    /// The detector's setting, milliseconds
    #[arg(long, default_value_t = 3000)]
    detect_ms: u64,
}

/// How a process fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Kill,
    Stop,
}

#[derive(Debug, Serialize)]
struct Outcome {
    nodes: usize,
    detect_ms: u64,
    killed: Notices,
    stopped: Notices,
    busy_seconds: u64,
    /// Neighbours that were declared failed and were not, while every core was busy.
    healthy_suspected_while_busy: u64,
    /// After that, until every view was whole.
    views_whole_after_busy_ms: f64,
}

/// How failures of one kind were noticed.
#[derive(Debug, Default, Serialize)]
struct Notices {
    /// Each neighbour by itself.
    neighbour: Summary,
    /// The last neighbour of each failed node.
    last_neighbour: Summary,
    /// From the failure until every view is whole again and without the failed node.
    views_whole: Summary,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let mut plan = common.plan(64)?;
    plan.environment.push((variable("detector.detect_ms"), options.detect_ms.to_string()));
    let (mut network, _) = start(&plan).await?;
    let killed = rounds(&mut network, Failure::Kill, options.kills, plan.seed).await?;
    let stopped = rounds(&mut network, Failure::Stop, options.stops, plan.seed + 1).await?;

    let phase = Phase::begin("every core busy", 0);
    let before = suspicions(&network).await?;
    let busy = Busy::start()?;
    tokio::time::sleep(Duration::from_secs(options.busy_seconds)).await;
    let suspected = suspicions(&network).await? - before;
    drop(busy);
    let whole = views_whole(&network).await?;
    phase.done(format!("{suspected} healthy nodes suspected"));
    let outcome = Outcome {
        nodes: plan.nodes,
        detect_ms: options.detect_ms,
        killed,
        stopped,
        busy_seconds: options.busy_seconds,
        healthy_suspected_while_busy: suspected,
        views_whole_after_busy_ms: millis(whole),
    };
    Ok(report(&outcome))
}

async fn rounds(network: &mut Network, failure: Failure, rounds: usize, seed: u64) -> Result<Notices> {
    let what = if failure == Failure::Kill { "kill -9" } else { "SIGSTOP" };
    let phase = Phase::begin(format!("{what} of one node after the other"), rounds as u64);
    let mut random = generator(seed, 5);
    let (mut each, mut last, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let victim = random.random_range(0..network.nodes().len());
        let round = fail(network, victim, failure).await?;
        last.extend(round.noticed.iter().max().copied());
        each.extend(round.noticed);
        whole.push(round.whole);
        phase.advance(1);
    }
    let notices = Notices {
        neighbour: Summary::of(&each),
        last_neighbour: Summary::of(&last),
        views_whole: Summary::of(&whole),
    };
    phase.done(format!(
        "noticed by the last neighbour after {} ms (p50)",
        number(notices.last_neighbour.p50_ms)
    ));
    Ok(notices)
}

/// One failure.
struct Round {
    /// When each neighbour had the failed node out of its view.
    noticed: Vec<Duration>,
    /// When every view was whole again.
    whole: Duration,
}

/// Makes a node fail, waits until it is noticed and the views are whole, and brings it back.
async fn fail(network: &mut Network, victim: usize, failure: Failure) -> Result<Round> {
    let node = network.node(victim);
    let id = node.client()?.status().await.map_err(node.failed())?.id;
    let views = overlay(network).await?;
    let mut neighbours = Vec::new();
    for index in network.live() {
        let node = network.node(index);
        let own = node.client()?.status().await.map_err(node.failed())?.id;
        if views.get(&own).is_some_and(|view| view.contains(&id)) {
            neighbours.push(index);
        }
    }
    let began = Instant::now();
    let stopped = match failure {
        Failure::Kill => {
            network.node_mut(victim).kill().await?;
            None
        }
        // Out of the list of running nodes while it does not answer.
        Failure::Stop => Some(network.node_mut(victim).stop().await?),
    };
    let watched = neighbours.iter().map(|index| noticed(network.node(*index), &id, began));
    let noticed = future::try_join_all(watched).await?;
    views_whole(network).await?;
    let whole = began.elapsed();
    match stopped {
        Some(stopped) => network.node_mut(victim).resume(stopped).await?,
        None => network.node_mut(victim).start().await?,
    }
    views_whole(network).await?;
    Ok(Round { noticed, whole })
}

/// Waits until a node has no active link to `id`; says how long after `began` that was.
async fn noticed(node: &Node, id: &str, began: Instant) -> Result<Duration> {
    loop {
        let peers = node.client()?.peers().await.map_err(node.failed())?;
        let waited = began.elapsed();
        if !active_ids(&peers).contains(id) {
            return Ok(waited);
        }
        if waited > NOTICE_DEADLINE {
            let what = format!("{} notices that a neighbour has failed", node.name());
            return Err(Error::Deadline { what, missing: "it is still in its active view".into(), waited });
        }
        tokio::time::sleep(NOTICE_POLL).await;
    }
}

/// Neighbours that any running node has declared failed so far.
async fn suspicions(network: &Network) -> Result<u64> {
    Ok(statuses(network).await?.iter().filter_map(|s| s.counters.get("suspicions")).sum())
}

/// Threads that keep every core busy until dropped.
struct Busy {
    ended: Arc<AtomicBool>,
}

impl Busy {
    fn start() -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism()
            .map_err(|e| Error::Unsupported(format!("cannot count the cores: {e}")))?;
        for _ in 0..cores.get() {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        Ok(Self { ended })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn report(outcome: &Outcome) -> Report {
    let detect_s = outcome.detect_ms as f64 / 1000.0;
    let rows = [
        ("killed: a neighbour", outcome.killed.neighbour),
        ("killed: the last neighbour", outcome.killed.last_neighbour),
        ("killed: views whole again", outcome.killed.views_whole),
        ("stopped: a neighbour", outcome.stopped.neighbour),
        ("stopped: the last neighbour", outcome.stopped.last_neighbour),
        ("stopped: views whole again", outcome.stopped.views_whole),
    ];
    Report::new(format!("Failures noticed among {} processes", outcome.nodes), outcome)
        .summaries("noticed by", rows)
        .bar("kill -9 noticed by the last neighbour, max", outcome.killed.last_neighbour.max_ms, "ms", 300.0)
        .bar(
            "SIGSTOP noticed by the last neighbour, max",
            outcome.stopped.last_neighbour.max_ms / 1000.0,
            "s",
            detect_s,
        )
        .bar(
            format!("healthy nodes suspected in {} s with every core busy", outcome.busy_seconds),
            outcome.healthy_suspected_while_busy as f64,
            "",
            0.0,
        )
}
