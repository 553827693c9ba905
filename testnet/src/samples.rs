//! What the nodes' own counters say over the measured time, sampled about once a second.

use std::collections::BTreeMap;
use std::time::Duration;

use starling_api::admin::Status;
use starling_report::{ClassTraffic, Detection, Dissemination, Series, Summary, Traffic};
use tokio::time::Instant;

/// Time between two samples: what a process counted after its last one is lost when it is killed.
pub const PERIOD: Duration = Duration::from_secs(1);
/// A node that does not answer within this time is left out of a sample.
pub const ANSWER_DEADLINE: Duration = Duration::from_millis(900);
/// The overlay is looked at in every sample whose number this divides.
pub const OVERLAY_EVERY: usize = 5;
/// After a node stood still or a path was cut, a neighbour may rightly be given up for so long.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Counters of one process, or sums of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Frames and bytes sent: control, rumor, sync.
    classes: [(u64, u64); 3],
    payload_new: u64,
    payload_old: u64,
    commits: u64,
    suspicions: u64,
}

/// Names of the classes, in the order of [`Counts`].
const CLASSES: [&str; 3] = ["control", "rumor", "sync"];

/// The counters of one node at one instant.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Its number.
    pub node: usize,
    /// Number of its process: counters begin anew with each.
    pub start: u64,
    /// The counters of that process.
    pub counts: Counts,
}

impl Counts {
    /// The counters in a node's status.
    pub fn of(status: &Status) -> Self {
        let count = |name: &str| status.counters.get(name).copied().unwrap_or_default();
        let flows = [status.traffic.control, status.traffic.rumor, status.traffic.sync];
        Self {
            classes: flows.map(|flow| (flow.frames_out, flow.bytes_out)),
            payload_new: status.payload_new,
            payload_old: status.payload_old,
            commits: count("group_commits"),
            suspicions: count("suspicions"),
        }
    }

    fn plus(self, other: Self, sign: fn(u64, u64) -> u64) -> Self {
        let class = |i: usize| {
            let ((frames, bytes), (more_frames, more_bytes)) = (self.classes[i], other.classes[i]);
            (sign(frames, more_frames), sign(bytes, more_bytes))
        };
        Self {
            classes: [class(0), class(1), class(2)],
            payload_new: sign(self.payload_new, other.payload_new),
            payload_old: sign(self.payload_old, other.payload_old),
            commits: sign(self.commits, other.commits),
            suspicions: sign(self.suspicions, other.suspicions),
        }
    }

    fn bytes(&self) -> u64 {
        self.classes.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Samples of the measured time.
#[derive(Debug)]
pub struct Samples {
    began: Instant,
    /// The last counters of each node, with the number of the process.
    last: BTreeMap<usize, (u64, Counts)>,
    sum: Counts,
    /// Deliveries of rumors that were due, and seconds of running nodes.
    deliveries: f64,
    node_seconds: f64,
    false_positives: u64,
    hindered: Instant,
    sampled: Instant,
    series: BTreeMap<&'static str, Vec<(f64, f64)>>,
}

impl Samples {
    /// The measured time begins: what was counted before does not count.
    pub fn begin(first: Vec<Answer>) -> Self {
        let now = Instant::now();
        let mut samples = Self {
            began: now,
            last: BTreeMap::new(),
            sum: Counts::default(),
            deliveries: 0.0,
            node_seconds: 0.0,
            false_positives: 0,
            hindered: now,
            sampled: now,
            series: BTreeMap::new(),
        };
        for answer in first {
            samples.meet(answer);
        }
        samples
    }

    /// What this process counted before does not count.
    pub fn meet(&mut self, Answer { node, start, counts }: Answer) {
        self.last.insert(node, (start, counts));
    }

    /// Adds one sample, taken while `live` nodes ran. `is_hindered`: nodes that run may be out of each other's
    /// reach, so suspicions may be right.
    pub fn add(&mut self, answers: Vec<Answer>, live: usize, is_hindered: bool) {
        let mut new = Counts::default();
        for Answer { node, start, counts } in answers {
            let before = self.last.insert(node, (start, counts)).filter(|(before, _)| *before == start);
            let before = before.map(|(_, counts)| counts).unwrap_or_default();
            new = new.plus(counts.plus(before, u64::saturating_sub), u64::saturating_add);
        }
        let now = Instant::now();
        let seconds = (now - self.sampled).as_secs_f64();
        self.sampled = now;
        if is_hindered {
            self.hindered = now + AFTERMATH;
        }
        if now > self.hindered {
            self.false_positives += new.suspicions;
        }
        let live = live as f64;
        self.sum = self.sum.plus(new, u64::saturating_add);
        self.deliveries += new.commits as f64 * (live - 1.0).max(0.0);
        self.node_seconds += live * seconds;
        self.note("live nodes", live);
        for (class, (_, bytes)) in CLASS_SERIES.iter().zip(new.classes) {
            self.note(class, bytes as f64 / (live * seconds).max(1e-3));
        }
    }

    /// Notes a point of a series, now.
    pub fn note(&mut self, name: &'static str, value: f64) {
        let at = self.began.elapsed().as_secs_f64();
        self.series.entry(name).or_default().push((at, value));
    }

    /// The report's part on traffic. `payload_bytes` were delivered.
    pub fn traffic(&self, payload_bytes: u64) -> Traffic {
        let class = |(class, (messages, bytes)): (&&str, (u64, u64))| ClassTraffic {
            class: (*class).to_string(),
            messages,
            bytes,
        };
        Traffic {
            classes: CLASSES.iter().zip(self.sum.classes).map(class).collect(),
            overhead: ratio(self.sum.bytes() as f64, payload_bytes as f64),
            bytes_per_node_s: ratio(self.sum.bytes() as f64, self.node_seconds),
        }
    }

    /// The report's part on rumors, as far as nodes count it: not how many links one went over.
    pub fn dissemination(&self) -> Dissemination {
        Dissemination {
            rumors: self.sum.commits,
            residue: Some((1.0 - ratio(self.sum.payload_new as f64, self.deliveries)).max(0.0)),
            rmr: ratio(self.sum.payload_old as f64, self.sum.payload_new as f64),
            ..Dissemination::default()
        }
    }

    /// The report's part on failures. Neighbours given up count as wrongly given up while no node stood
    /// still and no path was cut.
    pub fn detection(&self, noticed: &[Duration]) -> Detection {
        Detection {
            noticed: Summary::of(noticed),
            false_positives: self.false_positives,
            false_positives_per_node_hour: ratio(self.false_positives as f64, self.node_seconds / 3600.0),
        }
    }

    /// The report's series.
    pub fn series(self) -> Vec<Series> {
        let unit = |name: &str| if name.starts_with("bytes") { "B/s" } else { "" };
        let series =
            |(name, points): (&str, _)| Series { name: name.into(), unit: unit(name).into(), points };
        self.series.into_iter().map(series).collect()
    }
}

/// Names of the series of the classes' bytes.
const CLASS_SERIES: [&str; 3] = [
    "bytes per node and second: control",
    "bytes per node and second: rumor",
    "bytes per node and second: sync",
];

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
