//! What came of it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;

/// Why a load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan makes no sense.
    #[error("{0}")]
    Plan(&'static str),
    /// A server cannot be reached.
    #[error("cannot connect to {endpoint}: {error}")]
    Connect {
        /// The server.
        endpoint: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The connection has failed.
    #[error("the connection failed: {0}")]
    Http(#[from] h2::Error),
    /// The server refused, by a gRPC code and its text.
    #[error("refused: {message} (code {code})")]
    Refused {
        /// gRPC's code.
        code: String,
        /// The server's words.
        message: String,
    },
    /// An answer that is none.
    #[error("the answer could not be read")]
    Nonsense,
    /// A process whose time is to be counted cannot be looked at.
    #[error("cannot read the CPU time of process {pid}: {error}")]
    Process {
        /// Its id.
        pid: u32,
        /// What the system says.
        error: std::io::Error,
    },
}

/// What one client counted.
#[derive(Default)]
pub struct Tally {
    pub times: Histogram,
    pub failed: u64,
    /// Compare-and-sets that somebody else came before.
    pub conflicts: u64,
    pub last_error: Option<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.times.add(&other.times);
        self.failed += other.failed;
        self.conflicts += other.conflicts;
        self.last_error = other.last_error.or(self.last_error.take());
    }
}

/// A load, measured. Times run from the request to its answer, in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Requests that succeeded.
    pub operations: u64,
    /// How many of them in a second.
    pub per_second: f64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// Ninety-nine in a hundred took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Requests that failed.
    pub failed: u64,
    /// What one of them said.
    pub last_error: Option<String>,
    /// Tries of a compare-and-set that came too late.
    pub conflicts: u64,
    /// CPU time of the servers for one request, all servers together.
    pub server_cpu_us: f64,
    /// CPU time of this process for one request.
    pub load_cpu_us: f64,
}

impl Report {
    pub(crate) fn of(tally: &Tally, took: Duration, servers: Duration, load: Duration) -> Self {
        let operations = tally.times.count();
        let each = |time: Duration| time.as_micros() as f64 / operations.max(1) as f64;
        Self {
            operations,
            per_second: operations as f64 / took.as_secs_f64(),
            p50_us: tally.times.quantile_us(500),
            p99_us: tally.times.quantile_us(990),
            max_us: tally.times.quantile_us(1000),
            failed: tally.failed,
            last_error: tally.last_error.clone(),
            conflicts: tally.conflicts,
            server_cpu_us: each(servers),
            load_cpu_us: each(load),
        }
    }
}
