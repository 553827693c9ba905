//! What lies between two nodes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The links between nodes. Connections are reliable, ordered streams, as TCP and QUIC give them: what
/// `loss` takes is sent again and comes later; what `drop` takes is gone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// One-way delay between two nodes.
    pub latency: Latency,
    /// Beyond it, drawn for each message: uniform from 0 to this, milliseconds.
    pub jitter_ms: f64,
    /// Share of packets lost under the stream: the stream stands still until they have been sent again.
    pub loss: f64,
    /// Share of messages that are simply gone, as if a queue had shed them unnoticed.
    pub drop: f64,
    /// Share of messages that come twice.
    pub duplicate: f64,
    /// Share of messages that others overtake.
    pub reorder: f64,
    /// Bytes per second of one direction of a connection; 0: unlimited.
    pub bandwidth_bytes_s: f64,
    /// Directions of connections that stand still from time to time.
    pub clog: Option<Clog>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            latency: Latency::UniformMs([10.0, 50.0]),
            jitter_ms: 2.0,
            loss: 0.0,
            drop: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            bandwidth_bytes_s: 0.0,
            clog: None,
        }
    }
}

/// One-way delay of the link between two nodes, drawn once for each pair.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Latency {
    /// The same everywhere, milliseconds.
    ConstantMs(f64),
    /// Between these two, milliseconds.
    UniformMs([f64; 2]),
    /// Log-normal.
    Lognormal {
        /// Median, milliseconds.
        median_ms: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Half of the measured round-trip times between sites; nodes are dealt to the sites in turn.
    Matrix {
        /// CSV: the first row names the sites, each further row begins with its site's name;
        /// milliseconds.
        file: PathBuf,
    },
    /// Nodes on a plane, gathered around the centres of the scenario's regions.
    Geography(Geography),
}

/// A generated map. Delay is distance at the speed of light in fibre, times a detour, plus the last mile
/// at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Geography {
    /// Side of the square on which the regions' centres lie, kilometres.
    pub side_km: f64,
    /// Radius of a region, kilometres.
    pub region_km: f64,
    /// Delay of the last mile at each end, milliseconds.
    pub last_mile_ms: f64,
}

/// Directions of connections stand still now and then; what is sent meanwhile comes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Clog {
    /// Mean time between two such stops of one direction, seconds.
    pub every_s: f64,
    /// How long one lasts: between these two, milliseconds.
    pub ms: [f64; 2],
}

impl Links {
    /// What is wrong with the values, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        let shares = [
            ("loss", self.loss),
            ("drop", self.drop),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ];
        for (name, share) in shares {
            if !(0.0..0.95).contains(&share) {
                return Err(format!("links.{name} is a share from 0 to below 0.95, not {share}"));
            }
        }
        for (name, value) in [("jitter_ms", self.jitter_ms), ("bandwidth_bytes_s", self.bandwidth_bytes_s)] {
            if !(0.0..1e12).contains(&value) {
                return Err(format!("links.{name} has to be 0 or more, not {value}"));
            }
        }
        let range = |name: &str, [low, high]: [f64; 2]| {
            let fits = 0.0 <= low && low <= high && high < 1e7;
            fits.then_some(()).ok_or(format!("links.{name} has to be a range [low, high] of milliseconds"))
        };
        if let Some(clog) = self.clog {
            range("clog.ms", clog.ms)?;
            if clog.every_s.is_nan() || clog.every_s <= 0.0 {
                return Err("links.clog.every_s has to be more than 0".into());
            }
        }
        match &self.latency {
            Latency::ConstantMs(ms) => range("latency", [*ms, *ms]),
            Latency::UniformMs(ms) => range("latency", *ms),
            Latency::Lognormal { median_ms, sigma } => {
                range("latency", [0.0, *median_ms]).and(range("latency", [0.0, *sigma]))
            }
            Latency::Matrix { .. } => Ok(()),
            Latency::Geography(map) => range("latency.geography", [0.0, map.side_km])
                .and(range("latency.geography", [0.0, map.region_km]))
                .and(range("latency.geography", [0.0, map.last_mile_ms])),
        }
    }
}
