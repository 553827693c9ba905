//! A network that does nothing: what being there costs.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::progress::Phase;
use crate::show::start;
use crate::states::{statuses, views_whole};
use crate::traffic::Traffic;
use crate::usage::{Memory, cpu_time, loopback, memory};
use crate::{Common, variable};
use starling_report::{Report, bytes, number};

/// Set in the run that has a network namespace of its own.
const IN_NAMESPACE: &str = "STARLING_TESTNET_NAMESPACE";

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Detection times to measure, milliseconds, each with a network of its own
    #[arg(long, value_delimiter = ',', default_values_t = [3000, 10_000])]
    detect_ms: Vec<u64>,
    /// Seconds before the measurement: after a change of views shuffles slow down step by step, to
    /// their slowest after more than five minutes
    #[arg(long, default_value_t = 400)]
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
    packets_per_s: f64,
    /// Bytes of frames before encryption: views, heartbeats, announcements.
    control_bytes_per_s: f64,
    /// The same of anti-entropy sessions.
    sync_bytes_per_s: f64,
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
    plan.environment.push((variable("detector.detect_ms"), detect_ms.to_string()));
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
    let (began, net_before, cpu_before) = (Instant::now(), loopback()?, cpu()?);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let (seconds, net_after, cpu_after) = (began.elapsed().as_secs_f64(), loopback()?, cpu()?);
    let frames = Traffic::received(&statuses(&network).await?).since(frames);
    let memories = pids.iter().map(|pid| memory(*pid)).collect::<Result<Vec<_>>>()?;

    let nodes = pids.len();
    let mean = |of: fn(&Memory) -> u64| memories.iter().map(of).sum::<u64>() / nodes.max(1) as u64;
    let per_node_second = |amount: f64| amount / nodes as f64 / seconds;
    let idle = Idle {
        detect_ms,
        nodes,
        seconds,
        interface_bytes_per_s: per_node_second(net_after.bytes.saturating_sub(net_before.bytes) as f64),
        packets_per_s: per_node_second(net_after.packets.saturating_sub(net_before.packets) as f64),
        control_bytes_per_s: per_node_second(frames.control_bytes as f64),
        sync_bytes_per_s: per_node_second(frames.sync_bytes as f64),
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
        let [interface, packets, control, sync, cpu] = [
            n.interface_bytes_per_s,
            n.packets_per_s,
            n.control_bytes_per_s,
            n.sync_bytes_per_s,
            n.cpu_percent,
        ]
        .map(number);
        [n.detect_ms.to_string(), interface, packets, control, sync, cpu]
    });
    let header = [
        "detects in ms",
        "B/s at the interface",
        "packets/s",
        "B/s in control frames",
        "in sync frames",
        "CPU %",
    ];
    let memory = networks.iter().map(|n| {
        let [pss, anonymous, file, rss, seed] =
            [n.pss_bytes, n.pss_anonymous_bytes, n.pss_file_bytes, n.rss_bytes, n.seed_pss_bytes].map(bytes);
        [n.detect_ms.to_string(), pss, anonymous, file, rss, seed]
    });
    let memory_header = ["detects in ms", "PSS", "anonymous", "files", "RSS", "PSS of the seed (no store)"];
    let report = Report::new(format!("{nodes} idle processes, each on average"), &networks)
        .table(header, rows)
        .table(memory_header, memory);
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
