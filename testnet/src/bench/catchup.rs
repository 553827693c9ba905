//! A node that was away.

use std::time::Instant;

use serde::Serialize;
use starling_report::{Report, bytes, millis, number};

use super::million::{KEYSPACE, fill, root_known};
use crate::Common;
use crate::error::Result;
use crate::load::{made_up, made_up_bytes, write_all};
use crate::network::{Network, Plan};
use crate::progress::Phase;
use crate::states::{roots_equal, statuses, views_whole};
use crate::traffic::Traffic;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Keys that every node holds
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Keys written while one node is down
    #[arg(long, default_value_t = 10_000)]
    missed: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    nodes: usize,
    keys: u64,
    missed: u64,
    missed_bytes: u64,
    /// From `exec` until its API listened.
    listening_ms: f64,
    /// From `exec` until its root was that of the others.
    equal_ms: f64,
    /// From its API listening until its root was that of the others.
    catch_up_ms: f64,
    /// What it received for that.
    received: Traffic,
    /// Sessions that the others began meanwhile.
    sessions_of_others: u64,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = common.plan(3)?;
    let mut network = filled(&plan, options.keys).await?;
    network.start_all(|| {}).await?;
    views_whole(&network).await?;
    roots_equal(&network).await?;
    let away = network.nodes().len() - 1;
    network.node_mut(away).leave().await?;
    let phase =
        Phase::begin(format!("writing {} keys while one node is down", options.missed), options.missed);
    let missed = made_up(plan.seed + 1, "new-", options.missed);
    write_all(&network, &network.live(), KEYSPACE, missed, |n| phase.advance(n)).await?;
    roots_equal(&network).await?;
    let before = Traffic::received(&statuses(&network).await?);
    phase.done("");

    let phase = Phase::begin("starting it again", 0);
    let began = Instant::now();
    network.node_mut(away).start().await?;
    let listening = network.node(away).process()?.started_in;
    roots_equal(&network).await?;
    let equal = began.elapsed();
    phase.done(format!("equal again after {} ms", number(millis(equal))));
    let name = network.node(away).name();
    let (own, others): (Vec<_>, Vec<_>) = statuses(&network).await?.into_iter().partition(|s| s.name == name);
    let outcome = Outcome {
        nodes: plan.nodes,
        keys: options.keys,
        missed: options.missed,
        missed_bytes: made_up_bytes(options.missed),
        listening_ms: millis(listening),
        equal_ms: millis(equal),
        catch_up_ms: millis(equal.saturating_sub(listening)),
        received: Traffic::received(&own),
        sessions_of_others: Traffic::received(&others).since(before).sessions,
    };
    Ok(report(&outcome))
}

/// A network that is not running yet, each of whose nodes will find the same large store: it is
/// loaded at one node and copied, identities and peers left out.
pub async fn filled(plan: &Plan, keys: u64) -> Result<Network> {
    let mut network = Network::begin(plan).await?;
    network.node_mut(0).start().await?;
    fill(&network, 0, plan.seed, keys).await?;
    let phase = Phase::begin(format!("copying the store to {} more nodes", plan.nodes - 1), 0);
    root_known(network.node(0)).await?;
    network.node_mut(0).leave().await?;
    for index in 1..plan.nodes {
        // A node makes its identity at its first start, and not where it finds data.
        network.node_mut(index).start().await?;
        network.node_mut(index).leave().await?;
        network.copy_store(0, index)?;
    }
    phase.done("");
    Ok(network)
}

fn report(outcome: &Outcome) -> Report {
    let ratio = outcome.received.bytes() as f64 / outcome.missed_bytes.max(1) as f64;
    let title =
        format!("A node that missed {} of {} keys of 100 B", outcome.missed, outcome.keys + outcome.missed);
    Report::new(title, outcome)
        .table(
            [
                "among",
                "listening ms",
                "equal ms",
                "received",
                "missed keys and values",
                "sessions begun",
                "by others",
            ],
            [[
                format!("{} processes", outcome.nodes),
                number(outcome.listening_ms),
                number(outcome.equal_ms),
                bytes(outcome.received.bytes()),
                bytes(outcome.missed_bytes),
                outcome.received.sessions.to_string(),
                outcome.sessions_of_others.to_string(),
            ]],
        )
        .bar("equal again after it listened", outcome.catch_up_ms / 1000.0, "s", 1.0)
        .bar("bytes received / bytes missed", ratio, "", 1.3)
}
