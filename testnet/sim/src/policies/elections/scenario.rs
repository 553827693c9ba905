//! What one election goes through: the same words for every protocol.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::policies::Links;
use crate::scenario::{Error, read_with};

/// One election and its faults. Time 0 is when the first initiator begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Nodes, the old leader among them. Each has a rank; the live node of the highest rank is the best one.
    pub nodes: usize,
    /// What messages go through.
    pub links: Links,
    /// Whether the node of the highest rank has led and is dead from the beginning.
    #[serde(default)]
    pub old_leader: bool,
    /// How the ranks lie on the ring.
    #[serde(default)]
    pub order: Order,
    /// Which node begins.
    #[serde(default)]
    pub begins: Begins,
    /// How many nodes begin; the others are drawn. More than there are live nodes: all of them.
    #[serde(default = "one")]
    pub initiators: usize,
    /// Within which time they begin, milliseconds.
    #[serde(default)]
    pub spread_ms: u64,
    /// How long after a crash, a partition or its end the failure detectors notify the other nodes, milliseconds.
    /// They make no mistakes. `None`: there are none.
    #[serde(default)]
    pub detect_ms: Option<u64>,
    /// A node that crashes and does not come back.
    #[serde(default)]
    pub crash: Option<Crash>,
    /// A node that handles every message late.
    #[serde(default)]
    pub slow: Option<Slow>,
    /// A partition into two sides.
    #[serde(default)]
    pub partition: Option<Partition>,
    /// When the run is judged, milliseconds.
    pub deadline_ms: u64,
}

/// A crash.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// Who crashes.
    pub who: Who,
    /// When, milliseconds; of the winner, how long after it was elected.
    pub at_ms: u64,
}

/// Slowness.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// Who is slow; the winner is not known beforehand, and nobody is slow then.
    pub who: Who,
    /// How much later than it arrives a message is handled, milliseconds.
    pub ms: u64,
}

/// A partition: messages between its sides are lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// When it begins, milliseconds.
    pub at_ms: u64,
    /// How long it lasts, milliseconds.
    pub for_ms: u64,
    /// Nodes of the smaller side, which are drawn.
    pub minority: usize,
}

/// A node by its part in the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The first initiator.
    Initiator,
    /// The next live node clockwise of the first initiator.
    Neighbour,
    /// The live node of the highest rank.
    Best,
    /// The node that is the first to consider itself the leader.
    Winner,
}

/// How ranks lie on the ring, clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// In a drawn order.
    #[default]
    Drawn,
    /// Each rank is higher than the one before.
    Ascending,
    /// Each rank is lower than the one before.
    Descending,
}

/// The first initiator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begins {
    /// Any live node.
    #[default]
    Drawn,
    /// The live node of the highest rank.
    Best,
    /// The next live node clockwise of the best, which is its anti-clockwise neighbour.
    AfterBest,
    /// The node of the lowest rank.
    Lowest,
}

fn one() -> usize {
    1
}

/// Virtual time until a run is judged: hundreds of the longest elections without faults.
const DEADLINE_MS: u64 = 60_000;

/// How many nodes a scenario may have. The bully's messages grow with the square.
const NODES: std::ops::RangeInclusive<usize> = 3..=1000;
/// The longest time in a scenario, milliseconds.
const TIME_MS_MAX: u64 = 600_000;

impl Scenario {
    /// One initiator, links of constant latency, no faults, and no failure detector: what the texts count.
    pub fn counted(nodes: usize) -> Self {
        Self {
            nodes,
            links: Links { latency_min_ms: 10, latency_max_ms: 10, loss: 0.0 },
            old_leader: false,
            order: Order::Drawn,
            begins: Begins::Drawn,
            initiators: 1,
            spread_ms: 0,
            detect_ms: None,
            crash: None,
            slow: None,
            partition: None,
            deadline_ms: DEADLINE_MS,
        }
    }

    /// The leader is dead, which all nodes know, and one of them begins. Links of 10 to 50 ms.
    pub fn calm(nodes: usize) -> Self {
        Self {
            links: Links { latency_min_ms: 10, latency_max_ms: 50, loss: 0.0 },
            old_leader: true,
            detect_ms: Some(100),
            ..Self::counted(nodes)
        }
    }

    /// The scenarios that have names, with a sentence each.
    pub fn named(nodes: usize) -> Vec<(&'static str, &'static str, Self)> {
        let calm = Self::calm(nodes);
        let crash = |who, at_ms| Self { crash: Some(Crash { who, at_ms }), ..calm };
        let slow = Some(Slow { who: Who::Best, ms: 300 });
        let partition = Some(Partition { at_ms: 20, for_ms: 5000, minority: nodes / 3 });
        let lossy = Links { loss: 0.05, ..calm.links };
        let worse = Links { loss: 0.2, ..calm.links };
        let storm = Self { links: worse, initiators: nodes, spread_ms: 300, ..calm };
        vec![
            ("calm", "the leader is dead, one node begins", calm),
            ("many", "all live nodes begin within 20 ms", Self { initiators: nodes, spread_ms: 20, ..calm }),
            ("crash-initiator", "the initiator crashes after 60 ms", crash(Who::Initiator, 60)),
            ("crash-neighbour", "its clockwise neighbour crashes after 10 ms", crash(Who::Neighbour, 10)),
            ("crash-best", "the best live node crashes after 120 ms", crash(Who::Best, 120)),
            ("crash-winner", "the first node to lead crashes 5 ms later", crash(Who::Winner, 5)),
            ("slow", "the best live node handles messages 300 ms late", Self { slow, ..calm }),
            ("loss", "5 % of the messages are lost", Self { links: lossy, ..calm }),
            ("storm", "all live nodes begin within 300 ms, 20 % of the messages are lost", storm),
            ("partition", "a third of the nodes is cut off for 5 s", Self { partition, ..calm }),
        ]
    }

    /// Reads a scenario, that of a name or a file, and sets single values of it, each a path (`links.loss`) and a TOML
    /// value.
    pub fn load(name: &str, nodes: usize, set: &[(String, String)]) -> Result<Self, Error> {
        let all = Self::named(nodes);
        let text = match all.iter().find(|(other, ..)| *other == name) {
            Some((.., scenario)) => {
                toml::to_string(scenario).map_err(|error| Error::Malformed(error.to_string()))?
            }
            None if Path::new(name).exists() => std::fs::read_to_string(name)
                .map_err(|error| Error::Unreadable { path: name.into(), error })?,
            None => {
                let names: Vec<&str> = all.iter().map(|(name, ..)| *name).collect();
                let reason = format!("is no file and none of {}", names.join(", "));
                return Err(Error::Invalid { name: name.into(), reason });
            }
        };
        let scenario: Self = read_with(name, &text, set)?;
        scenario.check().map_err(|reason| Error::Invalid { name: name.into(), reason })?;
        Ok(scenario)
    }

    /// What types alone do not say.
    fn check(&self) -> Result<(), String> {
        let Links { latency_min_ms, latency_max_ms, loss } = self.links;
        let times = [latency_max_ms, self.spread_ms, self.deadline_ms, self.detect_ms.unwrap_or(0)];
        let of_crash = self.crash.map_or(0, |crash| crash.at_ms);
        let of_partition = self.partition.map_or(0, |it| it.at_ms.max(it.for_ms));
        let longest =
            times.into_iter().chain([of_crash, of_partition, self.slow.map_or(0, |slow| slow.ms)]).max();
        if !NODES.contains(&self.nodes) {
            return Err(format!("nodes has to be {} to {}", NODES.start(), NODES.end()));
        }
        if latency_min_ms > latency_max_ms || latency_max_ms == 0 {
            return Err("links.latency_max_ms has to be 1 or more, and not below latency_min_ms".into());
        }
        if !(0.0..1.0).contains(&loss) {
            return Err("links.loss has to be 0 to below 1".into());
        }
        if longest > Some(TIME_MS_MAX) {
            return Err(format!("no time may be longer than {TIME_MS_MAX} ms"));
        }
        if self.initiators == 0 || self.partition.is_some_and(|it| it.minority >= self.nodes) {
            return Err("initiators has to be 1 or more, partition.minority less than nodes".into());
        }
        Ok(())
    }

    /// When the last fault is over and noticed, milliseconds; a winner's crash is not known beforehand.
    pub(super) fn faults_end_ms(&self) -> u64 {
        let crash_ms = self.crash.map_or(0, |crash| crash.at_ms);
        let partition_ms = self.partition.map_or(0, |partition| partition.at_ms + partition.for_ms);
        crash_ms.max(partition_ms) + self.detect_ms.unwrap_or(0)
    }

    /// The longest time from sending a message to its delivery that a protocol counts on, microseconds.
    pub(super) fn delay_us(&self) -> u64 {
        self.links.latency_max_ms * 1000
    }
}
