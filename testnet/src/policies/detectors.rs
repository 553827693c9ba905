//! Failure detectors beside each other.

use std::path::PathBuf;

use starling_report::{Curve, Curves, Report};
use starling_sim::Threads;
use starling_sim::policies::detectors::{DOWN_US, Detector, Fault, LATE_US, Plan, STALL_EVERY_US, STALL_US};
use starling_sim::policies::detectors::{Summary, measure};

use super::Links;
use crate::Common;
use crate::error::{Error, Result};

/// Nodes unless the person said otherwise: all pairs are simulated, in seconds.
const NODES_DEFAULT: usize = 50;
/// Sizes above which a run takes seconds.
const LARGE: u32 = 1000;
/// Runs of such a size.
const RUNS_LARGE: u32 = 2;
/// Before the fault, detectors learn what is usual.
const WARMUP_MS: u64 = 30_000;
const MEASURE_MS: u64 = 60_000;

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    links: Links,
    /// Runs of each detector with each fault, with seeds from --seed on
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// One fault instead of all
    #[arg(long, value_enum)]
    fault: Option<Which>,
    /// Sizes at which a crash is measured, if no fault is named
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000", value_name = "NODES,...", value_parser = sizes())]
    sizes: Vec<u32>,
    /// Write one page with the tables and with curves over the sizes that opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn sizes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(8..=10_000)
}

/// A fault, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// No fault: what detectors do to healthy nodes
    None,
    /// It stops, and nobody is notified
    Crash,
    /// It stops, and its host notifies the nodes that it has links with
    FailStop,
    /// It is down for 20 s
    Recovery,
    /// Four of five messages that it sends are lost
    SendOmission,
    /// Four of five messages to it are lost
    ReceiveOmission,
    /// Every message that it sends is up to 4 s late
    Timing,
    /// Nothing passes between it and half of the others
    Split,
    /// It stands still for 4 s out of 10
    Slow,
}

impl Which {
    fn fault(self) -> Fault {
        match self {
            Self::None => Fault::None,
            Self::Crash => Fault::Crash,
            Self::FailStop => Fault::FailStop,
            Self::Recovery => Fault::Recovery,
            Self::SendOmission => Fault::SendOmission,
            Self::ReceiveOmission => Fault::ReceiveOmission,
            Self::Timing => Fault::Timing,
            Self::Split => Fault::Split,
            Self::Slow => Fault::Slow,
        }
    }
}

/// What happens to the faulty node.
fn about(fault: Fault) -> String {
    let s = |us: u64| us / 1_000_000;
    match fault {
        Fault::None => "none: all nodes are well".into(),
        Fault::Crash => "crash: it stops, and nobody is notified".into(),
        Fault::FailStop => {
            "fail-stop: it stops, and its host notifies the nodes that it has links with".into()
        }
        Fault::Recovery => {
            format!("recovery: it is down for {} s, and continues with what it knew", s(DOWN_US))
        }
        Fault::SendOmission => "send-omission: four of five messages that it sends are lost".into(),
        Fault::ReceiveOmission => "receive-omission: four of five messages to it are lost".into(),
        Fault::Timing => format!("timing: every message that it sends is up to {} s late", s(LATE_US)),
        Fault::Split => "split: nothing passes between it and half of the others".into(),
        Fault::Slow => format!("slow: it stands still for {} s out of {}", s(STALL_US), s(STALL_EVERY_US)),
    }
}

impl Options {
    /// Measures all detectors.
    pub fn run(&self, common: &Common, threads: &Threads) -> Result<Report> {
        let links = self.links.checked()?;
        let nodes = common.nodes.map_or(NODES_DEFAULT, |nodes| nodes as usize);
        if !(8..=10_000).contains(&nodes) {
            return Err(Error::Unsupported("the detectors need --nodes from 8 to 10,000".into()));
        }
        let plan = |nodes, fault| Plan { nodes, links, fault, warmup_ms: WARMUP_MS, measure_ms: MEASURE_MS };
        let one = self.fault.map(Which::fault);
        let faults = Fault::ALL.into_iter().filter(|fault| one.is_none_or(|one| one == *fault));
        let faults: Vec<Fault> = faults.collect();
        let sizes: &[u32] = if one.is_none() { &self.sizes } else { &[] };
        let of_faults = faults.iter().map(|fault| (plan(nodes, *fault), self.runs));
        let of_sizes = sizes.iter().map(|size| {
            let runs = if *size < LARGE { self.runs } else { self.runs.min(RUNS_LARGE) };
            (plan(*size as usize, Fault::Crash), runs)
        });
        let all = |(plan, runs)| Detector::ALL.map(|detector| (detector, plan, runs));
        let cases: Vec<(Detector, Plan, u32)> = of_faults.chain(of_sizes).flat_map(all).collect();
        let measured = measure(threads, &cases, common.seed);
        let mut measured = measured.chunks(Detector::ALL.len()).map(<[Summary]>::to_vec);
        let by_fault: Vec<(Fault, Vec<Summary>)> = faults.into_iter().zip(measured.by_ref()).collect();
        let by_size: Vec<(u32, Vec<Summary>)> = sizes.iter().copied().zip(measured).collect();
        let values =
            serde_json::json!({ "nodes": nodes, "links": links, "faults": by_fault, "sizes": by_size });
        let title = format!("Failure detectors: {nodes} nodes, one with a fault, loss {}", links.loss);
        let mut report = Report::new(title, &values);
        for (fault, summaries) in &by_fault {
            report =
                report.line(about(*fault)).table(FAULTS, summaries.iter().map(|it| fault_row(it, nodes)));
        }
        report = report.line(LEGEND);
        for (size, summaries) in &by_size {
            let runs = summaries.first().map_or(0, |summary| summary.runs);
            let line = format!("a crash among {size} nodes, {runs} runs");
            let rows = summaries.iter().map(|it| size_row(it, *size as usize));
            report = report.line(line).table(SIZES, rows);
        }
        for curves in all_curves(&by_size) {
            report = report.curves(curves);
        }
        if let Some(path) = &self.html {
            std::fs::write(path, report.html()).map_err(Error::io(path))?;
            eprintln!("the page is {}", path.display());
        }
        Ok(report)
    }
}

/// A figure of a detector at one size.
type Figure = fn(&Summary) -> f64;

/// What is drawn over the number of nodes: title, unit and figure.
const CURVES: [(&str, &str, Figure); 5] = [
    ("a crash is noticed first after", "ms", |it| it.first_ms.mean),
    ("and by all that can after", "ms", |it| if it.complete > 0 { it.all_ms.mean } else { f64::NAN }),
    ("messages that a node sends", "1/s", |it| it.messages_s),
    ("bytes that a node sends", "B/s", |it| it.bytes_s),
    ("messages of the busiest node", "1/s", |it| it.busiest_s),
];

fn all_curves(by_size: &[(u32, Vec<Summary>)]) -> Vec<Curves> {
    if by_size.len() < 2 {
        return Vec::new();
    }
    let line = |index: usize, figure: Figure| {
        let points = by_size.iter().map(|(size, all)| (f64::from(*size), figure(&all[index])));
        let name = Detector::ALL[index].name().to_string();
        Curve { name, points: points.filter(|(_, y)| y.is_finite()).collect() }
    };
    let curves = |(title, unit, figure): (&str, &str, Figure)| Curves {
        title: title.into(),
        x_unit: "nodes".into(),
        y_unit: unit.into(),
        lines: (0..Detector::ALL.len()).map(|index| line(index, figure)).collect(),
    };
    CURVES.into_iter().map(curves).collect()
}

const FAULTS: [&str; 7] = ["", "noticed", "first, ms", "all, ms", "share", "false", "by the faulty"];
const SIZES: [&str; 7] = ["", "first, ms", "all, ms", "false", "messages/s", "bytes/s", "busiest"];
const LEGEND: &str = "noticed: runs in which another node considered the faulty one faulty; first: until then; all: until all did that\n\
     can (all nodes; of heartbeats to all those that watch; of Starling's own its neighbours), over the runs in which\n\
     they did; share: of those that can, how many did. false: times that a healthy node was considered faulty by healthy\n\
     ones, per node and hour (>=: a sample of the nodes watches). by the faulty: its own verdicts about healthy nodes, per\n\
     run. messages and bytes: sent by a node, without headers; busiest: messages that the busiest node sends and receives\n\
     per second.";

fn mean(runs: u32, value: f64) -> String {
    if runs == 0 { "-".into() } else { format!("{value:.0}") }
}

fn mistakes(summary: &Summary, nodes: usize) -> String {
    let bound = if summary.detector.watching(nodes) < nodes { ">= " } else { "" };
    format!("{bound}{:.2}", summary.false_per_node_hour)
}

fn fault_row(summary: &Summary, nodes: usize) -> [String; 7] {
    [
        summary.detector.name().into(),
        format!("{} of {}", summary.noticed, summary.runs),
        mean(summary.noticed, summary.first_ms.mean),
        mean(summary.complete, summary.all_ms.mean),
        format!("{:.2}", summary.share.mean),
        mistakes(summary, nodes),
        format!("{:.1}", summary.by_the_faulty.mean),
    ]
}

fn size_row(summary: &Summary, nodes: usize) -> [String; 7] {
    [
        summary.detector.name().into(),
        mean(summary.noticed, summary.first_ms.mean),
        mean(summary.complete, summary.all_ms.mean),
        mistakes(summary, nodes),
        format!("{:.1}", summary.messages_s),
        format!("{:.1}", summary.bytes_s),
        format!("{:.0}", summary.busiest_s),
    ]
}
