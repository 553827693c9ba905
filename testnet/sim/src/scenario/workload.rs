//! What clients do.

use serde::{Deserialize, Serialize};

/// Clients that write through the nodes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Writes per second over all nodes, at random times (a Poisson process).
    pub writes_s: f64,
    /// How many nodes take writes, from the first one on; 0: all of them. Every node that writes is an
    /// actor in everybody's context.
    pub writers: usize,
    /// Keys of each data type.
    pub keys: u64,
    /// Which of them are written how often.
    pub pick: Keys,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Which operations, by weight.
    pub mix: Mix,
    /// Life of values written with one, seconds.
    pub ttl_s: f64,
    /// Many writes at one instant, now and then.
    pub burst: Option<Burst>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            writes_s: 10.0,
            writers: 0,
            keys: 200,
            pick: Keys::Uniform,
            value_bytes: 64,
            mix: Mix::default(),
            ttl_s: 30.0,
            burst: None,
        }
    }
}

/// How often a key is picked.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Keys {
    /// All alike.
    Uniform,
    /// The i-th with a weight of i to the power of minus this.
    Zipf(f64),
    /// The first key with this share, all others alike.
    Hot(f64),
}

/// Weights of the operations. Each data type has keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Register: a new value.
    pub put: f64,
    /// Register: the key removed.
    pub delete: f64,
    /// Register: a new value that expires.
    pub put_ttl: f64,
    /// Counter: plus one.
    pub incr: f64,
    /// Set: one element added.
    pub set_add: f64,
    /// Set: one element removed.
    pub set_remove: f64,
    /// Anything else there is: maps, flags, whole keys and prefixes deleted, several writes at once, writes
    /// with a version check. Only simulated clients do these.
    pub varied: f64,
}

impl Default for Mix {
    /// Registers alone.
    fn default() -> Self {
        Self { put: 1.0, delete: 0.0, put_ttl: 0.0, incr: 0.0, set_add: 0.0, set_remove: 0.0, varied: 0.0 }
    }
}

/// Many writes at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Time between two bursts, seconds.
    pub every_s: f64,
    /// Writes in one, through one node.
    pub writes: u32,
}

impl Mix {
    /// The weights in the order of the fields, without the varied operations.
    pub fn weights(&self) -> [f64; 6] {
        [self.put, self.delete, self.put_ttl, self.incr, self.set_add, self.set_remove]
    }
}

impl Workload {
    /// What is wrong with the values, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(0.0..1e7).contains(&self.writes_s) {
            return Err(format!("workload.writes_s has to be 0 or more, not {}", self.writes_s));
        }
        if self.keys == 0 {
            return Err("workload.keys has to be 1 or more".into());
        }
        if self.value_bytes > 1 << 20 {
            return Err("workload.value_bytes is at most 1048576".into());
        }
        let weights = self.mix.weights().into_iter().chain([self.mix.varied]);
        let weights: Vec<f64> = weights.collect();
        if weights.iter().any(|weight| weight.is_nan() || *weight < 0.0) || weights.iter().sum::<f64>() <= 0.0
        {
            return Err("workload.mix needs weights of 0 or more, and one above 0".into());
        }
        let fits = match self.pick {
            Keys::Uniform => true,
            Keys::Zipf(exponent) => (0.0..10.0).contains(&exponent),
            Keys::Hot(share) => (0.0..=1.0).contains(&share),
        };
        if !fits {
            return Err("workload.pick: zipf wants an exponent below 10, hot a share from 0 to 1".into());
        }
        match self.burst {
            Some(burst) if burst.every_s.is_nan() || burst.every_s < 0.001 => {
                Err("workload.burst.every_s has to be 0.001 or more".into())
            }
            _ => Ok(()),
        }
    }
}
