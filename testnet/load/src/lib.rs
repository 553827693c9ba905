//! Load for servers of the etcd v3 API, Starling's or etcd's: the same requests, timed the same way.
//! It shares its machine with the servers, so it speaks HTTP/2 by the frame and does little else.
//! Everything runs on the caller's runtime; one with a single thread costs least.

mod connection;
mod histogram;
mod plan;
mod report;
mod servers;
mod usage;
mod watch;
mod work;

pub use plan::{Plan, Work};
pub use report::{Error, Report};
pub use servers::{lay, leader};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::time::Instant;

use connection::Connection;
use report::Tally;
use usage::cpu_time;

/// Runs a load to its end. Requests that fail are counted and do not end it.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    if plan.endpoints.is_empty() || plan.clients == 0 {
        return Err(Error::Plan("a load needs an endpoint and a client"));
    }
    let mut connections = Vec::new();
    for at in 0..plan.connections.clamp(1, plan.clients) {
        connections.push(Connection::open(plan.endpoints[at % plan.endpoints.len()]).await?);
    }
    if let Work::Get { value_bytes, keys } = plan.work {
        work::lay(&connections[0], keys, value_bytes).await?;
    }
    let phase = Arc::new(Phase::default());
    // Everybody and this task, so that the clock starts when all have begun.
    let begun = Arc::new(Barrier::new(plan.clients + 1));
    let mut clients = Vec::new();
    for client in 0..plan.clients {
        let connection = connections[client % connections.len()].clone();
        let (phase, begun, work) = (Arc::clone(&phase), Arc::clone(&begun), plan.work);
        clients.push(tokio::spawn(async move {
            begun.wait().await;
            match work {
                Work::Watch { value_bytes } => watch::drive(&connection, client, value_bytes, &phase).await,
                _ => work::drive(&connection, client, work, &phase).await,
            }
        }));
    }
    begun.wait().await;
    tokio::time::sleep(plan.warm_up).await;
    let cpu = || -> Result<_, Error> {
        let mut servers = Duration::ZERO;
        for pid in &plan.servers {
            servers += cpu_time(*pid)?;
        }
        Ok((servers, cpu_time(std::process::id())?))
    };
    let (servers_before, load_before) = cpu()?;
    let started = Instant::now();
    phase.counts.store(true, Ordering::Relaxed);
    tokio::time::sleep(plan.duration).await;
    phase.counts.store(false, Ordering::Relaxed);
    let took = started.elapsed();
    let (servers_after, load_after) = cpu()?;
    phase.over.store(true, Ordering::Relaxed);
    let mut tally = Tally::default();
    for client in clients {
        tally.add(client.await.map_err(|_| Error::Plan("a client has failed"))??);
    }
    Ok(Report::of(
        &tally,
        took,
        servers_after.saturating_sub(servers_before),
        load_after.saturating_sub(load_before),
    ))
}

/// What is under way.
#[derive(Default)]
struct Phase {
    /// What is done now counts.
    counts: AtomicBool,
    over: AtomicBool,
}

impl Phase {
    fn counts(&self) -> bool {
        self.counts.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}
