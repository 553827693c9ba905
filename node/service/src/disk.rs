//! The thread that waits for the disk, so that gossip never does: it syncs the store's log at the
//! configured durability and keeps the remembered peers.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use starling_proto::NodeRecord;
use starling_rocks::RocksEngine;
use tokio::sync::{oneshot, watch};
use tracing::error;

use super::command::Written;
use super::credentials::Credentials;
use super::data_dir::DataDir;
use super::error::unsynced;
use crate::config::Durability;

/// How long a write may be in memory only at `everysec`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two reports of failed writes in the log, at least. A guess.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The receiver of a write's outcome, and the outcome.
pub type Acknowledgement = (oneshot::Sender<Written>, Written);

/// The work that the disk thread has to do.
#[derive(Default)]
struct Work {
    /// Writes to acknowledge once a sync that begins now has finished. Bounded by the writes in flight.
    acknowledgements: Vec<Acknowledgement>,
    /// Whether something was written since the last sync.
    dirty: bool,
    /// The number of the sync that strong keyspaces wait for.
    strong: Option<u64>,
    /// The peers to store; only the latest ones matter.
    remember: Option<Vec<NodeRecord>>,
    /// The authority's statements and the node's certificate; only the latest matter.
    credentials: Option<Credentials>,
    /// The start of another process with this node's identity, to be kept.
    other_start_ms: Option<u64>,
    stop: bool,
    /// Why the last write or sync failed, until a sync succeeds.
    failure: Option<String>,
    /// When a failure was last reported. A nearly full disk has space for a small write now and then.
    reported: Option<Instant>,
}

struct Shared {
    /// The number of the last sync for strong keyspaces that has finished.
    synced: watch::Sender<u64>,
    work: Mutex<Work>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds work, and wakes the thread after the lock is released.
    fn add(&self, work: impl FnOnce(&mut Work)) {
        work(&mut self.lock());
        self.changed.notify_one();
    }
}

/// The gossip thread's end.
pub struct Disk {
    shared: Arc<Shared>,
    durability: Durability,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread. `engine` is `None` on a seed.
    pub fn start(durability: Durability, engine: Option<RocksEngine>, dir: DataDir) -> std::io::Result<Self> {
        let (synced, _) = watch::channel(0);
        let shared = Arc::new(Shared { synced, work: Mutex::default(), changed: Condvar::new() });
        let worker = Worker { shared: Arc::clone(&shared), engine, dir };
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || worker.run())?;
        Ok(Self { shared, durability, thread: Some(thread) })
    }

    /// Acknowledges a group of writes that have been applied: at once, or after a sync.
    pub fn acknowledge(&self, group: Vec<Acknowledgement>) {
        let written = group.iter().any(|(_, result)| result.is_ok());
        if !written || self.durability != Durability::Always {
            send_all(group);
            if written {
                self.wrote();
            }
            return;
        }
        self.shared.add(|work| {
            work.acknowledgements.extend(group);
            work.dirty = true;
        });
    }

    /// Syncs for strong keyspaces, at every durability of the eventual ones. A sync that fails is tried again every
    /// second; [`Disk::synced`] notifies of success only. See [`RocksEngine::sync`] for the failures after which no sync
    /// succeeds.
    pub fn sync_strong(&self, number: u64) {
        self.shared.add(|work| work.strong = Some(number));
    }

    /// The number of the last successful sync for strong keyspaces.
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.shared.synced.subscribe()
    }

    /// Records a write whose sync no client waits for.
    pub fn wrote(&self) {
        if self.durability != Durability::No && !self.shared.lock().dirty {
            self.shared.add(|work| work.dirty = true);
        }
    }

    /// Keeps these peers for the next start.
    pub fn remember(&self, peers: Vec<NodeRecord>) {
        self.shared.add(|work| work.remember = Some(peers));
    }

    /// Keeps these credentials for the next start.
    pub fn keep_credentials(&self, credentials: Credentials) {
        self.shared.add(|work| work.credentials = Some(credentials));
    }

    /// Lets the next start be later than that of another process with this node's identity.
    pub fn note_start(&self, started_ms: u64) {
        self.shared.add(|work| work.other_start_ms = Some(started_ms));
    }

    /// Why the last write or sync failed, until a sync succeeds.
    pub fn failure(&self) -> Option<String> {
        self.shared.lock().failure.clone()
    }

    /// Records that a write failed. Syncs are tried every second until one succeeds. Returns whether to report it: not for
    /// the same reason again, and not more than once in [`REPORT_INTERVAL`].
    pub fn failed(&self, reason: &str) -> bool {
        let mut work = self.shared.lock();
        if work.failure.as_deref() == Some(reason) {
            return false;
        }
        work.failure = Some(reason.to_owned());
        let is_due = work.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if is_due {
            work.reported = Some(Instant::now());
        }
        drop(work);
        self.shared.changed.notify_one();
        is_due
    }

    /// Does what is left, syncs, and ends the thread.
    pub fn stop(&mut self) {
        self.shared.add(|work| work.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the disk thread has panicked");
        }
    }
}

fn send_all(group: Vec<Acknowledgement>) {
    for (reply, result) in group {
        // The client may be gone.
        let _ = reply.send(result);
    }
}

struct Worker {
    shared: Arc<Shared>,
    engine: Option<RocksEngine>,
    dir: DataDir,
}

impl Worker {
    fn run(self) {
        // The sync for strong keyspaces that has failed and is tried again.
        let mut failed = None;
        loop {
            let work = self.take_work();
            let strong = work.strong.or(failed);
            if work.dirty || work.failure.is_some() || strong.is_some() {
                let is_durable = self.sync(work.acknowledgements, strong);
                failed = strong.filter(|_| !is_durable);
            }
            if let Some(peers) = work.remember {
                self.dir.save_peers(&peers);
            }
            if let Some(credentials) = work.credentials
                && let Err(error) = credentials.save(&self.dir)
            {
                error!(%error, "the authority's statements cannot be kept: after its next start this node lacks them");
            }
            if let Some(started_ms) = work.other_start_ms {
                self.dir.note_start(started_ms);
            }
            if work.stop {
                return;
            }
        }
    }

    /// Waits until there is work. Writes that no client waits for are gathered for a second; an idle node is not
    /// woken at all. After a failure a sync is tried every second: the disk may have space again.
    fn take_work(&self) -> Work {
        let mut work = self.shared.lock();
        let mut dirty_since = None;
        loop {
            if work.stop
                || work.strong.is_some()
                || !work.acknowledgements.is_empty()
                || work.remember.is_some()
                || work.credentials.is_some()
                || work.other_start_ms.is_some()
            {
                break;
            }
            if !work.dirty && work.failure.is_none() {
                work = self.shared.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let due = *dirty_since.get_or_insert_with(Instant::now) + SYNC_INTERVAL;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            work = self.shared.changed.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (stop, failure, reported) = (work.stop, work.failure.clone(), work.reported);
        std::mem::replace(&mut *work, Work { stop, failure, reported, ..Work::default() })
    }

    /// All of `group` was written before this sync begins. Returns whether it is durable.
    fn sync(&self, group: Vec<Acknowledgement>, strong: Option<u64>) -> bool {
        let Some(engine) = &self.engine else { return false };
        let failure = engine.sync().err();
        let text = failure.as_ref().map(ToString::to_string);
        let before = std::mem::replace(&mut self.shared.lock().failure, text.clone());
        if let Some(reason) = text.filter(|reason| before.as_ref() != Some(reason)) {
            error!(%reason, "the log cannot be synced: what was written may not survive a power loss");
        }
        if let (Some(number), None) = (strong, &failure) {
            self.shared.synced.send_replace(number);
        }
        let Some(reason) = failure else {
            send_all(group);
            return true;
        };
        let failed = |written: Written| written.and_then(|_| Err(unsynced(&reason)));
        send_all(group.into_iter().map(|(reply, written)| (reply, failed(written))).collect());
        false
    }
}

#[cfg(test)]
mod tests {
    use starling_api::{Error, ErrorCode};
    use starling_rocks::RocksOptions;

    use super::*;

    #[tokio::test]
    async fn a_write_whose_sync_failed_has_an_unknown_outcome() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        drop(RocksEngine::open(&dir.store(), &RocksOptions::default()).expect("creates it"));
        // A sync of what is open for reading fails.
        let engine = RocksEngine::open_read_only(&dir.store(), &RocksOptions::default()).expect("opens");
        let mut disk = Disk::start(Durability::Always, Some(engine), dir).expect("starts");
        let refused = Error::invalid("the batch itself", "another batch");
        let ((written, outcome), (other, refusal)) = (oneshot::channel(), oneshot::channel());
        disk.acknowledge(vec![(written, Ok(Vec::new())), (other, Err(refused.clone()))]);
        let error = outcome.await.expect("an answer").expect_err("the sync failed");
        assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}");
        assert_eq!(refusal.await.expect("an answer"), Err(refused), "it was not written");
        disk.stop();
    }
}
