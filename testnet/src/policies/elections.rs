//! Elections of a leader, counted and broken.

use starling_report::Report;
use starling_sim::Threads;
use starling_sim::policies::elections::{
    Count, FAILURES, Failure, Protocol, Scenario, Summary, counts, find, measure,
};

use crate::Common;
use crate::error::{Error, Result};

/// Nodes unless the person said otherwise: as many voters as a Raft group of Starling may have.
const NODES_DEFAULT: usize = 7;
/// Seeds in which a failure is looked for.
const TRIES: u32 = 2000;

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A scenario, by name or as a TOML file; `--set` changes single values of it [default: all that have names]
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// One protocol instead of all
    #[arg(long, value_enum)]
    protocol: Option<Which>,
    /// Runs of each protocol in each scenario, with seeds from --seed on
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Print every message of the run with --seed
    #[arg(long, requires_all = ["scenario", "protocol"])]
    transcript: bool,
}

/// A protocol, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Chang and Roberts 1979; dead nodes are left out of the ring
    Ring,
    /// The same; candidates are checked by the failure detector, and elections repeated
    RingChecked,
    /// The ring whose messages list the nodes that they pass
    ModifiedRing,
    /// Garcia-Molina 1982
    Bully,
    /// Lamport 2001; a proposer that is rejected begins a higher ballot at once
    PaxosDuel,
    /// The same; it waits for a random time
    Paxos,
    /// The same; it yields to the other proposer
    PaxosStable,
    /// Paxos with a mistake, planted: the highest value instead of that of the highest ballot
    PaxosMistaken,
    /// Ongaro and Ousterhout 2014: the node's own group
    Raft,
}

impl Which {
    fn protocol(self) -> Protocol {
        match self {
            Self::Ring => Protocol::Ring,
            Self::RingChecked => Protocol::RingChecked,
            Self::ModifiedRing => Protocol::ModifiedRing,
            Self::Bully => Protocol::Bully,
            Self::PaxosDuel => Protocol::PaxosDuel,
            Self::Paxos => Protocol::Paxos,
            Self::PaxosStable => Protocol::PaxosStable,
            Self::PaxosMistaken => Protocol::PaxosMistaken,
            Self::Raft => Protocol::Raft,
        }
    }
}

/// A scenario with what is said of it.
struct Named {
    name: String,
    about: String,
    scenario: Scenario,
}

impl Options {
    fn scenarios(&self, common: &Common, nodes: usize) -> Result<Vec<Named>> {
        let all = Scenario::named(nodes);
        let chosen: Vec<(String, String)> = match &self.scenario {
            Some(name) => {
                let about = all.iter().find(|(other, ..)| other == name).map_or("from a file", |(_, a, _)| a);
                vec![(name.clone(), about.into())]
            }
            None => all.iter().map(|(name, about, _)| ((*name).into(), (*about).into())).collect(),
        };
        let load = |(name, about): (String, String)| {
            let scenario = Scenario::load(&name, nodes, &common.set).map_err(Error::Scenario)?;
            Ok(Named { name, about, scenario })
        };
        chosen.into_iter().map(load).collect()
    }

    /// Counts, measures and breaks the protocols, or prints one run.
    pub fn run(&self, common: &Common, threads: &Threads) -> Result<Report> {
        let nodes = common.nodes.map_or(NODES_DEFAULT, |nodes| nodes as usize);
        let scenarios = self.scenarios(common, nodes)?;
        if let (true, Some(which), [named]) = (self.transcript, self.protocol, &scenarios[..]) {
            return transcript(which.protocol(), named, common.seed);
        }
        let one = self.protocol.map(Which::protocol);
        let chosen = |protocol: &Protocol| one.is_none_or(|one| one == *protocol);
        let protocols: Vec<Protocol> = Protocol::ALL.into_iter().filter(chosen).collect();
        let counted: Vec<Count> = counts(nodes).into_iter().filter(|c| chosen(&c.protocol)).collect();
        let measured: Vec<(&Named, Vec<Summary>)> = scenarios
            .iter()
            .map(|named| (named, measure_all(threads, &protocols, &named.scenario, self.runs, common.seed)))
            .collect();
        let failures: Vec<(Failure, Option<u64>)> =
            if self.scenario.is_none() { search(common, threads, nodes, &chosen)? } else { Vec::new() };
        let values = serde_json::json!({
            "counts": counted,
            "scenarios": measured.iter().map(|(named, summaries)| serde_json::json!({
                "name": named.name, "scenario": named.scenario, "protocols": summaries,
            })).collect::<Vec<_>>(),
            "failures": failures.iter().map(|(failure, seed)| serde_json::json!({
                "failure": failure, "seed": seed,
            })).collect::<Vec<_>>(),
        });
        let mut report = Report::new(format!("Elections among {nodes} nodes"), &values);
        if self.scenario.is_none() {
            report = report.line(COUNTED).table(COUNTS, counted.iter().map(count_row));
        }
        for (named, summaries) in &measured {
            let Named { name, about, .. } = named;
            report = report.line(format!("{name}: {about}")).table(ENDINGS, summaries.iter().map(row));
        }
        report = report.line(LEGEND);
        if !failures.is_empty() {
            report = report.line(FAILED).table(SEEDS, failures.iter().map(|(f, seed)| failure_row(f, *seed)));
        }
        Ok(report)
    }
}

fn measure_all(
    threads: &Threads,
    protocols: &[Protocol],
    scenario: &Scenario,
    runs: u32,
    seed: u64,
) -> Vec<Summary> {
    let fit = protocols.iter().filter(|protocol| protocol.takes(scenario.nodes));
    fit.map(|protocol| measure(threads, *protocol, scenario, runs, seed)).collect()
}

fn search(
    common: &Common,
    threads: &Threads,
    nodes: usize,
    chosen: &impl Fn(&Protocol) -> bool,
) -> Result<Vec<(Failure, Option<u64>)>> {
    let wanted = FAILURES.into_iter().filter(|failure| chosen(&failure.protocol));
    let load = |failure: Failure| {
        let scenario = Scenario::load(failure.scenario, nodes, &common.set).map_err(Error::Scenario)?;
        Ok((failure, scenario))
    };
    let wanted: Vec<(Failure, Scenario)> = wanted.map(load).collect::<Result<_>>()?;
    Ok(threads.map(wanted, |(failure, scenario)| (failure, find(&failure, &scenario, common.seed, TRIES))))
}

const COUNTED: &str = "Without faults, links of constant latency: the texts' counts, and what the machines did. n counts a dead\n\
     leader where there is one; turnaround is in message times, to the arrival of the last message.";
const COUNTS: [&str; 6] = ["", "messages", "measured", "bytes", "turnaround", "measured"];

fn count_row(count: &Count) -> [String; 6] {
    [
        format!("{}; {}", count.protocol.name(), count.case),
        format!("{} = {}", count.formula, count.expected),
        count.messages.to_string(),
        count.bytes.to_string(),
        format!("{} = {}", count.turnaround, count.expected_turnaround),
        count.took.to_string(),
    ]
}

const ENDINGS: [&str; 10] = [
    "",
    "messages",
    "bytes",
    "all know, ms",
    "nobody",
    "left out",
    "two",
    "two at once",
    "two in a term",
    "endless",
];
const LEGEND: &str = "Means over the runs; `all know`: until all live nodes knew the leader of the end. The others are numbers of\n\
     runs: that ended with nobody leading, with nodes that did not know the leader, with two that led; in which two led\n\
     at some time, or in one term; and that had messages on their way at the end. Raft's messages are counted until all\n\
     know; its leader's heartbeats never end. Ranks decide on the rings and for the bully alone.";
const FAILED: &str = "Expected failures, and the first seed that shows each. To read a run:\n    \
     testnet policies elections --scenario SCENARIO --protocol PROTOCOL --seed SEED --transcript";
const SEEDS: [&str; 4] = ["", "protocol", "scenario", "seed"];

fn row(summary: &Summary) -> [String; 10] {
    let ends = &summary.endings;
    let counts = [ends.nobody, ends.left_out, ends.two, summary.two_at_once];
    let [nobody, left_out, two, at_once] = counts.map(|count| count.to_string());
    let of = |applies: bool, count: u32| if applies { count.to_string() } else { "-".into() };
    let known = summary.runs > ends.nobody + ends.left_out + ends.two;
    [
        summary.protocol.name().into(),
        format!("{:.0}", summary.messages.mean),
        format!("{:.0}", summary.bytes.mean),
        if known { format!("{:.0}", summary.known_ms.mean) } else { "-".into() },
        nobody,
        left_out,
        two,
        at_once,
        of(summary.protocol.has_terms(), summary.two_in_term),
        of(!summary.protocol.has_heartbeats(), summary.endless),
    ]
}

fn failure_row(failure: &Failure, seed: Option<u64>) -> [String; 4] {
    let seed = seed.map_or_else(|| format!("none of {TRIES}"), |seed| seed.to_string());
    let protocol = serde_json::to_value(failure.protocol).unwrap_or_default();
    let protocol = protocol.as_str().unwrap_or_default().to_string();
    [failure.what.into(), protocol, failure.scenario.into(), seed]
}

fn transcript(protocol: Protocol, named: &Named, seed: u64) -> Result<Report> {
    if !protocol.takes(named.scenario.nodes) {
        return Err(Error::Unsupported(format!("{} has fewer nodes; set --nodes", protocol.name())));
    }
    let (outcome, lines) = protocol.transcript(&named.scenario, seed);
    let title = format!("{} in {}, seed {seed}", protocol.name(), named.name);
    let values = serde_json::json!({ "outcome": outcome, "transcript": lines });
    let broken = outcome.broken(protocol);
    let verdict = if broken.is_empty() { "kept every promise".into() } else { format!("broke {broken:?}") };
    let end = format!("ended with {:?} after {} messages; {verdict}", outcome.ending, outcome.messages);
    Ok(Report::new(title, &values).line(lines.join("\n")).line(end))
}
