//! The report of a network that was only looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use starling_api::admin::Nodes;
use starling_report::{
    Clock, Convergence, Distribution, Healing, Roots, Run, SCHEMA, Source, Spread, Summary, millis,
};

use super::clock::Estimate;
use super::fleet::Fleet;
use super::{Measured, Options, REPLICA, place};
use crate::views::{Place, Snapshot};

/// Nodes that are named in a sentence, at most.
const NAMED_MAX: usize = 8;

/// What the report is made from.
pub struct Results<'r> {
    /// The command line.
    pub options: &'r Options,
    /// The nodes that were asked.
    pub fleet: &'r Fleet,
    /// Addresses that did not answer.
    pub silent: &'r [(String, String)],
    /// The network at the beginning.
    pub begin: &'r Nodes,
    /// What was measured.
    pub measured: Measured,
}

impl Results<'_> {
    /// Everything but the command.
    pub fn report(self) -> Run {
        let limits = self.limits();
        let Self { options, fleet, begin, measured, .. } = self;
        let Measured { mut samples, roots, since, end, equal_ms, judgement, crawl, peers } = measured;
        let learned = fleet.learned();
        let spreads = if options.write { learned.history.spreads(since, end) } else { Vec::new() };
        let both = begin.nodes.iter().chain(&crawl.nodes).filter(|node| node.role == REPLICA);
        let nodes = both.map(|node| node.id.as_str()).collect::<BTreeSet<_>>().len();
        let overlay = Snapshot::of(places(fleet, &crawl, &peers));
        let mut views = overlay.views();
        let mut dissemination = samples.dissemination();
        if fleet.nodes.len() < nodes {
            // Of a node whose API is not reached neither the passive view nor the counters are known.
            views.in_degrees.clear();
            dissemination.residue = None;
        }
        samples.note("components", views.components as f64);
        // Where others write too, their payload is not known.
        let is_alone = dissemination.rumors <= judgement.writes.sent;
        let deliveries = judgement.writes.acknowledged * (fleet.nodes.len() as u64).saturating_sub(1);
        let payload_bytes = if is_alone { deliveries * u64::from(options.value_bytes) } else { 0 };
        let final_roots: BTreeSet<_> = crawl
            .nodes
            .iter()
            .filter(|node| node.role == REPLICA)
            .filter_map(|node| node.root.as_deref())
            .collect();
        let notices = &learned.notices;
        let ms = |sample: &[Duration]| sample.iter().copied().map(millis).collect();
        let failures = Distribution::of("time until a failure was noticed", "ms", ms(notices));
        let distributions = distributions(&spreads).into_iter().chain([failures]);
        Run {
            schema: SCHEMA,
            scenario: format!("attached to network {}", short_network(fleet)),
            about: "A running network, through its nodes' APIs; nothing was started or broken.".into(),
            source: Source::Attached { asked: fleet.nodes.len() },
            nodes,
            measured_ms: end.saturating_sub(since).as_millis() as u64,
            settings: options.settings(),
            writes: judgement.writes,
            convergence: Convergence::of(&spreads),
            dissemination,
            traffic: samples.traffic(payload_bytes),
            views,
            detection: starling_report::Detection {
                noticed: Summary::of(notices),
                ..samples.detection(notices)
            },
            healing: Vec::<Healing>::new(),
            series: samples.series(),
            distributions: distributions.filter(|distribution| !distribution.points.is_empty()).collect(),
            topology: overlay.topology(),
            availability: learned.availabilities.report(),
            clocks: clocks(fleet, &learned.clocks),
            roots: Some(Roots {
                samples: roots.samples,
                equal: roots.equal,
                different: final_roots.len() as u64,
                equal_after_ms: equal_ms,
            }),
            limits,
            ..Run::default()
        }
    }

    /// What was not measured and why, a sentence each.
    fn limits(&self) -> Vec<String> {
        let Self { options, fleet, silent, begin, measured } = self;
        let mut limits = Vec::new();
        let asked = |id: &str| fleet.nodes.iter().any(|node| node.status.id == id);
        let crawl = &measured.crawl;
        let others: Vec<&str> = crawl
            .nodes
            .iter()
            .filter(|node| node.role == REPLICA && !asked(&node.id))
            .map(|node| node.name.as_str())
            .collect();
        if !others.is_empty() {
            limits.push(format!(
                "the APIs of {} were not named or did not answer: of these nodes only the active views, roots and numbers of \
                 entries are known, from a crawl; counters, passive views, clocks and when they show a write are not",
                named(&others)
            ));
        }
        if !silent.is_empty() {
            let silent: Vec<&str> = silent.iter().map(|(address, _)| address.as_str()).collect();
            limits.push(format!("no answer from {}", named(&silent)));
        }
        let unreachable: Vec<&str> =
            crawl.unreachable.iter().filter(|node| !node.left).map(|node| node.name.as_str()).collect();
        if !unreachable.is_empty() {
            limits.push(format!(
                "{}, which other nodes remember, did not answer the crawl",
                named(&unreachable)
            ));
        }
        let known = |id: &str| begin.nodes.iter().any(|node| node.id == id);
        let joined = crawl.nodes.iter().filter(|node| !known(&node.id)).count();
        if joined > 0 {
            limits.push(format!("{joined} nodes joined meanwhile"));
        }
        let learned = fleet.learned();
        if !learned.gone.is_empty() {
            let mut gone: Vec<&str> =
                learned.gone.iter().map(|node| fleet.nodes[*node].status.name.as_str()).collect();
            gone.dedup();
            limits.push(format!("{} ended or could not be reached meanwhile", named(&gone)));
        }
        if !options.write {
            limits
                .push("convergence: nothing was written; --write measures it with probes of its own".into());
        } else if fleet.nodes.len() < 2 {
            limits.push("convergence: it needs the APIs of two nodes or more".into());
        } else {
            let longest = learned.clocks.values().map(Estimate::rtt_ms).fold(0.0, f64::max);
            limits.push(format!(
                "times are as if read at each node: half of the round trip is subtracted, which is right to within {longest:.1} \
                 ms, the longest round trip from this machine"
            ));
        }
        limits.extend(measured.judgement.findings.iter().cloned());
        limits
    }
}

impl Options {
    fn settings(&self) -> Vec<(String, String)> {
        if !self.write {
            return Vec::new();
        }
        vec![
            ("probes".into(), format!("{}/s", self.writes_s)),
            ("value".into(), format!("{} bytes", self.value_bytes)),
        ]
    }
}

fn short_network(fleet: &Fleet) -> String {
    let network = fleet.nodes.first().map_or("", |node| node.status.network.as_str());
    crate::states::short(network).to_owned()
}

/// Some names, and how many more there are.
fn named(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The replicas of a crawl, with the whole views of those that were asked.
fn places(fleet: &Fleet, crawl: &Nodes, peers: &[Option<starling_api::admin::Peers>]) -> Vec<Place> {
    let asked = |id: &str| {
        let node = fleet.nodes.iter().position(|node| node.status.id == id)?;
        peers.get(node)?.as_ref()
    };
    let replicas = crawl.nodes.iter().filter(|node| node.role == REPLICA).map(|node| {
        let place = Place {
            id: node.id.clone(),
            name: node.name.clone(),
            region: place(&node.labels),
            is_live: true,
            active: node.active.clone(),
            ..Place::default()
        };
        match asked(&node.id) {
            Some(peers) => place.with(peers),
            None => place,
        }
    });
    let unreachable = crawl.unreachable.iter().filter(|node| !node.left).map(|node| Place {
        id: node.id.clone(),
        name: node.name.clone(),
        ..Place::default()
    });
    replicas.chain(unreachable).collect()
}

fn clocks(fleet: &Fleet, known: &BTreeMap<usize, Estimate>) -> Vec<Clock> {
    let clock = |(node, estimate): (&usize, &Estimate)| Clock {
        node: fleet.nodes[*node].status.name.clone(),
        offset_ms: estimate.offset_ms(),
        error_ms: estimate.error_ms(),
        rtt_ms: estimate.rtt_ms(),
    };
    known.iter().map(clock).collect()
}

fn distributions(spreads: &[Spread]) -> Vec<Distribution> {
    Convergence::distributions(
        [50, 90, 99, 100]
            .map(|percent| spreads.iter().filter_map(|spread| spread.reached(percent, false)).collect()),
    )
}
