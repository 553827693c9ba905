//! A network that does nothing: what being there costs.

use std::time::Duration;

use serde::Serialize;
use starling_report::{Report, bytes, number};

use super::namespace;
use super::window::Window;
use crate::error::Result;
use crate::progress::Phase;
use crate::show::start;
use crate::states::views_whole;
use crate::usage::memory;
use crate::{Common, variable};

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
    namespace::enter()?;
    let mut networks = Vec::new();
    for detect_ms in &options.detect_ms {
        networks.push(measure(common, options, *detect_ms).await?);
    }
    Ok(report(&networks))
}

async fn measure(common: &Common, options: &Options, detect_ms: u64) -> Result<Idle> {
    let mut plan = common.plan(64)?;
    plan.dir = plan.dir.map(|dir| dir.join(format!("detect-{detect_ms}")));
    plan.environment.push((variable("detector.detect_ms"), detect_ms.to_string()));
    let (network, _) = start(&plan).await?;
    let phase = Phase::begin(format!("idle, detecting in {detect_ms} ms"), 0);
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    views_whole(&network).await?;
    let window = Window::watch(&network, options.seconds).await?;
    let each = |amount: u64| window.per_node_second(amount as f64);
    let idle = Idle {
        detect_ms,
        nodes: window.nodes,
        seconds: window.seconds,
        interface_bytes_per_s: each(window.interface_bytes),
        packets_per_s: each(window.packets),
        control_bytes_per_s: each(window.received.control_bytes),
        sync_bytes_per_s: each(window.received.sync_bytes),
        cpu_percent: window.cpu_percent() / window.nodes.max(1) as f64,
        pss_bytes: window.mean(|m| m.pss_bytes),
        pss_anonymous_bytes: window.mean(|m| m.pss_anonymous_bytes),
        pss_file_bytes: window.mean(|m| m.pss_file_bytes),
        rss_bytes: window.mean(|m| m.rss_bytes),
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
