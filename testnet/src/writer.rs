//! Writes that go on while nodes die: what was acknowledged must be on every node in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use starling_api::Precondition;
use starling_client::Client;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::data::Records;
use crate::error::{Error, Result};
use crate::network::{Network, generator};

/// Pause between two writes.
const PACE: Duration = Duration::from_millis(5);
/// A write without an answer is given up on after this time: its node is dead.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// A task that writes through random nodes until it is stopped.
#[derive(Debug)]
pub struct Writer {
    task: JoinHandle<Written>,
    stop: oneshot::Sender<()>,
    acknowledged: Arc<AtomicU64>,
}

/// What it wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// The writes that were acknowledged.
    pub acknowledged: Records,
    /// Writes that got no answer; they may or may not have been made.
    pub unanswered: u64,
}

impl Writer {
    /// Begins to write new keys into a keyspace through the nodes that run now. A node that does not
    /// answer is left out from then on.
    pub fn start(network: &Network, keyspace: &str, seed: u64) -> Result<Self> {
        let clients =
            network.live().iter().map(|i| network.node(*i).client().cloned()).collect::<Result<Vec<_>>>()?;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let task =
            tokio::spawn(write(clients, keyspace.to_string(), seed, stopped, Arc::clone(&acknowledged)));
        Ok(Self { task, stop, acknowledged })
    }

    /// How many writes have been acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Stops it after the write it is at.
    pub async fn stop(self) -> Result<Written> {
        let _ = self.stop.send(());
        self.task.await.map_err(|e| Error::Broken(format!("the writer ended: {e}")))
    }
}

async fn write(
    mut clients: Vec<Client>,
    keyspace: String,
    seed: u64,
    mut stopped: oneshot::Receiver<()>,
    acknowledged: Arc<AtomicU64>,
) -> Written {
    let mut random = generator(seed, 4);
    let mut written = Written::default();
    for (key, value) in crate::load::made_up(seed, "ongoing-", u64::from(u32::MAX)) {
        if clients.is_empty() || stopped.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
            break;
        }
        let through = random.random_range(0..clients.len());
        let put = clients[through].put(&keyspace, key.as_bytes(), value.clone(), None, &Precondition::Any);
        if let Ok(Ok(_)) = tokio::time::timeout(ANSWER_DEADLINE, put).await {
            written.acknowledged.insert(key, value);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        } else {
            written.unanswered += 1;
            clients.remove(through);
        }
        tokio::time::sleep(PACE).await;
    }
    written
}
