//! A strong keyspace loses its leader: how soon clients write again, and that no leader is lost for
//! nothing.

mod elections;
mod trial;
mod writer;

use std::time::Duration;

use serde::Serialize;
use starling_report::{Report, Summary, millis, number};

use crate::Common;
use crate::bench::keyspace::{create, served};
use crate::error::Result;
use crate::network::{Network, Plan, generator};
use crate::progress::Phase;
use crate::show::start;

use elections::Loaded;
use trial::{Fault, Trial};

/// The keyspace, who has it, and the node beside them that serves the client.
const KEYSPACE: &str = "orders";
const MEMBERS: [usize; 3] = [0, 1, 2];
const OUTSIDER: usize = 3;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Trials in which the leader is killed (kill -9)
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Trials in which the leader is stopped (SIGSTOP)
    #[arg(long, default_value_t = 20)]
    stops: u32,
    /// Trials in which a follower is killed (kill -9)
    #[arg(long, default_value_t = 20)]
    followers: u32,
    /// Seconds of load that keeps every core busy while elections are counted
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Time that the client waits for a node before it tries the next one, milliseconds
    #[arg(long, default_value_t = 500)]
    try_ms: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    try_ms: u64,
    leader_killed: Trials,
    leader_stopped: Trials,
    follower_killed: Trials,
    loaded: Option<Loaded>,
}

/// Faults of one kind.
#[derive(Debug, Default, Serialize)]
struct Trials {
    /// From the fault to the first acknowledgement of a write that was begun after it.
    recovery: Summary,
    /// The same, one by one.
    recovery_ms: Vec<f64>,
    /// Elections that it took in all.
    elections: u64,
    /// Requests that the client sent again to another node.
    sent_again: u64,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = Plan { nodes: OUTSIDER + 1, etcd: Some(KEYSPACE.into()), ..common.plan(0)? };
    let (mut network, _) = start(&plan).await?;
    create(&network, KEYSPACE, &MEMBERS).await?;
    served(&network, KEYSPACE).await?;
    let patience = Duration::from_millis(options.try_ms);
    let kinds = [
        (Fault::KilledLeader, options.kills),
        (Fault::StoppedLeader, options.stops),
        (Fault::KilledFollower, options.followers),
    ];
    let mut all = Vec::new();
    for (fault, count) in kinds {
        all.push(trials(&mut network, fault, count, patience, plan.seed).await?);
    }
    let loaded = match options.seconds {
        0 => None,
        seconds => Some(elections::count(&network, Duration::from_secs(seconds)).await?),
    };
    let [leader_killed, leader_stopped, follower_killed] = <[Trials; 3]>::try_from(all).unwrap_or_default();
    Ok(report(&Outcome { try_ms: options.try_ms, leader_killed, leader_stopped, follower_killed, loaded }))
}

async fn trials(
    network: &mut Network,
    fault: Fault,
    count: u32,
    patience: Duration,
    seed: u64,
) -> Result<Trials> {
    let phase = Phase::begin(fault.name(), count.into());
    let mut random = generator(seed, fault.stream());
    let mut trials = Vec::new();
    for _ in 0..count {
        trials.push(trial::run(network, fault, patience, &mut random).await?);
        phase.advance(1);
    }
    let trials = Trials::of(&trials);
    phase.done(format!("median {} ms", number(trials.recovery.p50_ms)));
    Ok(trials)
}

impl Trials {
    fn of(trials: &[Trial]) -> Self {
        let recoveries: Vec<Duration> = trials.iter().map(|trial| trial.recovery).collect();
        Self {
            recovery: Summary::of(&recoveries),
            recovery_ms: recoveries.into_iter().map(millis).collect(),
            elections: trials.iter().map(|trial| trial.elections).sum(),
            sent_again: trials.iter().map(|trial| trial.sent_again).sum(),
        }
    }
}

fn report(outcome: &Outcome) -> Report {
    let kinds = [
        ("leader killed", &outcome.leader_killed),
        ("leader stopped", &outcome.leader_stopped),
        ("follower killed", &outcome.follower_killed),
    ];
    let [killed, stopped, _] = kinds.map(|(_, trials)| trials.recovery);
    let counts = kinds.map(|(name, trials)| format!("{name} {}, {}", trials.elections, trials.sent_again));
    let report =
        Report::new("A strong keyspace of 3 loses a member; a fourth node serves the client", outcome)
            .summaries(
                "from the fault to the next write",
                kinds.map(|(name, trials)| (name, trials.recovery)),
            )
            .line(format!(
                "elections in all, and requests sent again to another node after {} ms or an error: {}",
                outcome.try_ms,
                counts.join("; ")
            ));
    let report = match &outcome.loaded {
        Some(loaded) => loaded.add_to(report),
        None => report,
    };
    let report = match killed.count {
        0 => report,
        _ => report.bar("leader killed to the next write, median", killed.p50_ms, "ms", 300.0).bar(
            "leader killed to the next write, max",
            killed.max_ms,
            "ms",
            1000.0,
        ),
    };
    match stopped.count {
        0 => report,
        _ => report.bar("leader stopped to the next write, median", stopped.p50_ms, "ms", 1000.0),
    }
}
