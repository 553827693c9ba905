//! Watching a keyspace at every node at once, all on one clock.

use std::time::{Duration, Instant};

use starling_api::WatchEvent;
use starling_client::Watch;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::network::Network;
use starling_report::Spread;

/// Sightings waiting to be counted; a watcher of a node waits when it is full. Writes are measured
/// one at a time, so that one per node is enough; the rest is room.
const SIGHTINGS_MAX: usize = 4096;
/// A write must be readable everywhere within this time.
const SPREAD_DEADLINE: Duration = Duration::from_secs(30);

/// Open watches on every running replica.
#[derive(Debug)]
pub struct Observer {
    keyspace: String,
    names: Vec<String>,
    sightings: mpsc::Receiver<Sighting>,
    _watchers: JoinSet<()>,
}

/// A key became readable on a node, or the watch ended.
#[derive(Debug)]
struct Sighting {
    node: usize,
    at: Instant,
    key: Result<Vec<u8>, String>,
}

impl Observer {
    /// Opens the watches and waits until all are ready.
    pub async fn open(network: &Network, keyspace: &str) -> Result<Self> {
        let (sender, sightings) = mpsc::channel(SIGHTINGS_MAX);
        let mut watchers = JoinSet::new();
        let mut names = Vec::new();
        for index in network.live() {
            let node = network.node(index);
            let mut watch = node.client()?.watch(keyspace, b"").await.map_err(node.failed())?;
            match watch.next_event().await {
                Some(Ok(WatchEvent::Ready)) => {}
                Some(Err(error)) => return Err(node.failed()(error)),
                other => return Err(Error::Broken(format!("{}: a watch began with {other:?}", node.name()))),
            }
            watchers.spawn(forward(watch, names.len(), sender.clone()));
            names.push(node.name().to_string());
        }
        Ok(Self { keyspace: keyspace.into(), names, sightings, _watchers: watchers })
    }

    /// Writes a key, which must be new, through one node and waits until every node shows it.
    pub async fn spread(
        &mut self,
        network: &Network,
        through: usize,
        key: &str,
        value: &[u8],
    ) -> Result<Spread> {
        let node = network.node(through);
        let client = node.client()?;
        let sent = Instant::now();
        client
            .put(&self.keyspace, key.as_bytes(), value.to_vec(), None, &starling_api::Precondition::Any)
            .await
            .map_err(node.failed())?;
        let acknowledged = sent.elapsed();
        let mut arrivals: Vec<Option<Duration>> = vec![None; self.names.len()];
        while arrivals.iter().any(Option::is_none) {
            let left = SPREAD_DEADLINE.saturating_sub(sent.elapsed());
            let sighting = match tokio::time::timeout(left, self.sightings.recv()).await {
                Ok(Some(sighting)) => sighting,
                Ok(None) => return Err(Error::Broken("every watch has ended".into())),
                Err(_) => return Err(self.overdue(key, &arrivals)),
            };
            match sighting.key {
                Ok(seen) if seen == key.as_bytes() => {
                    arrivals[sighting.node].get_or_insert(sighting.at.saturating_duration_since(sent));
                }
                Ok(_) => {}
                Err(reason) => {
                    return Err(Error::Broken(format!(
                        "the watch on {} ended: {reason}",
                        self.names[sighting.node]
                    )));
                }
            }
        }
        Ok(Spread { acknowledged, readable: arrivals.into_iter().flatten().collect() })
    }

    fn overdue(&self, key: &str, arrivals: &[Option<Duration>]) -> Error {
        let missing = self.names.iter().zip(arrivals).filter(|(_, arrival)| arrival.is_none());
        Error::Deadline {
            what: format!("the write of {key} is readable on every node"),
            missing: missing.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
            waited: SPREAD_DEADLINE,
        }
    }
}

async fn forward(mut watch: Watch, node: usize, sightings: mpsc::Sender<Sighting>) {
    loop {
        let event = watch.next_event().await;
        let at = Instant::now();
        let key = match event {
            Some(Ok(WatchEvent::Put(entry))) => Ok(entry.key.0),
            Some(Ok(WatchEvent::Delete { key, .. })) => Ok(key.0),
            Some(Ok(WatchEvent::Ready)) => continue,
            Some(Ok(WatchEvent::Lagged { hint })) => Err(hint),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("closed by the node".into()),
        };
        let ended = key.is_err();
        if sightings.send(Sighting { node, at, key }).await.is_err() || ended {
            return;
        }
    }
}
