//! What both are put under, and what is told of it.

use starling_load::{Plan, Report, Work};

use super::Options;
use super::servers::Servers;
use crate::error::{Error, Result};

/// Bytes of each value.
pub const VALUE_BYTES: usize = 100;
/// Keys that are written and read.
const KEYS: u64 = 10_000;
/// Connections that many clients share: two to each server.
const CONNECTIONS_MAX: usize = 6;

const PUT: Work = Work::Put { value_bytes: VALUE_BYTES, keys: KEYS };
const GET: Work = Work::Get { value_bytes: VALUE_BYTES, keys: KEYS };

/// The loads of one client, which together bound what a put may take.
pub const PUT_ALONE: &str = "put, 1 client";
pub const GET_ALONE: &str = "linearizable get, 1 client";

/// One load.
#[derive(Debug)]
pub struct Load {
    /// For people.
    pub name: &'static str,
    clients: usize,
    work: Work,
    /// What is told of it, and how many times better than etcd's it has to be.
    pub figures: &'static [(Figure, Option<f64>)],
}

/// What is told of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Successes in a second: more is better.
    PerSecond,
    /// Half of the requests took no longer, milliseconds.
    P50,
    /// CPU time of all servers together for one request, microseconds.
    Cpu,
}

/// All loads, with the targets of strong keyspaces.
pub const LOADS: [Load; 8] = [
    Load {
        name: PUT_ALONE,
        clients: 1,
        work: PUT,
        figures: &[(Figure::PerSecond, None), (Figure::P50, Some(1.0))],
    },
    Load {
        name: "put, 64 clients",
        clients: 64,
        work: PUT,
        figures: &[(Figure::PerSecond, Some(5.0)), (Figure::Cpu, Some(5.0))],
    },
    Load {
        name: "put, 256 clients",
        clients: 256,
        work: PUT,
        figures: &[(Figure::PerSecond, Some(5.0)), (Figure::Cpu, Some(5.0))],
    },
    Load { name: GET_ALONE, clients: 1, work: GET, figures: &[(Figure::P50, None)] },
    Load {
        name: "linearizable get, 64 clients",
        clients: 64,
        work: GET,
        figures: &[(Figure::PerSecond, Some(5.0)), (Figure::Cpu, None)],
    },
    Load {
        name: "compare-and-set on one key, 64 clients",
        clients: 64,
        work: Work::CompareAndSet { shared: true },
        figures: &[(Figure::PerSecond, Some(5.0)), (Figure::Cpu, None)],
    },
    Load {
        name: "compare-and-set on own keys, 64 clients",
        clients: 64,
        work: Work::CompareAndSet { shared: false },
        figures: &[(Figure::PerSecond, None), (Figure::Cpu, None)],
    },
    Load {
        name: "watch, from the put to the event, 1 client",
        clients: 1,
        work: Work::Watch { value_bytes: VALUE_BYTES },
        figures: &[(Figure::P50, None)],
    },
];

impl Load {
    /// Puts it on these servers. A client alone asks the leader; many are spread over all servers.
    pub async fn run(&self, servers: &Servers, options: &Options) -> Result<Report> {
        let plan = Plan {
            endpoints: servers.leader_first().await?,
            clients: self.clients,
            connections: CONNECTIONS_MAX,
            warm_up: options.warm_up(),
            duration: options.duration(),
            work: self.work,
            servers: servers.pids.clone(),
        };
        starling_load::run(&plan).await.map_err(Error::Load)
    }
}
