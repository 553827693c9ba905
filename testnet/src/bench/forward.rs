//! What it costs to ask a node that is no member.

use std::time::Duration;

use serde::Serialize;
use starling_load::Work;
use starling_report::{Report, median, number};

use crate::Common;
use crate::bench::keyspace::{create, led, served};
use crate::error::{Error, Result};
use crate::network::{Network, Plan};
use crate::progress::Phase;
use crate::show::start;

/// The keyspace, and who has it.
const KEYSPACE: &str = "orders";
const MEMBERS: [usize; 3] = [0, 1, 2];
/// What is written and read. Few keys: before each round of reads they are laid out again.
const VALUE_BYTES: usize = 100;
const KEYS: u64 = 1_000;
/// Before each round is measured: links are open and caches are warm.
const WARM_UP: Duration = Duration::from_millis(300);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rounds at the leader, each followed by one at a node outside of the group
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    nodes: usize,
    rounds: u32,
    puts: Compared,
    gets: Compared,
}

/// One kind of request at both places.
#[derive(Debug, Default, Serialize)]
struct Compared {
    leader: Vec<starling_load::Report>,
    outside: Vec<starling_load::Report>,
}

/// Medians of the rounds, microseconds.
#[derive(Clone, Copy, Debug)]
struct Latency {
    p50: f64,
    p99: f64,
}

/// Runs the measurement.
pub async fn run(common: &Common, options: &Options) -> Result<Report> {
    let plan = Plan { etcd: Some(KEYSPACE.into()), ..common.plan(16)? };
    if plan.nodes <= MEMBERS.len() {
        return Err(Error::Unsupported("a node outside of the group needs --nodes 4 or more".into()));
    }
    let (network, _) = start(&plan).await?;
    create(&network, KEYSPACE, &MEMBERS).await?;
    served(&network, KEYSPACE).await?;
    let rounds = options.rounds;
    let work = Work::Put { value_bytes: VALUE_BYTES, keys: KEYS };
    let puts = measure(&network, options, "puts", work).await?;
    let work = Work::Get { value_bytes: VALUE_BYTES, keys: KEYS };
    let gets = measure(&network, options, "linearizable gets", work).await?;
    Ok(report(&Outcome { nodes: plan.nodes, rounds, puts, gets }))
}

async fn measure(network: &Network, options: &Options, name: &str, work: Work) -> Result<Compared> {
    let phase =
        Phase::begin(format!("{name}, one at a time, at the leader and outside"), options.rounds.into());
    let outsiders: Vec<usize> = network.live().into_iter().filter(|node| !MEMBERS.contains(node)).collect();
    let mut compared = Compared::default();
    for outsider in outsiders.iter().cycle().take(options.rounds as usize) {
        let leader = led(network, KEYSPACE, MEMBERS[0]).await?.leader;
        for (at, reports) in [(leader, &mut compared.leader), (*outsider, &mut compared.outside)] {
            let load = starling_load::Plan {
                endpoints: vec![network.node(at).etcd()?],
                clients: 1,
                connections: 1,
                warm_up: WARM_UP,
                duration: Duration::from_secs_f64(options.seconds),
                work,
                servers: Vec::new(),
            };
            reports.push(starling_load::run(&load).await.map_err(Error::Load)?);
        }
        phase.advance(1);
    }
    phase.done(format!("{} times as long outside", number(compared.ratio())));
    Ok(compared)
}

impl Compared {
    fn ratio(&self) -> f64 {
        Latency::of(&self.outside).p50 / Latency::of(&self.leader).p50.max(1.0)
    }

    fn failed(&self) -> u64 {
        self.leader.iter().chain(&self.outside).map(|report| report.failed).sum()
    }
}

impl Latency {
    fn of(rounds: &[starling_load::Report]) -> Self {
        let over =
            |of: fn(&starling_load::Report) -> u64| median(rounds.iter().map(|report| of(report) as f64));
        Self { p50: over(|report| report.p50_us), p99: over(|report| report.p99_us) }
    }
}

fn report(outcome: &Outcome) -> Report {
    let kinds = [("put", &outcome.puts), ("linearizable get", &outcome.gets)];
    let rows = kinds.iter().flat_map(|(name, compared)| {
        [("at the leader", &compared.leader), ("outside of the group", &compared.outside)].map(
            |(place, rounds)| {
                let Latency { p50, p99 } = Latency::of(rounds);
                let each = median(rounds.iter().map(|report| report.per_second));
                [format!("{name}, {place}"), number(each), number(p50 / 1000.0), number(p99 / 1000.0)]
            },
        )
    });
    let title = format!("A strong keyspace of 3 among {} processes, one client", outcome.nodes);
    let failed: u64 = kinds.iter().map(|(_, compared)| compared.failed()).sum();
    let report = Report::new(title, outcome)
        .table(["request", "per second", "p50 ms", "p99 ms"], rows)
        .line(format!("medians of {} rounds each, in turn; {failed} requests failed", outcome.rounds));
    kinds.iter().fold(report, |report, (name, compared)| {
        report.bar(format!("{name}: p50 outside / at the leader"), compared.ratio(), "x", 1.5)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_the_medians_of_the_rounds() {
        let round = |p50_us| starling_load::Report { p50_us, ..starling_load::Report::default() };
        let compared = Compared {
            leader: vec![round(100), round(900), round(110)],
            outside: vec![round(50), round(220), round(8_000)],
        };
        assert!((compared.ratio() - 2.0).abs() < 1e-9);
    }
}
