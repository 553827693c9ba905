//! What is done to a network, and when.

use serde::{Deserialize, Serialize};

use super::{GAIN_PERMILLE_MAX, Release, Selection};

/// A disk without power keeps what was written up to so long before, seconds: `everysec`, the default durability.
pub const UNSYNCED_S: f64 = 1.0;

/// One thing done to the network, once or again and again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Step {
    /// When, seconds into the measured time.
    pub at_s: f64,
    /// What.
    pub action: Action,
    /// Again, for how long.
    pub repeat: Option<Repeat>,
}

/// A step is done again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeat {
    /// Time between two of them, seconds.
    pub every_s: f64,
    /// Not after this, seconds into the measured time.
    pub until_s: f64,
}

/// Things that can be done to a network.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing passes from `nodes` to `to` (none: to everybody else) and, unless `one_way`, back.
    /// Connections stay silent, and are not closed. Healed after `for_s`, or by [`Action::Heal`].
    Partition {
        /// One side.
        nodes: Selection,
        /// The other side.
        to: Option<Selection>,
        /// Only this direction is cut.
        one_way: bool,
        /// Seconds until it heals.
        for_s: Option<f64>,
    },
    /// Ends every partition.
    Heal,
    /// kill -9: connections are reset, the disk stays. Restarted after `for_s`, if it is given.
    Kill {
        /// Which nodes.
        nodes: Selection,
        /// Seconds until the restart.
        for_s: Option<f64>,
    },
    /// Power loss: nobody is told, and the disk loses the writes of up to `loses_s`. With much more than a second it is an
    /// older copy that is restored; in the place of strong keyspaces' disks only if their group survives that.
    PowerOff {
        /// Which nodes.
        nodes: Selection,
        /// Seconds until the restart.
        for_s: Option<f64>,
        /// Seconds of writes, at most.
        loses_s: f64,
    },
    /// Killed, and after `for_s` a new node without data takes its place.
    Wipe {
        /// Which nodes.
        nodes: Selection,
        /// Seconds until the new node starts.
        for_s: f64,
    },
    /// A polite goodbye. Restarted after `for_s`, if it is given.
    Leave {
        /// Which nodes.
        nodes: Selection,
        /// Seconds until the restart.
        for_s: Option<f64>,
    },
    /// Those of the nodes that are down start again, with their disks.
    Restart {
        /// Which nodes.
        nodes: Selection,
    },
    /// The nodes handle nothing for a while (SIGSTOP, a long pause), then all that has come.
    Stall {
        /// Which nodes.
        nodes: Selection,
        /// How long each: between these two, drawn; seconds.
        for_s: [f64; 2],
    },
    /// The nodes have used up their file descriptors for a while: they open no connection and accept none. Those that
    /// they have stay.
    Exhaust {
        /// Which nodes.
        nodes: Selection,
        /// How long, seconds.
        for_s: f64,
    },
    /// The network's authority revokes the nodes, as far as they vote in no strong keyspace. Their processes go on for a while,
    /// and end for good.
    Revoke {
        /// Which nodes.
        nodes: Selection,
        /// How long, seconds.
        for_s: f64,
    },
    /// So many new nodes join at once.
    Join {
        /// How many.
        count: usize,
    },
    /// Wall clocks are wrong from now on.
    Skew {
        /// Which nodes.
        nodes: Selection,
        /// By up to this, drawn for each node in both directions; milliseconds.
        skew_ms: f64,
        /// And run fast or slow by up to this; parts per million.
        drift_ppm: f64,
    },
    /// The clocks that count the time that passes gain or lose from now on.
    Drift {
        /// Which nodes.
        nodes: Selection,
        /// By up to this, drawn for each node; per mille.
        permille: f64,
    },
    /// Links become worse, or good again.
    Links {
        /// New share of packets lost.
        loss: Option<f64>,
        /// New share of messages gone.
        drop: Option<f64>,
        /// New share of messages that come twice.
        duplicate: Option<f64>,
    },
    /// A second process starts with a copy of a node's disk and identity, while the first one runs on: one at a time per
    /// identity, and of voters only where their groups survive it. Then one of the two ends for good, whichever is drawn;
    /// at the end of all faults not before the earlier one has reported that it gave way.
    Clone {
        /// Which nodes.
        nodes: Selection,
        /// Seconds from the copy to the start, at most.
        age_s: f64,
        /// Seconds until one of the two ends.
        for_s: f64,
    },
    /// Everything from and to the nodes takes longer for a while.
    Delay {
        /// Which nodes.
        nodes: Selection,
        /// By this, one way, milliseconds.
        delay_ms: f64,
        /// How long, seconds.
        for_s: f64,
    },
    /// Two sides cannot reach each other, and each creates a strong keyspace of one name, with clients.
    Rivals {
        /// One side.
        nodes: Selection,
        /// Seconds until it heals.
        for_s: f64,
    },
    /// One voter of the strong keyspace that does not lead makes room for a node that is none.
    ReplaceVoter,
    /// A voter of the strong keyspace hands over to another one.
    TransferLeader,
    /// Nodes that are no members of the strong keyspace's group send its members what only members may.
    Forge,
    /// One node after the other is restarted; each is down for `for_s`. With a release, it comes back in
    /// that one; a network of real processes runs one program, and only restarts.
    RollingRestart {
        /// Which nodes.
        nodes: Selection,
        /// Seconds between the restarts of two nodes.
        gap_s: f64,
        /// Seconds that each is down.
        for_s: f64,
        /// What it runs afterwards.
        release: Option<Release>,
    },
}

impl Action {
    /// Its name in scenario files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Partition { .. } => "partition",
            Self::Heal => "heal",
            Self::Kill { .. } => "kill",
            Self::PowerOff { .. } => "power_off",
            Self::Wipe { .. } => "wipe",
            Self::Leave { .. } => "leave",
            Self::Restart { .. } => "restart",
            Self::Stall { .. } => "stall",
            Self::Exhaust { .. } => "exhaust",
            Self::Revoke { .. } => "revoke",
            Self::Join { .. } => "join",
            Self::Skew { .. } => "skew",
            Self::Drift { .. } => "drift",
            Self::Links { .. } => "links",
            Self::Clone { .. } => "clone",
            Self::Delay { .. } => "delay",
            Self::Rivals { .. } => "rivals",
            Self::ReplaceVoter => "replace_voter",
            Self::TransferLeader => "transfer_leader",
            Self::Forge => "forge",
            Self::RollingRestart { .. } => "rolling_restart",
        }
    }
}

/// A step as it stands in the file: which keys go together depends on `do`.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    at_s: f64,
    #[serde(rename = "do")]
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Selection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Selection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    one_way: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_s: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loses_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drift_ppm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permille: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<Release>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_s: Option<f64>,
}

/// Seconds: `5`, or drawn between two, `[1, 10]`.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(untagged)]
enum Seconds {
    One(f64),
    Between([f64; 2]),
}

impl TryFrom<Table> for Step {
    type Error = String;

    fn try_from(mut table: Table) -> Result<Self, String> {
        let repeat = match (table.every_s.take(), table.until_s.take()) {
            (Some(every_s), Some(until_s)) => Some(Repeat { every_s, until_s }),
            (None, None) => None,
            _ => return Err("every_s and until_s go together".into()),
        };
        let action = table.action()?;
        if let Some(key) = table.left() {
            return Err(format!("`{key}` means nothing for do = \"{}\"", table.what));
        }
        Ok(Self { at_s: table.at_s, action, repeat })
    }
}

impl From<Step> for Table {
    fn from(Step { at_s, action, repeat }: Step) -> Self {
        let what = action.name().to_string();
        let table = Self { at_s, what, ..Self::default() };
        let table = Self {
            every_s: repeat.map(|repeat| repeat.every_s),
            until_s: repeat.map(|repeat| repeat.until_s),
            ..table
        };
        let one = |for_s: Option<f64>| for_s.map(Seconds::One);
        match action {
            Action::Partition { nodes, to, one_way, for_s } => {
                Self { nodes: Some(nodes), to, one_way: Some(one_way), for_s: one(for_s), ..table }
            }
            Action::Heal | Action::ReplaceVoter | Action::TransferLeader | Action::Forge => table,
            Action::Kill { nodes, for_s } | Action::Leave { nodes, for_s } => {
                Self { nodes: Some(nodes), for_s: one(for_s), ..table }
            }
            Action::PowerOff { nodes, for_s, loses_s } => {
                Self { nodes: Some(nodes), for_s: one(for_s), loses_s: Some(loses_s), ..table }
            }
            Action::Wipe { nodes, for_s }
            | Action::Exhaust { nodes, for_s }
            | Action::Revoke { nodes, for_s } => {
                Self { nodes: Some(nodes), for_s: one(Some(for_s)), ..table }
            }
            Action::Restart { nodes } => Self { nodes: Some(nodes), ..table },
            Action::Clone { nodes, age_s, for_s } => {
                Self { nodes: Some(nodes), age_s: Some(age_s), for_s: one(Some(for_s)), ..table }
            }
            Action::Delay { nodes, delay_ms, for_s } => {
                Self { nodes: Some(nodes), delay_ms: Some(delay_ms), for_s: one(Some(for_s)), ..table }
            }
            Action::Rivals { nodes, for_s } => Self { nodes: Some(nodes), for_s: one(Some(for_s)), ..table },
            Action::Stall { nodes, for_s } => {
                Self { nodes: Some(nodes), for_s: Some(Seconds::Between(for_s)), ..table }
            }
            Action::Join { count } => Self { count: Some(count), ..table },
            Action::Skew { nodes, skew_ms, drift_ppm } => {
                Self { nodes: Some(nodes), skew_ms: Some(skew_ms), drift_ppm: Some(drift_ppm), ..table }
            }
            Action::Drift { nodes, permille } => {
                Self { nodes: Some(nodes), permille: Some(permille), ..table }
            }
            Action::Links { loss, drop, duplicate } => Self { loss, drop, duplicate, ..table },
            Action::RollingRestart { nodes, gap_s, for_s, release } => {
                let (nodes, gap_s) = (Some(nodes), Some(gap_s));
                Self { nodes, gap_s, for_s: one(Some(for_s)), release, ..table }
            }
        }
    }
}

impl Table {
    fn action(&mut self) -> Result<Action, String> {
        let what = self.what.clone();
        let missing = |key: &str| format!("do = \"{what}\" needs `{key}`");
        Ok(match self.what.as_str() {
            "partition" => Action::Partition {
                nodes: self.nodes()?,
                to: self.to.take(),
                one_way: self.one_way.take().unwrap_or(false),
                for_s: self.one_time()?,
            },
            "heal" => Action::Heal,
            "kill" => Action::Kill { nodes: self.nodes()?, for_s: self.one_time()? },
            "power_off" => Action::PowerOff {
                nodes: self.nodes()?,
                for_s: self.one_time()?,
                loses_s: self.loses_s.take().unwrap_or(UNSYNCED_S),
            },
            "wipe" => {
                let for_s = self.one_time()?.ok_or(missing("for_s"))?;
                Action::Wipe { nodes: self.nodes()?, for_s }
            }
            "exhaust" => {
                let for_s = self.one_time()?.ok_or(missing("for_s"))?;
                Action::Exhaust { nodes: self.nodes()?, for_s }
            }
            "revoke" => {
                let for_s = self.one_time()?.ok_or(missing("for_s"))?;
                Action::Revoke { nodes: self.nodes()?, for_s }
            }
            "leave" => Action::Leave { nodes: self.nodes()?, for_s: self.one_time()? },
            "restart" => Action::Restart { nodes: self.nodes()? },
            "stall" => {
                let for_s = match self.for_s.take().ok_or(missing("for_s"))? {
                    Seconds::One(s) => [s, s],
                    Seconds::Between(range) => range,
                };
                Action::Stall { nodes: self.nodes()?, for_s }
            }
            "join" => Action::Join { count: self.count.take().ok_or(missing("count"))? },
            "skew" => Action::Skew {
                nodes: self.nodes()?,
                skew_ms: self.skew_ms.take().unwrap_or(0.0),
                drift_ppm: self.drift_ppm.take().unwrap_or(0.0),
            },
            "drift" => {
                let permille = self.permille.take().ok_or(missing("permille"))?;
                Action::Drift { nodes: self.nodes()?, permille }
            }
            "links" => Action::Links {
                loss: self.loss.take(),
                drop: self.drop.take(),
                duplicate: self.duplicate.take(),
            },
            "clone" => {
                let for_s = self.one_time()?.ok_or(missing("for_s"))?;
                Action::Clone { nodes: self.nodes()?, age_s: self.age_s.take().unwrap_or(0.0), for_s }
            }
            "delay" => {
                let delay_ms = self.delay_ms.take().ok_or(missing("delay_ms"))?;
                let for_s = self.one_time()?.ok_or(missing("for_s"))?;
                Action::Delay { nodes: self.nodes()?, delay_ms, for_s }
            }
            "rivals" => {
                let for_s = self.one_time()?.ok_or(missing("for_s"))?;
                Action::Rivals { nodes: self.nodes()?, for_s }
            }
            "replace_voter" => Action::ReplaceVoter,
            "transfer_leader" => Action::TransferLeader,
            "forge" => Action::Forge,
            "rolling_restart" => Action::RollingRestart {
                nodes: self.nodes()?,
                gap_s: self.gap_s.take().ok_or(missing("gap_s"))?,
                for_s: self.one_time()?.ok_or(missing("for_s"))?,
                release: self.release.take(),
            },
            other => {
                return Err(format!(
                    "do = \"{other}\" is none of partition, heal, kill, power_off, wipe, leave, restart, \
                     stall, exhaust, join, skew, drift, links, delay, clone, rivals, replace_voter, transfer_leader, \
                     forge, rolling_restart"
                ));
            }
        })
    }

    fn nodes(&mut self) -> Result<Selection, String> {
        self.nodes.take().ok_or_else(|| format!("do = \"{}\" needs `nodes`", self.what))
    }

    fn one_time(&mut self) -> Result<Option<f64>, String> {
        match self.for_s.take() {
            None => Ok(None),
            Some(Seconds::One(s)) => Ok(Some(s)),
            Some(Seconds::Between(_)) => Err(format!("for_s is one number for do = \"{}\"", self.what)),
        }
    }

    /// A key that the action did not take.
    fn left(&self) -> Option<&'static str> {
        let keys = [
            ("nodes", self.nodes.is_some()),
            ("to", self.to.is_some()),
            ("one_way", self.one_way.is_some()),
            ("for_s", self.for_s.is_some()),
            ("loses_s", self.loses_s.is_some()),
            ("age_s", self.age_s.is_some()),
            ("count", self.count.is_some()),
            ("skew_ms", self.skew_ms.is_some()),
            ("drift_ppm", self.drift_ppm.is_some()),
            ("permille", self.permille.is_some()),
            ("delay_ms", self.delay_ms.is_some()),
            ("loss", self.loss.is_some()),
            ("drop", self.drop.is_some()),
            ("duplicate", self.duplicate.is_some()),
            ("gap_s", self.gap_s.is_some()),
            ("release", self.release.is_some()),
        ];
        keys.into_iter().find_map(|(key, is_left)| is_left.then_some(key))
    }
}

impl Step {
    /// What is wrong with the values, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut numbers = vec![self.at_s];
        numbers.extend(self.repeat.map(|repeat| repeat.until_s));
        match &self.action {
            Action::Partition { for_s, .. } | Action::Kill { for_s, .. } | Action::Leave { for_s, .. } => {
                numbers.extend(for_s);
            }
            Action::PowerOff { for_s, loses_s, .. } => {
                numbers.extend(for_s);
                numbers.push(if *loses_s > 0.0 { *loses_s } else { f64::NAN });
            }
            Action::Wipe { for_s, .. }
            | Action::Exhaust { for_s, .. }
            | Action::Revoke { for_s, .. }
            | Action::Rivals { for_s, .. } => {
                numbers.push(*for_s);
            }
            Action::Delay { delay_ms, for_s, .. } => numbers.extend([*delay_ms, *for_s]),
            Action::Clone { age_s, for_s, .. } => numbers.extend([*age_s, *for_s]),
            Action::Stall { for_s: [low, high], .. } => numbers.extend([*low, *high, high - low]),
            Action::Skew { skew_ms, drift_ppm, .. } => numbers.extend([*skew_ms, *drift_ppm]),
            Action::Drift { permille, .. } => numbers.extend([*permille, GAIN_PERMILLE_MAX - permille]),
            Action::Links { loss, drop, duplicate } => {
                let shares = loss.iter().chain(drop).chain(duplicate);
                numbers.extend(shares.map(|share| if *share < 0.95 { *share } else { f64::NAN }));
            }
            Action::RollingRestart { gap_s, for_s, .. } => numbers.extend([*gap_s, *for_s]),
            Action::Heal
            | Action::Restart { .. }
            | Action::Join { .. }
            | Action::ReplaceVoter
            | Action::TransferLeader
            | Action::Forge => {}
        }
        if self.repeat.is_some_and(|repeat| repeat.every_s.is_nan() || repeat.every_s < 0.01) {
            return Err("every_s has to be 0.01 or more".into());
        }
        let fits = numbers.iter().all(|number| number.is_finite() && *number >= 0.0);
        fits.then_some(()).ok_or(
            "its numbers have to be 0 or more, ranges ascending, shares below 0.95, drifts 100 at most"
                .into(),
        )
    }
}
