//! The show: a network comes up, takes data, loses a quarter of its nodes, and becomes whole again.

use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::Serialize;
use starling_report::{Convergence, Report, Spread, bytes, millis, number};

use crate::data::DataSet;
use crate::error::Result;
use crate::network::{Network, Plan, generator};
use crate::observe::Observer;
use crate::progress::Phase;
use crate::states::{entries_everywhere, roots_equal, statuses, verify_records, views_whole};
use crate::traffic::Traffic;
use crate::writer::Writer;
use crate::{load, states};

/// Keyspace of the writes whose convergence is measured.
pub const PROBES: &str = "probes";
/// Keyspace of the writes that go on while nodes die.
const ONGOING: &str = "ongoing";
/// Writes measured one at a time.
const PROBE_WRITES: usize = 100;
/// Pause between two of them, so that each meets an idle network.
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// Writes before those, so that links have lost interest in what they do not need.
const WARM_UP_WRITES: usize = 30;
/// How long writes go on while a quarter of the nodes is down.
const OUTAGE: Duration = Duration::from_secs(3);

/// What the show found.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    nodes: usize,
    records: usize,
    record_bytes: u64,
    joined_ms: f64,
    import_acknowledged_ms: f64,
    import_everywhere_ms: f64,
    import_overhead: f64,
    convergence: Convergence,
    probe_copies: f64,
    probe_overhead: f64,
    faults: Faults,
}

/// What the killing of a quarter of the nodes did.
#[derive(Debug, Default, Serialize)]
struct Faults {
    killed: Vec<String>,
    writes_acknowledged: usize,
    writes_unanswered: u64,
    views_whole_ms: f64,
    missed_bytes: u64,
    repaired_ms: f64,
    repair_bytes: u64,
    root: String,
}

/// Runs it. The network is returned running, with the report.
pub async fn run(plan: &Plan, data: &DataSet) -> Result<(Network, Report)> {
    let mut outcome = Outcome {
        nodes: plan.nodes,
        records: data.records.len(),
        record_bytes: data.bytes(),
        ..Outcome::default()
    };
    let (mut network, joined) = start(plan).await?;
    outcome.joined_ms = millis(joined);
    import(&network, data, &mut outcome).await?;
    probe(&network, plan.seed, &mut outcome).await?;
    outcome.faults = break_and_repair(&mut network, plan.seed).await?;
    let phase = Phase::begin("reading every key back at every node once more", 0);
    verify_records(&network, &data.keyspace, &data.records).await?;
    phase.done("all there");
    let report = report(&outcome);
    Ok((network, report))
}

/// Starts a network of its own and waits until the overlay is whole; says how long that took.
pub async fn start(plan: &Plan) -> Result<(Network, Duration)> {
    let phase = Phase::begin(format!("starting a bootstrap node and {} more", plan.nodes), plan.nodes as u64);
    let mut network = Network::begin(plan).await?;
    network.start_all(|| phase.advance(1)).await?;
    phase.done("");
    let phase = Phase::begin("each joins by itself", 0);
    let joined = views_whole(&network).await?;
    let statuses = statuses(&network).await?;
    let neighbours: u64 = statuses.iter().map(|s| s.active).sum();
    phase.done(format!("with {} neighbours on average", number(neighbours as f64 / statuses.len() as f64)));
    Ok((network, joined))
}

async fn import(network: &Network, data: &DataSet, outcome: &mut Outcome) -> Result<()> {
    let count = data.records.len() as u64;
    let before = Traffic::received(&statuses(network).await?);
    let phase = Phase::begin(format!("importing {count} records through every node in turn"), count);
    let records = data.records.iter().map(|(key, value)| (key.clone(), value.clone()));
    let acknowledged =
        load::write_all(network, &network.live(), &data.keyspace, records, |n| phase.advance(n)).await?;
    let spread = entries_everywhere(network, count).await?;
    phase.done(format!("on every node {} ms after the last acknowledgement", number(millis(spread))));
    let received = Traffic::received(&statuses(network).await?).since(before);
    outcome.import_acknowledged_ms = millis(acknowledged);
    outcome.import_everywhere_ms = millis(acknowledged + spread);
    outcome.import_overhead = overhead(received, data.bytes(), network.live().len());
    let phase = Phase::begin("reading every key back at every node", 0);
    verify_records(network, &data.keyspace, &data.records).await?;
    phase.done("all there");
    Ok(())
}

/// Bytes received for each byte of keys and values that had to be delivered.
fn overhead(received: Traffic, payload_bytes: u64, nodes: usize) -> f64 {
    let delivered = payload_bytes * nodes.saturating_sub(1) as u64;
    received.bytes() as f64 / delivered.max(1) as f64
}

async fn probe(network: &Network, seed: u64, outcome: &mut Outcome) -> Result<()> {
    let phase = Phase::begin("measuring convergence, one write at a time", PROBE_WRITES as u64);
    let mut observer = Observer::open(network, PROBES).await?;
    let warm_up = Probes { seed, prefix: "warm-", count: WARM_UP_WRITES, pause: Duration::ZERO };
    warm_up.run(network, &mut observer, || {}).await?;
    let before = Traffic::received(&statuses(network).await?);
    let probes = Probes { seed, prefix: "probe-", count: PROBE_WRITES, pause: PROBE_PAUSE };
    let measured = probes.run(network, &mut observer, || phase.advance(1)).await?;
    let received = Traffic::received(&statuses(network).await?).since(before);
    outcome.convergence = Convergence::of(&measured);
    outcome.probe_copies = received.copies();
    let payload = load::made_up_bytes(PROBE_WRITES as u64);
    outcome.probe_overhead = overhead(received, payload, network.live().len());
    let all = outcome.convergence.nodes_all;
    phase.done(format!("last node p50 {} ms, p99 {} ms", number(all.p50_ms), number(all.p99_ms)));
    Ok(())
}

/// Writes of new keys, one at a time through random nodes.
#[derive(Clone, Copy, Debug)]
pub struct Probes<'a> {
    /// Of the nodes and the values.
    pub seed: u64,
    /// Of the keys.
    pub prefix: &'a str,
    /// How many.
    pub count: usize,
    /// Between a write that is on every node and the next one.
    pub pause: Duration,
}

impl Probes<'_> {
    /// Writes them, each watched until every node has it.
    pub async fn run(
        self,
        network: &Network,
        observer: &mut Observer,
        measured: impl Fn(),
    ) -> Result<Vec<Spread>> {
        let live = network.live();
        let mut random = generator(self.seed, 2);
        let mut spreads = Vec::with_capacity(self.count);
        for (key, value) in load::made_up(self.seed, self.prefix, self.count as u64) {
            let through = live[random.random_range(0..live.len())];
            spreads.push(observer.spread(network, through, &key, &value).await?);
            measured();
            tokio::time::sleep(self.pause).await;
        }
        Ok(spreads)
    }
}

async fn break_and_repair(network: &mut Network, seed: u64) -> Result<Faults> {
    let mut victims = network.live();
    victims.shuffle(&mut generator(seed, 3));
    victims.truncate((victims.len() / 4).max(1));
    victims.sort_unstable();
    let killed: Vec<String> = victims.iter().map(|v| network.node(*v).name().to_string()).collect();

    let phase = Phase::begin(format!("kill -9 of {} while writes go on", killed.join(", ")), 0);
    let writer = Writer::start(network, ONGOING, seed)?;
    tokio::time::sleep(OUTAGE / 3).await;
    for victim in &victims {
        network.node_mut(*victim).kill().await?;
    }
    let down = writer.acknowledged();
    let views_whole = views_whole(network).await?;
    tokio::time::sleep(OUTAGE.saturating_sub(views_whole)).await;
    let missed = writer.acknowledged();
    network.check()?;
    phase.done(format!("views whole again after {} ms", number(millis(views_whole))));

    let phase = Phase::begin("restarting them, writes still going on", 0);
    for victim in &victims {
        network.node_mut(*victim).start().await?;
    }
    let written = writer.stop().await?;
    let (repaired, root) = roots_equal(network).await?;
    let restarted: Vec<_> = {
        let all = statuses(network).await?;
        all.into_iter().filter(|s| killed.contains(&s.name)).collect()
    };
    verify_records(network, ONGOING, &written.acknowledged).await?;
    phase.done(format!("root {} on every node {} ms later", states::short(&root), number(millis(repaired))));
    Ok(Faults {
        killed,
        writes_acknowledged: written.acknowledged.len(),
        writes_unanswered: written.unanswered,
        views_whole_ms: millis(views_whole),
        missed_bytes: load::made_up_bytes(missed - down) * victims.len() as u64,
        repaired_ms: millis(repaired),
        repair_bytes: Traffic::received(&restarted).bytes(),
        root,
    })
}

fn report(outcome: &Outcome) -> Report {
    let faults = &outcome.faults;
    let row = |what: &str, value: String| [what.to_string(), value];
    let ms = |value: f64| format!("{} ms", number(value));
    let rows = [
        row("nodes joined and views whole after the last start", ms(outcome.joined_ms)),
        row("records imported", format!("{} ({})", outcome.records, bytes(outcome.record_bytes))),
        row("  acknowledged in", ms(outcome.import_acknowledged_ms)),
        row("  on every node in", ms(outcome.import_everywhere_ms)),
        row("  bytes received per delivered payload byte", number(outcome.import_overhead)),
        row("single writes: copies received per node", number(outcome.probe_copies)),
        row("  bytes received per delivered payload byte", number(outcome.probe_overhead)),
        row("killed with -9", faults.killed.join(" ")),
        row("  writes acknowledged meanwhile, all on every node", faults.writes_acknowledged.to_string()),
        row("  writes cut off without an answer", faults.writes_unanswered.to_string()),
        row("  views of the others whole again after", ms(faults.views_whole_ms)),
        row("  restarted: one root everywhere after", ms(faults.repaired_ms)),
        row("  bytes they received for it", bytes(faults.repair_bytes)),
        row("  bytes of keys and values they had missed", bytes(faults.missed_bytes)),
        row("  root", faults.root.clone()),
    ];
    Report::new(format!("Starling: {} nodes on this machine", outcome.nodes), outcome)
        .summaries("one write at a time: time after its acknowledgement", outcome.convergence.rows())
        .table(["", "result"], rows)
}
