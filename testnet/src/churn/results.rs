//! The report of a run on processes.

use std::collections::BTreeMap;
use std::time::Duration;

use starling_report::{
    Convergence, Distribution, Healing, Run, SCHEMA, Series, Source, Spread, Writes, millis,
};
use starling_sim::scenario::Scenario;

use crate::history::{History, Operation, WriteId};
use crate::samples::Samples;
use crate::views::Snapshot;

/// Bytes of a key that are payload: what stands before its number.
const KEY_PREFIX_BYTES: u64 = 1;

/// A node has just started for so long. A guess, long enough to join and to catch up.
const FRESH: Duration = Duration::from_secs(2);

/// What the report is made from.
#[derive(Debug)]
pub struct Results<'r> {
    /// What was run.
    pub scenario: &'r Scenario,
    /// What happened.
    pub history: &'r History,
    /// When the measured time began, and when it ended.
    pub since: Duration,
    /// See there.
    pub end: Duration,
}

impl Results<'_> {
    /// Everything but the command, which whoever was given one knows.
    pub fn report(
        &self,
        writes: Writes,
        samples: Samples,
        overlay: &Snapshot,
        healings: Vec<Healing>,
        notices: &[Duration],
    ) -> Run {
        let spreads = self.history.spreads(self.since, self.end);
        let all_ms: Vec<f64> = spreads.iter().filter_map(|s| s.reached(100, false)).map(millis).collect();
        let mut run = Run {
            schema: SCHEMA,
            scenario: self.scenario.name.clone(),
            about: self.scenario.about.clone(),
            source: Source::Processes,
            nodes: self.scenario.nodes,
            measured_ms: self.end.saturating_sub(self.since).as_millis() as u64,
            settings: starling_sim::settings(self.scenario),
            writes,
            convergence: Convergence::of(&spreads),
            dissemination: samples.dissemination(),
            traffic: samples.traffic(self.payload_bytes()),
            views: overlay.views(),
            detection: samples.detection(notices),
            healing: healings.into_iter().map(|healing| self.completed(healing)).collect(),
            distributions: self.distributions(&spreads, notices),
            topology: overlay.topology(),
            series: samples.series().into_iter().chain([self.write_rate()]).collect(),
            ..Run::default()
        };
        let bars = self.scenario.bar.iter();
        run.bars = bars.map(|bar| starling_sim::bar(bar.figure, bar.at_most, &run, &all_ms)).collect();
        run
    }

    /// Bytes of keys and values that had to be delivered to other nodes.
    fn payload_bytes(&self) -> u64 {
        let bytes = |id: WriteId| {
            let write = &self.history.writes[id];
            let value_bytes = match write.operation {
                Operation::Put | Operation::PutExpiring => self.scenario.workload.value_bytes as u64,
                Operation::SetAdd | Operation::SetRemove(_) => KEY_PREFIX_BYTES + digits(id as u64),
                Operation::Increment => size_of::<i64>() as u64,
                Operation::Delete => 0,
            };
            let others = self.history.running(write.sent).saturating_sub(1) as u64;
            (KEY_PREFIX_BYTES + digits(write.key) + value_bytes) * others
        };
        self.history.measured(self.since, self.end).map(bytes).sum()
    }

    /// Adds to a healing when every write acknowledged before it was on every node that ran on.
    fn completed(&self, healing: Healing) -> Healing {
        if healing.equal_ms.is_some() {
            return healing;
        }
        let healed = self.since + Duration::from_millis(healing.healed_at_ms);
        let later = self.history.later_at_the_same_key();
        let before = self.history.writes.iter().enumerate().filter(|(_, write)| {
            write.operation == Operation::Put && write.acknowledged().is_some_and(|at| at < healed)
        });
        let mut last = Duration::ZERO;
        for (id, write) in before {
            let newer = later.get(&write.key).map_or(&[][..], Vec::as_slice);
            let newer = &newer[newer.partition_point(|other| *other <= id)..];
            let Some(times) = self.history.spread(id, newer, healed.min(write.sent), self.history.now())
            else {
                return healing;
            };
            last = times.into_iter().map(|took| write.sent + took).fold(last, Duration::max);
        }
        Healing { equal_ms: Some(last.saturating_sub(healed).as_millis() as u64), ..healing }
    }

    fn distributions(&self, spreads: &[Spread], notices: &[Duration]) -> Vec<Distribution> {
        let reached = |percent| spreads.iter().filter_map(|spread| spread.reached(percent, false)).collect();
        let times = Convergence::distributions([50, 90, 99, 100].map(reached)).into_iter();
        let ms = |sample: &[Duration]| sample.iter().copied().map(millis).collect();
        let failures = Distribution::of("time until a failure was noticed", "ms", ms(notices));
        let fresh = Distribution::of("time to a node that has just started", "ms", ms(&self.fresh()));
        times.chain([failures, fresh]).filter(|d| !d.points.is_empty()).collect()
    }

    /// How long after its acknowledgement a put was readable on nodes that had started shortly before it
    /// was sent, if they ran until then.
    fn fresh(&self) -> Vec<Duration> {
        let spans = self.history.spans.iter().flat_map(|(node, spans)| spans.iter().map(|s| (*node, *s)));
        let started: Vec<_> = spans.filter(|(_, span)| span.from > self.since).collect();
        let mut times = Vec::new();
        for write in self.history.measured(self.since, self.end).map(|id| &self.history.writes[id]) {
            let is_fresh = |from: Duration| from <= write.sent && write.sent < from + FRESH;
            for (node, span) in started.iter().filter(|(_, span)| is_fresh(span.from)) {
                let shown = write.first_shown(*node).filter(|at| span.to.is_none_or(|to| *at < to));
                let late = shown.zip(write.acknowledged());
                times.extend(late.map(|(shown, acknowledged)| shown.saturating_sub(acknowledged)));
            }
        }
        times
    }

    /// Acknowledged writes a second.
    fn write_rate(&self) -> Series {
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for id in self.history.measured(self.since, self.end) {
            *counts.entry(self.history.writes[id].sent.saturating_sub(self.since).as_secs()).or_default() +=
                1;
        }
        let points = counts.into_iter().map(|(second, count)| (second as f64, f64::from(count))).collect();
        Series { name: "acknowledged writes".into(), unit: "1/s".into(), points }
    }
}

fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}
