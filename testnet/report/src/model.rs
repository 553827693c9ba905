//! What one run measured. The simulator and the real processes fill the same structure, so that
//! their results can stand side by side; names follow ARCHITECTURE.md, "Measuring".

use serde::{Deserialize, Serialize};

use crate::availability::Availability;
use crate::stats::{Convergence, Summary};

/// Version of this structure in JSON; a reader refuses another one.
pub const SCHEMA: u32 = 1;

/// One run of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The scenario's name.
    pub scenario: String,
    /// One sentence: what the scenario does.
    pub about: String,
    /// Where it ran.
    pub source: Source,
    /// The one command that repeats it.
    pub command: String,
    /// Nodes at the beginning.
    pub nodes: usize,
    /// Milliseconds measured, after the warm-up; virtual ones in the simulator.
    pub measured_ms: u64,
    /// What was set, for the head of the report: name and value, in the order to show.
    pub settings: Vec<(String, String)>,
    /// Writes: how many, and what became of them.
    pub writes: Writes,
    /// When the acknowledged writes were readable on the nodes that were alive throughout.
    pub convergence: Convergence,
    /// How rumors travelled.
    pub dissemination: Dissemination,
    /// Bytes and messages by class, over all nodes, in the measured time.
    pub traffic: Traffic,
    /// The overlay at the end.
    pub views: Views,
    /// Failure detection.
    pub detection: Detection,
    /// Each fault that was healed, in order.
    pub healing: Vec<Healing>,
    /// Time series over the measured time.
    pub series: Vec<Series>,
    /// Cumulative distributions.
    pub distributions: Vec<Distribution>,
    /// The overlay at the end, for a drawing; of the largest networks a sample.
    pub topology: Topology,
    /// The strong keyspace, if there was one; simulator only.
    #[serde(default)]
    pub strong: Option<Strong>,
    /// How available the network was to clients, by kind of operation.
    #[serde(default)]
    pub availability: Vec<Availability>,
    /// How long instances of an application took to take over, where there was one.
    #[serde(default)]
    pub takeovers: Vec<Takeover>,
    /// Wall clocks of the nodes, where they are on several machines.
    #[serde(default)]
    pub clocks: Vec<Clock>,
    /// Whether the nodes held the same, of a network that was only looked at.
    #[serde(default)]
    pub roots: Option<Roots>,
    /// What could not be measured and why, a sentence each.
    #[serde(default)]
    pub limits: Vec<String>,
    /// What the run itself cost; simulator only.
    pub cost: Option<Cost>,
    /// Figures with the targets that the scenario sets for them.
    #[serde(default)]
    pub bars: Vec<Bar>,
}

/// A figure with its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// What was measured.
    pub figure: String,
    /// The result.
    pub measured: f64,
    /// Unit of both, empty for a plain number.
    pub unit: String,
    /// The target.
    #[serde(flatten)]
    pub limit: Limit,
    /// Whether the figure keeps to it.
    pub met: bool,
}

/// The side of the target on which a figure should stay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bar {
    /// Compares a figure with its target.
    pub fn new(figure: impl Into<String>, measured: f64, unit: impl Into<String>, limit: Limit) -> Self {
        let met = match limit {
            Limit::AtMost(most) => measured <= most,
            Limit::AtLeast(least) => measured >= least,
        };
        Self { figure: figure.into(), measured, unit: unit.into(), limit, met }
    }
}

/// Where a run took place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Source {
    /// Nowhere yet.
    #[default]
    Unknown,
    /// In virtual time.
    Simulated {
        /// Draws everything.
        seed: u64,
        /// Hash of every event: equal for equal seeds.
        trace: String,
    },
    /// Real processes on this machine.
    Processes,
    /// A network that ran before, and was only looked at.
    Attached {
        /// Nodes whose API was asked.
        asked: usize,
    },
}

/// What became of the writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// Sent by clients.
    pub sent: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Refused or unanswered: their node died or stood still.
    pub failed: u64,
    /// Acknowledged, neither superseded nor deleted, and missing from a live node at the end.
    pub missing: u64,
    /// Acknowledged and on no live node at the end although a node that held it lives.
    pub lost: u64,
    /// Deleted, and readable again at the end.
    pub resurrected: u64,
}

/// How rumors travelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dissemination {
    /// Rumors published.
    pub rumors: u64,
    /// Live nodes that a rumor never reached before anti-entropy, as a share of all deliveries due. None: the
    /// counters of some nodes are not known.
    pub residue: Option<f64>,
    /// Payload messages per node beyond the one needed (relative message redundancy).
    pub rmr: f64,
    /// Links from the origin to each node, over all deliveries.
    pub hops_mean: f64,
    /// Stretch: hops of the last delivery of a rumor, mean over the rumors.
    pub last_hop_mean: f64,
    /// The largest number of hops.
    pub hops_max: u64,
}

/// Bytes and messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// By class of message: view, heartbeat, rumor, announce, graft, prune, sync, crawl, or "all" where
    /// classes cannot be told apart.
    pub classes: Vec<ClassTraffic>,
    /// Bytes on the wire per payload byte delivered; keys and values only.
    pub overhead: f64,
    /// Bytes per second that a node sent, mean over the nodes.
    pub bytes_per_node_s: f64,
}

/// Traffic of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassTraffic {
    /// Its name.
    pub class: String,
    /// Messages sent.
    pub messages: u64,
    /// Bytes sent, frames only.
    pub bytes: u64,
}

/// The overlay of active views.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Views {
    /// Connected components among live nodes.
    pub components: usize,
    /// Live nodes without a neighbour.
    pub isolated: usize,
    /// Links that only one end has in its view.
    pub asymmetric: usize,
    /// `degrees[d]` nodes have d neighbours.
    pub degrees: Vec<usize>,
    /// `in_degrees[d]` nodes are in d passive views.
    pub in_degrees: Vec<usize>,
    /// Mean local clustering coefficient.
    pub clustering: f64,
    /// Mean length of shortest paths, in links, over a sample of sources.
    pub path_mean: f64,
    /// The longest of them.
    pub path_max: usize,
}

/// Failure detection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// From the death or the stop of a node until its last neighbour gave it up.
    pub noticed: Summary,
    /// Live, running, reachable nodes that were given up.
    pub false_positives: u64,
    /// The same per node and hour.
    pub false_positives_per_node_hour: f64,
}

/// How long another instance of an application took to take over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Takeover {
    /// The kind of application, and how its instance failed: "active-passive, its node ended".
    pub what: String,
    /// Time to live of the lease under which an instance serves, milliseconds; none: it needs no lease.
    pub ttl_ms: Option<u64>,
    /// From the last answer of the instance that failed to the first one of another instance.
    pub took: Summary,
}

/// The wall clock of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// The node's name.
    pub node: String,
    /// Its clock less that of the machine that measured, milliseconds.
    pub offset_ms: f64,
    /// How far the offset may be from that, milliseconds.
    pub error_ms: f64,
    /// The shortest round trip from the machine that measured, milliseconds.
    pub rtt_ms: f64,
}

/// Root fingerprints of the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// How often all nodes were asked.
    pub samples: u64,
    /// Of these, how often all had the same root.
    pub equal: u64,
    /// Different roots in the whole network at the end.
    pub different: u64,
    /// From the end of the measured time until all nodes that were asked had the same root, milliseconds; none: not in time.
    pub equal_after_ms: Option<u64>,
}

/// One fault and its healing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Healing {
    /// What was broken: "split into 2", "half of the nodes killed".
    pub what: String,
    /// When the healing began, milliseconds into the measured time.
    pub healed_at_ms: u64,
    /// From there until the live nodes were one component; none: not before the end.
    pub one_component_ms: Option<u64>,
    /// From there until they were equal too.
    pub equal_ms: Option<u64>,
}

/// A strong keyspace under its clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strong {
    /// Voters it was made with.
    pub voters: u64,
    /// Clients that asked, without watches.
    pub clients: u64,
    /// The last revision.
    pub revision: u64,
    /// Requests that were not answered at the first attempt; most were tried again.
    pub failures: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Leaders that faults took away.
    pub leaders_lost: u64,
    /// How often a client held the lock.
    pub locks_held: u64,
    /// Writes under a lock that came too late, and were refused.
    pub stale_refused: u64,
    /// Items of the queue that were popped.
    pub items_popped: u64,
    /// Changes that watches were told.
    pub changes_told: u64,
    /// From the loss of a leader until a write was acknowledged that was sent later.
    pub next_write: Summary,
    /// From sending a write through a member until its acknowledgement, with all attempts.
    pub write_member: Summary,
    /// The same, through a node that is none.
    pub write_outsider: Summary,
    /// Linearizable reads and signs of life through a member.
    pub read_member: Summary,
    /// The same, through a node that is none.
    pub read_outsider: Summary,
    /// Invariants that did not hold: the name, and what was seen.
    pub violations: Vec<String>,
}

/// A quantity over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What: "live nodes", "bytes per node and second: rumor". Series whose names agree up to a colon
    /// share one plot.
    pub name: String,
    /// Unit, empty for a count.
    pub unit: String,
    /// Seconds into the measured time, and the value.
    pub points: Vec<(f64, f64)>,
}

/// A cumulative distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// What: "time to the nodes: 99 %". Distributions whose names agree up to a colon share one plot.
    pub name: String,
    /// Unit of the values.
    pub unit: String,
    /// Values ascending, with the share of the sample that does not exceed them; at most 200 points.
    pub points: Vec<(f64, f64)>,
}

/// A drawing's data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Nodes in the whole network, when `nodes` is a sample of it.
    pub of: usize,
    /// The nodes shown.
    pub nodes: Vec<TopologyNode>,
    /// Links between them, by index.
    pub links: Vec<TopologyLink>,
}

/// A node of the drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyNode {
    /// Its name.
    pub name: String,
    /// Its region, if the scenario has some.
    pub region: Option<String>,
    /// Whether it lives.
    pub up: bool,
}

/// A link of the drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyLink {
    /// Index of one end.
    pub a: usize,
    /// Index of the other.
    pub b: usize,
    /// Whether rumors are pushed over it in full.
    pub eager: bool,
}

/// What a simulated run cost on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall seconds.
    pub wall_s: f64,
    /// Events handled.
    pub events: u64,
    /// Wall nanoseconds per event.
    pub event_ns: f64,
    /// Virtual seconds per wall second.
    pub speed: f64,
    /// Resident bytes per node at the peak.
    pub node_bytes: f64,
    /// The longest step of a node, milliseconds, if each row that it reads or writes takes a microsecond, and each
    /// kibibyte another. Counted, not measured; 0 where nodes have no store.
    #[serde(default)]
    pub longest_step_ms: f64,
}

#[cfg(test)]
pub(crate) mod example {
    //! A made-up run with something in every part.

    use super::*;

    fn summary(scale: f64) -> Summary {
        Summary { count: 1000, p50_ms: scale, p90_ms: scale * 1.5, p99_ms: scale * 2.5, max_ms: scale * 4.0 }
    }

    fn convergence(scale: f64) -> Convergence {
        Convergence {
            acknowledged: summary(scale * 0.02),
            nodes_50: summary(scale * 0.5),
            nodes_90: summary(scale * 0.8),
            nodes_99: summary(scale * 0.95),
            nodes_all: summary(scale),
            nodes_all_from_send: summary(scale * 1.02),
        }
    }

    fn strong(scale: f64) -> Strong {
        Strong {
            voters: 3,
            clients: 12,
            revision: 4_000,
            elections: 7,
            next_write: summary(300.0 * scale),
            write_member: summary(60.0 * scale),
            write_outsider: summary(90.0 * scale),
            ..Strong::default()
        }
    }

    fn availability(scale: f64) -> Availability {
        Availability {
            operation: "put".into(),
            clients: 4,
            operations: 1_010,
            failed: 10,
            failures: 2,
            open: 0,
            observed_ms: 1_200_000.0,
            down_ms: 600.0 * scale,
            longest_ms: 400.0 * scale,
        }
    }

    fn topology(scale: usize) -> Topology {
        let region = |index: usize| ["eu", "us", "ap"][index % 3].to_string();
        let node = |index: usize| TopologyNode {
            name: format!("n{index}"),
            region: Some(region(index)),
            up: index % 9 != 4,
        };
        let link = |a: usize| [1, 7, 11].map(|step| TopologyLink { a, b: (a + step) % 60, eager: step == 1 });
        let links: Vec<TopologyLink> = (0..60).flat_map(link).collect();
        Topology::of((0..60 * scale).map(node).collect(), &links)
    }

    /// Equal arguments give equal runs; a larger scale gives a slower network.
    pub fn example(scenario: &str, scale: u32) -> Run {
        let factor = f64::from(scale);
        let wave = |t: i32| 50.0 + 10.0 * f64::from(t % 30) / factor;
        let series = |name: &str, unit: &str| Series {
            name: name.into(),
            unit: unit.into(),
            points: (0..300).map(|t| (f64::from(t), wave(t))).collect(),
        };
        let sample = |step: f64| (1..=1000).map(|i| (f64::from(i) / 100.0).powi(2) * step).collect();
        let class = |class: &str, bytes| ClassTraffic { class: class.into(), messages: bytes / 100, bytes };
        Run {
            schema: SCHEMA,
            scenario: scenario.into(),
            about: "Fifty nodes, Weibull sessions, one region lost for a minute".into(),
            source: Source::Simulated { seed: u64::from(scale), trace: "9f2c41d07be3a855".into() },
            command: format!("testnet sim {scenario} --seed {scale}"),
            nodes: 60,
            measured_ms: 300_000,
            settings: vec![
                ("links".into(), "10 to 50 ms, 5 % lost".into()),
                ("writes/s".into(), "50".into()),
            ],
            writes: Writes { sent: 1010, acknowledged: 1000, failed: 10, ..Writes::default() },
            convergence: convergence(100.0 * factor),
            dissemination: Dissemination {
                rumors: 1000,
                residue: Some(0.0004),
                rmr: 0.04 * factor,
                hops_mean: 4.5,
                last_hop_mean: 9.25,
                hops_max: 14,
            },
            traffic: Traffic {
                classes: vec![class("view", 120_000), class("rumor", 9_400_000), class("announce", 800_000)],
                overhead: 1.3,
                bytes_per_node_s: 640.0 * factor,
            },
            views: Views {
                components: 1,
                degrees: vec![0, 0, 1, 4, 9, 40, 6],
                in_degrees: vec![0, 3, 8, 12, 20, 11, 4, 2],
                clustering: 0.06,
                path_mean: 2.6,
                path_max: 5,
                ..Views::default()
            },
            detection: Detection {
                noticed: summary(900.0),
                false_positives: 2,
                false_positives_per_node_hour: 0.4,
            },
            healing: vec![Healing {
                what: "split into 2".into(),
                healed_at_ms: 120_000,
                one_component_ms: Some(4_200),
                equal_ms: None,
            }],
            series: vec![
                series("live nodes", ""),
                series("bytes per node and second: rumor", "B/s"),
                series("bytes per node and second: view", "B/s"),
            ],
            distributions: vec![
                Distribution::of("time to the nodes: 50 %", "ms", sample(factor)),
                Distribution::of("time to the nodes: all", "ms", sample(factor * 2.0)),
                Distribution::of("hops", "", vec![1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0, 9.0]),
            ],
            topology: topology(1),
            strong: Some(strong(factor)),
            takeovers: vec![Takeover {
                what: "active-passive, its node ended".into(),
                ttl_ms: Some(2_000),
                took: summary(2_000.0 * factor),
            }],
            clocks: vec![Clock { node: "n1".into(), offset_ms: -2.5 * factor, error_ms: 0.5, rtt_ms: 1.0 }],
            roots: Some(Roots { samples: 60, equal: 59, different: 1, equal_after_ms: Some(20) }),
            limits: vec!["the APIs of n2 were not named".into()],
            availability: vec![availability(factor)],
            cost: Some(Cost {
                wall_s: 0.4,
                events: 812_000,
                event_ns: 490.0,
                speed: 750.0,
                node_bytes: 61_000.0,
                longest_step_ms: 1.5,
            }),
            bars: vec![
                Bar::new("redundancy (RMR)", 0.04 * factor, "", Limit::AtMost(0.05)),
                Bar::new("virtual seconds per wall second", 750.0, "", Limit::AtLeast(500.0)),
            ],
        }
    }
}
