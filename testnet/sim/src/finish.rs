//! The report of a finished run.

use std::time::Duration;

use starling_report::{Bar, Cost, Distribution, Limit, Run, SCHEMA, Source, Writes};

use crate::invariants::judge_strong;
use crate::measure::{Outcome, topology, views};
use crate::scenario::{ChurnModel, Figure, Latency, Scenario};
use crate::simulation::Simulation;

/// Fills in everything but the command, which whoever was given one knows.
pub(crate) fn run(simulation: Simulation, outcome: Outcome, took: Duration) -> Run {
    let Simulation { world, scenario, healings, timeline, strong, users, begin_us, .. } = simulation;
    let tracker = &world.recorder.writes;
    let (sent, acknowledged, failed) = tracker.counts();
    let node_seconds = world.recorder.node_seconds(world.now_us());
    let mut distributions = tracker.distributions();
    let noticed_ms = world.recorder.detections.noticed_ms();
    distributions.push(Distribution::of("time until a failure was noticed", "ms", noticed_ms));
    distributions.extend(strong.iter().flat_map(|strong| strong.distributions()));
    distributions.retain(|distribution| !distribution.points.is_empty());
    let mut run = Run {
        schema: SCHEMA,
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        source: Source::Simulated { seed: scenario.seed, trace: world.trace() },
        nodes: scenario.nodes,
        measured_ms: (scenario.measure_s * 1000.0) as u64,
        settings: settings(&scenario),
        writes: Writes {
            sent,
            acknowledged,
            failed,
            missing: outcome.missing,
            lost: outcome.lost,
            resurrected: outcome.resurrected,
        },
        convergence: tracker.convergence(),
        dissemination: tracker.dissemination(),
        traffic: world.recorder.traffic.report(tracker.payload_bytes(), node_seconds),
        views: views(&world),
        detection: world.recorder.detections.report(node_seconds),
        healing: healings.report(begin_us),
        series: timeline.report().into_iter().chain(strong.as_ref().map(|strong| strong.series())).collect(),
        distributions,
        topology: topology(&world, &scenario.regions),
        availability: users
            .iter()
            .flat_map(|users| users.availabilities().kinds())
            .chain(strong.iter().flat_map(|strong| strong.availability()))
            .collect(),
        strong: strong.map(|strong| {
            let broken = judge_strong(&strong);
            strong
                .report(broken.into_iter().map(|(invariant, what)| format!("{invariant}: {what}")).collect())
        }),
        cost: Some(Cost {
            longest_step_ms: world.longest_step.units() as f64 / 1e3,
            ..cost(world.events(), world.now_us(), world.nodes.len(), took)
        }),
        ..Run::default()
    };
    let all_ms = tracker.all_ms();
    run.bars = scenario.bar.iter().map(|bar| self::bar(bar.figure, bar.at_most, &run, &all_ms)).collect();
    run
}

/// What a run of `nodes` nodes cost that handled `events` in `now_us` of virtual time and `took` so long.
pub fn cost(events: u64, now_us: u64, nodes: usize, took: Duration) -> Cost {
    let wall_s = took.as_secs_f64().max(1e-9);
    Cost {
        wall_s,
        events,
        event_ns: wall_s * 1e9 / events.max(1) as f64,
        speed: now_us as f64 / 1e6 / wall_s,
        node_bytes: peak_bytes() / nodes as f64,
        longest_step_ms: 0.0,
    }
}

/// Resident memory of this process at its peak; 0 where the system does not say.
fn peak_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) * 1024.0
}

/// What a scenario sets, for the head of a report.
pub fn settings(scenario: &Scenario) -> Vec<(String, String)> {
    let links = &scenario.links;
    let latency = match &links.latency {
        Latency::ConstantMs(ms) => format!("{ms} ms"),
        Latency::UniformMs([low, high]) => format!("{low} to {high} ms"),
        Latency::Lognormal { median_ms, sigma } => {
            format!("log-normal, median {median_ms} ms, sigma {sigma}")
        }
        Latency::Matrix { file } => {
            format!("measured: {}", file.file_name().unwrap_or_default().to_string_lossy())
        }
        Latency::Geography(map) => format!("regions on {} km", map.side_km),
    };
    let percent = |share: f64| format!("{} %", share * 100.0);
    let churn = match &scenario.churn.model {
        ChurnModel::None => None,
        ChurnModel::Poisson { per_s, away_s } => Some(format!("Poisson, {per_s}/s, away {away_s} s")),
        ChurnModel::Weibull { shape, scale_s, .. } => {
            Some(format!("Weibull, shape {shape}, scale {scale_s} s"))
        }
        ChurnModel::Correlated { every_s, .. } => Some(format!("a region every {every_s} s")),
        ChurnModel::Trace { file } => {
            Some(format!("trace {}", file.file_name().unwrap_or_default().to_string_lossy()))
        }
    };
    let optional = |name: &str, value: f64, text: String| (value > 0.0).then(|| (name.to_string(), text));
    [
        Some(("bootstrap seeds".into(), scenario.seeds.to_string())),
        Some(("warm-up".into(), format!("{} s", scenario.warmup_s))),
        Some(("link delay".into(), latency)),
        optional("jitter", links.jitter_ms, format!("up to {} ms", links.jitter_ms)),
        optional("packets lost", links.loss, percent(links.loss)),
        optional("messages gone", links.drop, percent(links.drop)),
        optional("messages doubled", links.duplicate, percent(links.duplicate)),
        optional("messages overtaken", links.reorder, percent(links.reorder)),
        optional("bandwidth", links.bandwidth_bytes_s, format!("{} B/s", links.bandwidth_bytes_s)),
        Some(("writes".into(), format!("{}/s", scenario.workload.writes_s))),
        Some(("keys".into(), scenario.workload.keys.to_string())),
        Some(("value".into(), format!("{} bytes", scenario.workload.value_bytes))),
        scenario.strong.as_ref().map(|strong| {
            ("strong keyspace".into(), format!("{} voters, {} clients", strong.voters, strong.clients))
        }),
        churn.map(|churn| ("churn".into(), churn)),
        optional("stable nodes", scenario.churn.stable, percent(scenario.churn.stable)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A figure of a run with its target. `all_ms` are the times until each write was on every node.
pub fn bar(figure: Figure, at_most: f64, run: &Run, all_ms: &[f64]) -> Bar {
    let mut sorted = all_ms.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let quantile = |share: f64| {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
    };
    let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
    let slowest = |of: fn(&starling_report::Healing) -> Option<u64>| {
        let times = run.healing.iter().map(|healing| of(healing).map_or(f64::INFINITY, |ms| ms as f64 / 1e3));
        times.fold(0.0, f64::max)
    };
    let strong = |of: fn(&starling_report::Strong) -> f64| run.strong.as_ref().map_or(f64::INFINITY, of);
    let (name, measured, unit) = match figure {
        Figure::Rmr => ("redundancy (RMR)", run.dissemination.rmr, ""),
        Figure::LastHop => ("hops to the last node, mean", run.dissemination.last_hop_mean, ""),
        Figure::AllMeanMs => ("readable on every node, mean", mean, "ms"),
        Figure::AllP99Ms => ("readable on every node, 99 % of the writes", quantile(0.99), "ms"),
        Figure::AllP999Ms => ("readable on every node, 99.9 % of the writes", quantile(0.999), "ms"),
        Figure::Missing => ("writes missing from a live node", run.writes.missing as f64, ""),
        Figure::Lost => ("writes lost", run.writes.lost as f64, ""),
        Figure::Resurrected => ("deletes undone", run.writes.resurrected as f64, ""),
        Figure::OneComponentS => ("slowest healing to one component", slowest(|h| h.one_component_ms), "s"),
        Figure::NextWriteMedianMs => {
            ("next write after the leader was lost, median", strong(|it| it.next_write.p50_ms), "ms")
        }
        Figure::NextWriteMaxMs => {
            ("next write after the leader was lost, longest", strong(|it| it.next_write.max_ms), "ms")
        }
        Figure::StrongViolations => {
            ("violations of the strong keyspace", strong(|it| it.violations.len() as f64), "")
        }
        Figure::EqualS => ("slowest healing to equality", slowest(|h| h.equal_ms), "s"),
    };
    Bar::new(name, measured, unit, Limit::AtMost(at_most))
}
