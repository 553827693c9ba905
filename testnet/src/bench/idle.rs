//! A network that does nothing: what being there costs.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Common;
use crate::error::{Error, Result};
use crate::progress::Phase;
use crate::report::{Report, bytes, number};
use crate::show::start;
use crate::states::{statuses, views_whole};
use crate::traffic::Traffic;
use crate::usage::{cpu_time, loopback_bytes, memory};

/// Set in the run that has a network namespace of its own.
const IN_NAMESPACE: &str = "STARLING_TESTNET_NAMESPACE";

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Detection times to measure, milliseconds, each with a network of its own
    #[arg(long, value_delimiter = ',', default_values_t = [3000, 10_000])]
    detect_ms: Vec<u64>,
    /// Seconds before the measurement, for joins to die down
    #[arg(long, default_value_t = 30)]
    settle: u64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// One idle network. All figures are averages per node.
#[derive(Debug, Serialize)]
struct Idle {
    detect_ms: u64,
    nodes: usize,
    seconds: f64,
    /// At the interface of the namespace, every header counted, every packet once.
    interface_bytes_per_s: f64,
    /// Bytes of frames before encryption.
    frame_bytes_per_s: f64,
    cpu_percent: f64,
    pss_bytes: u64,
    pss_anonymous_bytes: u64,
    pss_file_bytes: u64,
    rss_bytes: u64,
    /// Of the bootstrap node: the same program without a store.
    seed_pss_bytes: u64,
}

/// Runs the measurement. Begins by running this program again in a network namespace of its own.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    if std::env::var_os(IN_NAMESPACE).is_none() {
        return Err(enter_namespace());
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.is_ok_and(|status| status.success()) {
        return Err(Error::Unsupported("`ip link set lo up` failed: install iproute2".into()));
    }
    let mut networks = Vec::new();
    for detect_ms in &options.detect_ms {
        networks.push(measure(common, options, *detect_ms).await?);
    }
    Ok(report(&networks))
}

/// Replaces this process; returns only if that failed.
fn enter_namespace() -> Error {
    let Ok(own) = std::env::current_exe() else {
        return Error::Unsupported("cannot find this program's own file".into());
    };
    let failure = Command::new("unshare")
        .arg("--net")
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(IN_NAMESPACE, "1")
        .exec();
    Error::Unsupported(format!("`unshare --net` failed ({failure}): run as root with util-linux installed"))
}

async fn measure(common: &Common, options: &Options, detect_ms: u64) -> Result<Idle> {
    let mut plan = common.plan(64)?;
    plan.dir = plan.dir.map(|dir| dir.join(format!("detect-{detect_ms}")));
    plan.environment.push(("STARLING_DETECTOR_DETECT_MS".into(), detect_ms.to_string()));
    let (network, _) = start(&plan).await?;
    let phase = Phase::begin(format!("idle, detecting in {detect_ms} ms"), 0);
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    views_whole(&network).await?;
    let pids =
        network.live().iter().map(|i| Ok(network.node(*i).process()?.pid())).collect::<Result<Vec<_>>>()?;
    let cpu = || pids.iter().map(|pid| cpu_time(*pid)).sum::<Result<Duration>>();

    let frames = Traffic::received(&statuses(&network).await?);
    // The answers above are read, their last packets are acknowledged.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (began, bytes_before, cpu_before) = (Instant::now(), loopback_bytes()?, cpu()?);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let (seconds, bytes_after, cpu_after) = (began.elapsed().as_secs_f64(), loopback_bytes()?, cpu()?);
    let frames = Traffic::received(&statuses(&network).await?).since(frames);
    let memories = pids.iter().map(|pid| memory(*pid)).collect::<Result<Vec<_>>>()?;

    let nodes = pids.len();
    let mean =
        |of: fn(&crate::usage::Memory) -> u64| memories.iter().map(of).sum::<u64>() / nodes.max(1) as u64;
    let per_node_second = |amount: f64| amount / nodes as f64 / seconds;
    let idle = Idle {
        detect_ms,
        nodes,
        seconds,
        interface_bytes_per_s: per_node_second(bytes_after.saturating_sub(bytes_before) as f64),
        frame_bytes_per_s: per_node_second(frames.bytes() as f64),
        cpu_percent: 100.0 * per_node_second(cpu_after.saturating_sub(cpu_before).as_secs_f64()),
        pss_bytes: mean(|m| m.pss_bytes),
        pss_anonymous_bytes: mean(|m| m.pss_anonymous_bytes),
        pss_file_bytes: mean(|m| m.pss_file_bytes),
        rss_bytes: mean(|m| m.rss_bytes),
        seed_pss_bytes: memory(network.bootstrap().process()?.pid())?.pss_bytes,
    };
    phase.done(format!("{} B/s per node", number(idle.interface_bytes_per_s)));
    Ok(idle)
}

fn report(networks: &[Idle]) -> Report {
    let nodes = networks.first().map_or(0, |n| n.nodes);
    let rows = networks.iter().map(|n| {
        let [interface, frames, cpu] =
            [n.interface_bytes_per_s, n.frame_bytes_per_s, n.cpu_percent].map(number);
        let [pss, anonymous, file, rss, seed] =
            [n.pss_bytes, n.pss_anonymous_bytes, n.pss_file_bytes, n.rss_bytes, n.seed_pss_bytes].map(bytes);
        [n.detect_ms.to_string(), interface, frames, cpu, pss, anonymous, file, rss, seed]
    });
    let header = [
        "detects in ms",
        "B/s at interface",
        "B/s of frames",
        "CPU %",
        "PSS",
        "anonymous",
        "files",
        "RSS",
        "PSS of the seed",
    ];
    let report =
        Report::new(format!("{nodes} idle processes, each on average"), &networks).table(header, rows);
    networks.iter().fold(report, |report, network| {
        // Serf's trade is 10 s at 300 B/s; ours by default is 3 s.
        let allowed = if network.detect_ms >= 10_000 { 300.0 } else { 800.0 };
        let of = |what: &str| format!("{what}, detecting in {} ms", network.detect_ms);
        report
            .bar(of("at the interface"), network.interface_bytes_per_s, "B/s", allowed)
            .bar(of("of a core"), network.cpu_percent, "%", 1.0)
            .bar(of("PSS"), network.pss_bytes as f64 / 1e6, "MB", 20.0)
    })
}
