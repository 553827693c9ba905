//! Two large replicas compare themselves.

use std::time::Duration;

use serde::Serialize;
use starling_report::{Report, millis, number};

use super::catchup::filled;
use super::million::{KEYSPACE, root_known};
use crate::Common;
use crate::error::Result;
use crate::load::{made_up, write_all};
use crate::network::{Network, Plan, wait_until};
use crate::progress::Phase;
use crate::states::{roots_equal, statuses};
use crate::traffic::Traffic;

/// Two nodes that know each other have compared themselves within this time.
const SESSION_DEADLINE: Duration = Duration::from_secs(120);
const SESSION_POLL: Duration = Duration::from_millis(50);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Keys that both replicas hold
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Keys that only one of them holds, half of them on either side
    #[arg(long, default_value_t = 10)]
    different: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    keys: u64,
    different: u64,
    equal: Traffic,
    differing: Traffic,
    /// From the start of the second replica until both were equal.
    equal_again_ms: f64,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = Plan { nodes: 2, ..common.plan(2)? };
    let mut network = filled(&plan, options.keys).await?;

    let phase = Phase::begin("two equal replicas meet", 0);
    network.start_all(|| {}).await?;
    let equal = wait_for_session(&network).await?;
    phase.done(format!("{} bytes in {} sessions", equal.sync_bytes, equal.sessions));

    let phase = Phase::begin(format!("{} keys are written apart", options.different), 0);
    let half = options.different / 2;
    network.node_mut(1).leave().await?;
    write_all(&network, &[0], KEYSPACE, made_up(plan.seed, "left-", half), |_| {}).await?;
    network.node_mut(0).leave().await?;
    network.node_mut(1).start().await?;
    root_known(network.node(1)).await?;
    let right = made_up(plan.seed, "right-", options.different - half);
    write_all(&network, &[1], KEYSPACE, right, |_| {}).await?;
    phase.done("");

    let phase = Phase::begin("the two replicas meet again", 0);
    let before = Traffic::received(&statuses(&network).await?);
    network.node_mut(0).start().await?;
    let (equal_again, _) = roots_equal(&network).await?;
    let differing = Traffic::received(&statuses(&network).await?).since(before);
    phase.done(format!("{} bytes in {} sessions", differing.sync_bytes, differing.sessions));
    let outcome = Outcome {
        keys: options.keys,
        different: options.different,
        equal,
        differing,
        equal_again_ms: millis(equal_again),
    };
    Ok(report(&outcome))
}

/// Waits until the replicas have found that they are equal.
async fn wait_for_session(network: &Network) -> Result<Traffic> {
    wait_until("a session that finds the replicas equal", SESSION_DEADLINE, SESSION_POLL, async || {
        let statuses = statuses(network).await?;
        let found: u64 = statuses.iter().filter_map(|s| s.counters.get("sessions_equal")).sum();
        Ok((found == 0).then(|| "no session has ended so".into()))
    })
    .await?;
    Ok(Traffic::received(&statuses(network).await?))
}

fn report(outcome: &Outcome) -> Report {
    let each = |what: &str, t: Traffic| {
        [what.into(), t.sessions.to_string(), number(t.sync_frames as f64 / 2.0), t.sync_bytes.to_string()]
    };
    let different = format!("{} keys on one side only", outcome.different);
    let rows = [each("equal", outcome.equal), each(&different, outcome.differing)];
    let per_session = |value: u64| value as f64 / outcome.equal.sessions.max(1) as f64;
    Report::new(format!("Two replicas of {} keys", outcome.keys), outcome)
        .table(["replicas", "sessions", "round trips", "bytes of frames"], rows)
        .line(format!("equal again {} ms after the second one listened", number(outcome.equal_again_ms)))
        .bar("equal: round trips of a session", per_session(outcome.equal.sync_frames) / 2.0, "", 1.0)
        .bar("equal: stream bytes of a session", per_session(outcome.equal.sync_bytes), "B", 300.0)
        .bar("differing: stream bytes until equal", outcome.differing.sync_bytes as f64, "B", 16_000.0)
}
