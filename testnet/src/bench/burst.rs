//! Many writes at once.

use serde::Serialize;
use starling_report::{Report, bytes, millis, number};

use crate::Common;
use crate::error::Result;
use crate::load::{made_up, made_up_bytes, write_all};
use crate::network::Network;
use crate::progress::Phase;
use crate::show::start;
use crate::states::{entries_everywhere, roots_equal, statuses};
use crate::traffic::Traffic;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Keys in the burst
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
}

/// One burst.
#[derive(Debug, Serialize)]
struct Burst {
    through: String,
    acknowledged_ms: f64,
    /// From the first write until every node holds every key.
    everywhere_ms: f64,
    /// The same, until the last root is equal.
    equal_ms: f64,
    overhead: f64,
    traffic: Traffic,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = common.plan(16)?;
    let (network, _) = start(&plan).await?;
    let all = network.live();
    let bursts = [
        burst(&network, &all[..1], "one node", "a-", options.keys, plan.seed).await?,
        burst(&network, &all, "every node in turn", "b-", options.keys, plan.seed + 1).await?,
    ];
    let rows = bursts.iter().map(|b| {
        let [acknowledged, everywhere, equal] = [b.acknowledged_ms, b.everywhere_ms, b.equal_ms].map(number);
        let received = bytes(b.traffic.bytes());
        [
            b.through.clone(),
            acknowledged,
            everywhere,
            equal,
            received,
            number(b.overhead),
            number(b.traffic.copies()),
        ]
    });
    let header = [
        "written through",
        "acknowledged ms",
        "on every node ms",
        "roots equal ms",
        "received",
        "per payload byte",
        "copies",
    ];
    let title = format!("A burst of {} keys of 100 B at {} processes", options.keys, plan.nodes);
    Ok(bursts.iter().fold(Report::new(title, &bursts).table(header, rows), |report, burst| {
        let figure = format!("burst through {}: on every node", burst.through);
        report.bar(figure, burst.everywhere_ms / 1000.0, "s", 3.0)
    }))
}

async fn burst(
    network: &Network,
    through: &[usize],
    name: &str,
    prefix: &str,
    keys: u64,
    seed: u64,
) -> Result<Burst> {
    let phase = Phase::begin(format!("burst through {name}"), keys);
    let statuses_before = statuses(network).await?;
    let held = statuses_before.iter().map(|s| s.entries).max().unwrap_or_default();
    let acknowledged =
        write_all(network, through, "burst", made_up(seed, prefix, keys), |n| phase.advance(n)).await?;
    let everywhere = acknowledged + entries_everywhere(network, held + keys).await?;
    let equal = everywhere + roots_equal(network).await?.0;
    let traffic = Traffic::received(&statuses(network).await?).since(Traffic::received(&statuses_before));
    phase.done(format!("on every node after {} ms", number(millis(everywhere))));
    let delivered = made_up_bytes(keys) * statuses_before.len().saturating_sub(1) as u64;
    Ok(Burst {
        through: name.into(),
        acknowledged_ms: millis(acknowledged),
        everywhere_ms: millis(everywhere),
        equal_ms: millis(equal),
        overhead: traffic.bytes() as f64 / delivered.max(1) as f64,
        traffic,
    })
}
