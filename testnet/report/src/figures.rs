//! The figures of a run, part by part: what every form of a report shows, in the same order and words.

use crate::availability::Availability;
use crate::format::{available, byte_size, number, percent, seconds, thousands};
use crate::model::{Clock, Detection, Healing, Roots, Run, Source, Takeover, Traffic, Views};
use crate::stats::Summary;

/// A figure as it is shown and compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// How many.
    Count(u64),
    /// A plain number; the column names the unit.
    Number(f64),
    /// A part of one, shown as per cent.
    Share(f64),
    /// A part of one that is near one, shown as per cent with the digits that tell it from one.
    Available(f64),
    /// Bytes.
    Bytes(f64),
    /// Milliseconds, shown with a fitting unit.
    Ms(u64),
    /// It did not happen before the end.
    Never,
    /// Nothing was there to measure it by.
    Unknown,
}

impl Value {
    /// For people.
    pub fn show(&self) -> String {
        match self {
            Self::Count(count) => thousands(*count),
            Self::Number(value) => number(*value),
            Self::Share(share) => percent(*share),
            Self::Available(share) => available(*share),
            Self::Bytes(count) => byte_size(*count),
            Self::Ms(ms) => seconds(*ms),
            Self::Never => "not by the end".into(),
            Self::Unknown => "-".into(),
        }
    }

    /// For ratios.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Count(count) | Self::Ms(count) => Some(*count as f64),
            Self::Number(value) | Self::Share(value) | Self::Available(value) | Self::Bytes(value) => {
                Some(*value)
            }
            Self::Never | Self::Unknown => None,
        }
    }
}

/// Figures of one subject: a table.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What its figures mean.
    pub about: &'static str,
    /// Its rows; all have the same columns.
    pub rows: Vec<Row>,
}

/// A row of figures.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the figures are about; empty in a section with a single row.
    pub name: String,
    /// Column and figure.
    pub cells: Vec<(&'static str, Value)>,
}

impl Row {
    fn new(name: impl Into<String>, cells: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self { name: name.into(), cells: cells.into_iter().collect() }
    }
}

/// All figures of a run. Parts that the run did not measure are left out.
pub fn sections(run: &Run) -> Vec<Section> {
    let parts = [
        Section { title: "Convergence", about: CONVERGENCE, rows: convergence(run) },
        Section { title: "Writes", about: WRITES, rows: writes(run) },
        availability(&run.availability),
        Section { title: "Dissemination", about: DISSEMINATION, rows: dissemination(run) },
        Section { title: "Traffic", about: TRAFFIC, rows: traffic(run) },
        Section { title: "Views", about: VIEWS, rows: views(&run.views) },
        Section { title: "Failure detection", about: DETECTION, rows: detection(&run.detection) },
        Section { title: "Healing", about: HEALING, rows: run.healing.iter().map(healing).collect() },
        Section { title: "Takeover", about: TAKEOVER, rows: run.takeovers.iter().map(takeover).collect() },
        Section { title: "Roots", about: ROOTS, rows: run.roots.iter().map(roots).collect() },
        Section { title: "Clocks", about: CLOCKS, rows: clocks(&run.clocks) },
        Section { title: "Strong keyspace", about: STRONG, rows: strong(run) },
        Section { title: "Strong keyspace, counted", about: COUNTED, rows: counted(run) },
        Section { title: "Cost of the simulation", about: COST, rows: cost(run) },
    ];
    parts.into_iter().filter(|section| !section.rows.is_empty()).collect()
}

const CONVERGENCE: &str = "From a write's acknowledgement until that share of the nodes that were alive \
    throughout answer a local read with it. Quantiles over the writes.";
const WRITES: &str = "Missing: acknowledged, neither superseded nor deleted, and not on every live node at the \
    end. Lost: on no live node, although a node that held it lives. Resurrected: deleted, and readable again.";
const AVAILABILITY: &str = "A failure is an outage of one client: from the beginning of its first failed operation \
    to the end of its next successful one. MTBF = MTTF + MTTR; available = MTTF / MTBF, the share of the time of all clients \
    that was in no outage. 3 nines are 99.9 %.";
const DISSEMINATION: &str = "Residue: deliveries that no rumor made, left to anti-entropy. RMR: payload messages \
    per node beyond the one needed. Last hop: links that a rumor crossed to its last node.";
const TRAFFIC: &str = "Sent by all nodes in the measured time. Overhead: bytes on the wire per byte of keys and \
    values delivered.";
const VIEWS: &str = "The overlay of active views among live nodes at the end. In-degree: passive views that a \
    node is in.";
const DETECTION: &str = "Noticed: from the death or stop of a node until its last neighbour gave it up. False \
    positive: a live, running, reachable node given up.";
const HEALING: &str = "From the end of a fault until the live nodes were one component, and until they were \
    equal.";
const TAKEOVER: &str = "From the last answer of an application's instance that failed to the first one of another instance. Lease: \
    what has to expire before another instance may serve.";
const ROOTS: &str = "Equal roots are equal data. Of a network that clients write to they differ while writes are on their way.";
const CLOCKS: &str = "A node's wall clock less that of the machine that measured, and how far it may be from that; the largest \
    offsets. Round trip: the shortest to its API.";
const STRONG: &str = "From a client's first attempt to its answer, with every attempt between. Next write: from \
    the loss of the leader until a write was acknowledged that was sent later.";
const COUNTED: &str = "Failed attempts: most were tried again under the same name. Elections: terms that had a \
    leader. Stale tokens: writes under a lock that came too late, and were refused.";
const COST: &str = "On this machine, one thread.";

fn quantiles(s: Summary) -> [(&'static str, Value); 5] {
    [
        ("n", Value::Count(s.count as u64)),
        ("p50 ms", Value::Number(s.p50_ms)),
        ("p90 ms", Value::Number(s.p90_ms)),
        ("p99 ms", Value::Number(s.p99_ms)),
        ("max ms", Value::Number(s.max_ms)),
    ]
}

fn convergence(run: &Run) -> Vec<Row> {
    let rows = run.convergence.rows().into_iter().filter(|(_, summary)| summary.count > 0);
    rows.map(|(name, summary)| Row::new(name, quantiles(summary))).collect()
}

fn writes(run: &Run) -> Vec<Row> {
    let w = &run.writes;
    if matches!(run.source, Source::Attached { .. }) && w.sent == 0 {
        return Vec::new();
    }
    let cells = [
        ("sent", w.sent),
        ("acknowledged", w.acknowledged),
        ("failed", w.failed),
        ("missing", w.missing),
        ("lost", w.lost),
        ("resurrected", w.resurrected),
    ];
    vec![Row::new("", cells.map(|(name, count)| (name, Value::Count(count))))]
}

/// How available each kind of operation was.
pub fn availability(kinds: &[Availability]) -> Section {
    let seconds = |ms: Option<f64>| ms.map_or(Value::Unknown, |ms| Value::Number(ms / 1e3));
    let row = |it: &Availability| {
        let cells = [
            ("clients", Value::Count(it.clients)),
            ("n", Value::Count(it.operations)),
            ("failed", Value::Count(it.failed)),
            ("failures", Value::Count(it.failures)),
            ("available", Value::Available(it.share())),
            ("nines", it.nines().map_or(Value::Unknown, Value::Number)),
            ("MTTF s", seconds(it.mttf_ms())),
            ("MTTR s", seconds(it.mttr_ms())),
            ("MTBF s", seconds(it.mtbf_ms())),
            ("longest s", seconds((it.failures > 0).then_some(it.longest_ms))),
        ];
        Row::new(&it.operation, cells)
    };
    Section { title: "Availability", about: AVAILABILITY, rows: kinds.iter().map(row).collect() }
}

fn dissemination(run: &Run) -> Vec<Row> {
    let d = &run.dissemination;
    if d.rumors == 0 {
        return Vec::new();
    }
    let cells = [
        Some(("rumors", Value::Count(d.rumors))),
        d.residue.map(|residue| ("residue", Value::Share(residue))),
        Some(("RMR", Value::Number(d.rmr))),
    ];
    let hops = [
        ("hops, mean", Value::Number(d.hops_mean)),
        ("last hop, mean", Value::Number(d.last_hop_mean)),
        ("hops, max", Value::Count(d.hops_max)),
    ];
    // Processes do not tell over how many links a rumor came.
    let known = hops.into_iter().filter(|_| d.hops_max > 0);
    vec![Row::new("", cells.into_iter().flatten().chain(known))]
}

fn traffic(run: &Run) -> Vec<Row> {
    let Traffic { classes, overhead, .. } = &run.traffic;
    let (messages, total) = classes.iter().fold((0, 0), |(m, b), c| (m + c.messages, b + c.bytes));
    let row = |name: &str, messages: u64, sent: u64| {
        let share = sent as f64 / total.max(1) as f64;
        let cells = [
            ("messages", Value::Count(messages)),
            ("bytes", Value::Bytes(sent as f64)),
            ("share", Value::Share(share)),
            ("B/s per node", Value::Number(run.traffic.bytes_per_node_s * share)),
        ];
        // Without payload there is no overhead per byte of it.
        let overhead = (*overhead > 0.0).then(|| ("overhead", Value::Number(overhead * share)));
        Row::new(name, cells.into_iter().chain(overhead))
    };
    let mut rows: Vec<Row> = classes.iter().map(|c| row(&c.class, c.messages, c.bytes)).collect();
    if !rows.is_empty() {
        rows.push(row("all together", messages, total));
    }
    rows
}

fn views(views: &Views) -> Vec<Row> {
    if views.components == 0 {
        return Vec::new();
    }
    let in_degree =
        if views.in_degrees.is_empty() { Value::Unknown } else { Value::Number(mean(&views.in_degrees)) };
    let cells = [
        ("components", Value::Count(views.components as u64)),
        ("isolated", Value::Count(views.isolated as u64)),
        ("one-sided links", Value::Count(views.asymmetric as u64)),
        ("degree", Value::Number(mean(&views.degrees))),
        ("in-degree", in_degree),
        ("clustering", Value::Number(views.clustering)),
        ("path, mean", Value::Number(views.path_mean)),
        ("path, max", Value::Count(views.path_max as u64)),
    ];
    vec![Row::new("", cells)]
}

/// Mean of a histogram.
fn mean(histogram: &[usize]) -> f64 {
    let sum: usize = histogram.iter().enumerate().map(|(value, count)| value * count).sum();
    sum as f64 / histogram.iter().sum::<usize>().max(1) as f64
}

fn detection(detection: &Detection) -> Vec<Row> {
    let mut cells = Vec::new();
    if detection.noticed.count > 0 {
        cells.extend(quantiles(detection.noticed));
    }
    cells.push(("false positives", Value::Count(detection.false_positives)));
    cells.push(("per node and hour", Value::Number(detection.false_positives_per_node_hour)));
    vec![Row::new("", cells)]
}

fn healing(healing: &Healing) -> Row {
    let after = |ms: Option<u64>| ms.map_or(Value::Never, Value::Ms);
    let cells = [
        ("fault ended at", Value::Ms(healing.healed_at_ms)),
        ("one component after", after(healing.one_component_ms)),
        ("equal after", after(healing.equal_ms)),
    ];
    Row::new(&healing.what, cells)
}

fn takeover(takeover: &Takeover) -> Row {
    let lease = ("lease ms", takeover.ttl_ms.map_or(Value::Unknown, Value::Count));
    Row::new(&takeover.what, std::iter::once(lease).chain(quantiles(takeover.took)))
}

fn roots(roots: &Roots) -> Row {
    let cells = [
        ("asked", Value::Count(roots.samples)),
        ("equal", Value::Share(roots.equal as f64 / roots.samples.max(1) as f64)),
        ("equal after", roots.equal_after_ms.map_or(Value::Never, Value::Ms)),
        ("different at the end", Value::Count(roots.different)),
    ];
    Row::new("", cells)
}

/// Clocks shown, at most: JSON has them all.
const CLOCKS_MAX: usize = 20;

fn clocks(clocks: &[Clock]) -> Vec<Row> {
    let mut largest: Vec<&Clock> = clocks.iter().collect();
    largest.sort_by(|a, b| b.offset_ms.abs().total_cmp(&a.offset_ms.abs()));
    let row = |clock: &&Clock| {
        let cells = [
            ("offset ms", Value::Number(clock.offset_ms)),
            ("within ms", Value::Number(clock.error_ms)),
            ("round trip ms", Value::Number(clock.rtt_ms)),
        ];
        Row::new(&clock.node, cells)
    };
    largest.iter().take(CLOCKS_MAX).map(row).collect()
}

fn strong(run: &Run) -> Vec<Row> {
    let Some(strong) = &run.strong else { return Vec::new() };
    let rows = [
        ("write through a member", strong.write_member),
        ("write through another node", strong.write_outsider),
        ("read through a member", strong.read_member),
        ("read through another node", strong.read_outsider),
        ("next write after the leader was lost", strong.next_write),
    ];
    let measured = rows.into_iter().filter(|(_, summary)| summary.count > 0);
    measured.map(|(name, summary)| Row::new(name, quantiles(summary))).collect()
}

fn counted(run: &Run) -> Vec<Row> {
    let row = |strong: &crate::model::Strong| {
        let cells = [
            ("revisions", strong.revision),
            ("failed", strong.failures),
            ("elections", strong.elections),
            ("leaders lost", strong.leaders_lost),
            ("locks", strong.locks_held),
            ("stale tokens", strong.stale_refused),
            ("popped", strong.items_popped),
            ("told", strong.changes_told),
            ("violations", strong.violations.len() as u64),
        ];
        Row::new("", cells.map(|(name, count)| (name, Value::Count(count))))
    };
    run.strong.iter().map(row).collect()
}

fn cost(run: &Run) -> Vec<Row> {
    let row = |cost: &crate::model::Cost| {
        let cells = [
            ("wall s", Value::Number(cost.wall_s)),
            ("virtual s per wall s", Value::Number(cost.speed)),
            ("events", Value::Count(cost.events)),
            ("ns per event", Value::Number(cost.event_ns)),
            ("memory per node", Value::Bytes(cost.node_bytes)),
            ("longest step, ms", Value::Number(cost.longest_step_ms)),
        ];
        Row::new("", cells)
    };
    run.cost.iter().map(row).collect()
}
