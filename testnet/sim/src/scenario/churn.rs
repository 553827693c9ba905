//! How nodes come and go by themselves.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Churn: sessions end, and nodes come back.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// When.
    pub model: ChurnModel,
    /// Share of the replicas that take no part and stay up; the first ones.
    pub stable: f64,
    /// How a session ends, by weight.
    pub away: Away,
    /// How a node comes back, by weight.
    pub back: Return,
}

impl Default for Churn {
    fn default() -> Self {
        Self { model: ChurnModel::None, stable: 0.0, away: Away::default(), back: Return::default() }
    }
}

/// When sessions end and how long nodes are away.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum ChurnModel {
    /// Never.
    None,
    /// Departures are a Poisson process over the whole network; times away are exponential.
    Poisson {
        /// Departures per second.
        per_s: f64,
        /// Mean time away, seconds.
        away_s: f64,
    },
    /// Sessions and times away of each node are Weibull distributed, as they were measured in deployed
    /// peer-to-peer networks (Stutzbach and Rejaie, "Understanding Churn in Peer-to-Peer Networks",
    /// IMC 2006).
    Weibull {
        /// Shape of sessions; below 1: many short ones, a few very long ones.
        shape: f64,
        /// Scale of sessions, seconds; the mean is this times gamma(1 + 1 / shape).
        scale_s: f64,
        /// Shape of times away.
        away_shape: f64,
        /// Scale of times away, seconds.
        away_scale_s: f64,
    },
    /// A whole region at a time (`regions` of the scenario), each in turn drawn.
    Correlated {
        /// Mean time between two such failures, seconds.
        every_s: f64,
        /// Time away, seconds.
        away_s: f64,
    },
    /// What a file says.
    Trace {
        /// CSV with the columns `at_ms,node,event`, the times counted from the beginning of the
        /// measured time; events are `kill`, `power_off`, `leave`, `restart` and `wipe`.
        file: PathBuf,
    },
}

/// How a session ends, by weight.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Away {
    /// The process is killed (-9); its connections are reset.
    pub kill: f64,
    /// The process is stopped and goes on later: nobody is told. (In the simulator a stall.)
    pub stop: f64,
    /// The node says goodbye.
    pub leave: f64,
}

impl Default for Away {
    fn default() -> Self {
        Self { kill: 1.0, stop: 0.0, leave: 0.0 }
    }
}

/// How a killed or departed node comes back, by weight.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Return {
    /// As it was, with its disk.
    pub restart: f64,
    /// With nothing: a new node takes its place.
    pub wipe: f64,
    /// Not at all.
    pub never: f64,
}

impl Default for Return {
    fn default() -> Self {
        Self { restart: 1.0, wipe: 0.0, never: 0.0 }
    }
}

impl Churn {
    /// What is wrong with the values, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.stable) {
            return Err(format!("churn.stable is a share from 0 to 1, not {}", self.stable));
        }
        let weights = |name: &str, weights: [f64; 3]| {
            let fits = weights.iter().all(|w| *w >= 0.0) && weights.iter().sum::<f64>() > 0.0;
            fits.then_some(()).ok_or(format!("churn.{name} needs weights of 0 or more, and one above 0"))
        };
        weights("away", [self.away.kill, self.away.stop, self.away.leave])?;
        weights("back", [self.back.restart, self.back.wipe, self.back.never])?;
        let numbers = match self.model {
            ChurnModel::None | ChurnModel::Trace { .. } => vec![],
            ChurnModel::Poisson { per_s, away_s } => vec![per_s, away_s],
            ChurnModel::Weibull { shape, scale_s, away_shape, away_scale_s } => {
                vec![shape, scale_s, away_shape, away_scale_s]
            }
            ChurnModel::Correlated { every_s, away_s } => vec![every_s, away_s],
        };
        let fits = numbers.iter().all(|number| *number > 0.0 && number.is_finite());
        fits.then_some(()).ok_or("the numbers of churn.model have to be above 0".into())
    }
}
