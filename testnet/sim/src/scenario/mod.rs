//! Scenarios: what a network is, what is done to it, and what is measured, as a TOML file. The
//! simulator and the network of real processes read the same files.

mod app;
mod churn;
mod file;
mod links;
mod release;
mod select;
mod step;
mod strong;
mod users;
mod workload;

pub use app::{App, AppKind};
pub use churn::{Away, Churn, ChurnModel, Return};
pub(crate) use file::read_with;
pub use file::{Error, load, parse};
pub use links::{Clog, Geography, Latency, Links};
pub use release::Release;
pub use select::Selection;
pub use step::{Action, Repeat, Step, UNSYNCED_S};
pub use strong::{GAIN_PERMILLE_MAX, KEYSPACE as STRONG_KEYSPACE, StrongLoad};
pub use users::{Users, homes, voters};
pub use workload::{Burst, Keys, Mix, Workload};

use serde::{Deserialize, Serialize};
use starling_proto::view::ViewConfig;

/// A scenario, as its file says it. What a file leaves out is [`Scenario::default`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Its name; the file's name if the file does not say.
    pub name: String,
    /// One sentence: what happens.
    pub about: String,
    /// Replicas at the beginning.
    pub nodes: usize,
    /// Bootstrap seeds beside them: no store, in nobody's view.
    pub seeds: usize,
    /// Draws everything that is drawn. Said by whoever runs the scenario, not by its file.
    #[serde(skip)]
    pub seed: u64,
    /// Seconds from the start, with the workload but without faults, that are not measured: the overlay
    /// settles.
    pub warmup_s: f64,
    /// Seconds measured. Steps count their times from the beginning of these.
    pub measure_s: f64,
    /// Seconds after the end of workload and faults within which all live replicas have to be equal.
    pub settle_s: f64,
    /// Names of regions; nodes are dealt to them in turn. Empty: there are none.
    pub regions: Vec<String>,
    /// Zones of each region, at most 26, named after it: eu-a, eu-b; its nodes are dealt to them in turn. 0: there are none.
    pub zones: usize,
    /// Settings of every node.
    pub node: NodeSettings,
    /// What lies between the nodes.
    pub links: Links,
    /// What clients do.
    pub workload: Workload,
    /// Clients whose operations are counted as availability, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Users>,
    /// An application whose takeovers are measured, if there is one; processes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// A strong keyspace with its clients, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strong: Option<StrongLoad>,
    /// How nodes come and go by themselves.
    pub churn: Churn,
    /// What is done to the network, and when.
    pub step: Vec<Step>,
    /// Figures with their targets.
    pub bar: Vec<Bar>,
}

impl Scenario {
    /// The region of a replica, by its index.
    pub fn region(&self, replica: usize) -> Option<&str> {
        let count = self.regions.len().max(1);
        self.regions.get(replica % count).map(String::as_str)
    }

    /// The zone of a replica, by its index.
    pub fn zone(&self, replica: usize) -> Option<String> {
        self.zone_in(self.region(replica)?, replica)
    }

    /// The zone of a node in a region, by the node's index.
    pub(crate) fn zone_in(&self, region: &str, node: usize) -> Option<String> {
        let number = (node / self.regions.len().max(1)).checked_rem(self.zones)?;
        Some(format!("{region}-{}", char::from(b'a' + u8::try_from(number).ok()?)))
    }

    /// Where each replica is: its zone, or its region where there are no zones.
    pub fn places(&self) -> Vec<Option<String>> {
        let place = |replica| self.zone(replica).or_else(|| self.region(replica).map(str::to_owned));
        (0..self.nodes).map(place).collect()
    }

    /// Names of all zones.
    pub fn zone_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            (0..self.regions.len() * self.zones).filter_map(|replica| self.zone(replica)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Names of all regions, each once.
    pub fn region_names(&self) -> Vec<String> {
        let mut names = self.regions.clone();
        names.sort();
        names.dedup();
        names
    }

    /// Whether nodes of two releases meet.
    pub(crate) fn mixes_releases(&self) -> bool {
        let changes = |step: &Step| matches!(step.action, Action::RollingRestart { release: Some(_), .. });
        self.step.iter().any(changes)
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            nodes: 50,
            seeds: 1,
            seed: 1,
            warmup_s: 30.0,
            measure_s: 60.0,
            settle_s: 300.0,
            regions: Vec::new(),
            zones: 0,
            node: NodeSettings::default(),
            links: Links::default(),
            workload: Workload::default(),
            users: None,
            app: None,
            strong: None,
            churn: Churn::default(),
            step: Vec::new(),
            bar: Vec::new(),
        }
    }
}

/// Settings of a node that scenarios vary; everything else is the node's default.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSettings {
    /// Neighbours that a node wants.
    pub active: usize,
    /// Time within which a silent neighbour is given up, milliseconds.
    pub detect_ms: u64,
    /// Payloads of rumors that a node keeps to serve those who missed them, bytes.
    pub cache_bytes: usize,
    /// The release that a node runs until a step gives it another one.
    pub release: Release,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            active: ViewConfig::default().active_max,
            detect_ms: 3_000,
            cache_bytes: 4 << 20,
            release: Release::Current,
        }
    }
}

/// A figure of the report with its target.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Which figure.
    pub figure: Figure,
    /// The largest value that is good enough.
    pub at_most: f64,
}

/// Figures that can have a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Payload messages per node beyond the one needed.
    Rmr,
    /// Links to the last node of a rumor, mean over the rumors.
    LastHop,
    /// Acknowledgement until readable on every node, mean over the writes, milliseconds.
    AllMeanMs,
    /// The same, 99 % of the writes, milliseconds.
    AllP99Ms,
    /// The same, 99.9 % of the writes, milliseconds.
    #[serde(rename = "all_p999_ms")]
    AllP999Ms,
    /// Acknowledged writes missing from a live node at the end.
    Missing,
    /// Acknowledged writes that no live node holds though one that held it lives.
    Lost,
    /// Deleted values that were readable again.
    Resurrected,
    /// From the end of the last fault until all live nodes were one component, seconds.
    OneComponentS,
    /// From the end of the last fault until all live nodes were equal, seconds.
    EqualS,
    /// Of the strong keyspace: from the loss of its leader until a write that was sent later was
    /// acknowledged, median, milliseconds.
    NextWriteMedianMs,
    /// The same, the longest, milliseconds.
    NextWriteMaxMs,
    /// Of the strong keyspace: invariants that were seen not to hold.
    StrongViolations,
}
