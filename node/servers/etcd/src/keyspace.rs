//! The strong keyspace that a listener serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use starling_etcd_proto::etcdserverpb::ResponseHeader;
use starling_service::{Answered, Caller, EtcdServer, StrongError, StrongKeyspace, WatchId, WatchUpdates};
use starling_strong::api::{
    Answer, Failure, Options, Read, Refusal, Request, Revision, Status as Group, Watch, Write,
};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::convert::wire;
use crate::failure::status;

/// Longest deadline of a request, milliseconds: five seconds and twice an election timeout of one second, as in etcd.
pub const REQUEST_MS_MAX: u64 = 7000;
/// Answers that wait for [`pass_on`], at most; further ones are sent to their tasks directly.
const ANSWERS_MAX: usize = 4096;
/// In a row, the looks at the status without a leader after which the group counts as without one: with
/// [`IDENTITY_AGE`] three seconds, as in etcd.
const LEADERLESS: u32 = 3;
/// Longest age of the term in an answer's header.
const IDENTITY_AGE: Duration = Duration::from_secs(1);

/// A handle, with the rights of a caller; cloning it is cheap.
#[derive(Clone)]
pub struct Keyspace {
    keyspace: StrongKeyspace,
    shared: Arc<Shared>,
}

/// What all calls to a listener have in common.
struct Shared {
    cluster: AtomicU64,
    member: AtomicU64,
    /// The highest term that was received: headers never show a lower one than before.
    term: AtomicU64,
    /// The highest revision of a write that was acknowledged here.
    written: AtomicU64,
    /// The highest revision up to which a compaction was acknowledged here.
    compacted: AtomicU64,
    /// Whether the group has a leader, as far as this node knows.
    is_led: watch::Sender<bool>,
}

impl Keyspace {
    /// A handle, and the queue of answers for [`pass_on`].
    pub fn new(keyspace: StrongKeyspace) -> (Self, Answering) {
        let (answers, answering) = mpsc::channel(ANSWERS_MAX);
        let shared = Arc::new(Shared {
            cluster: AtomicU64::new(0),
            member: AtomicU64::new(0),
            term: AtomicU64::new(0),
            written: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
            is_led: watch::Sender::new(true),
        });
        (Self { keyspace: keyspace.with_answers(answers), shared }, answering)
    }

    /// The same keyspace, with the rights of a caller.
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { keyspace: self.keyspace.for_caller(caller), shared: Arc::clone(&self.shared) }
    }

    /// Whose rights it has.
    pub fn caller(&self) -> &Caller {
        self.keyspace.caller()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.keyspace.keyspace()
    }

    /// Sends a request, and waits for its answer. An overloaded node rejects it.
    pub async fn ask(&self, request: Request, timing: Timing) -> Result<Answer, StrongError> {
        let options = Options { timeout_ms: timing.timeout_ms, stale: timing.stale, id: None, fence: None };
        let (is_write, compacted) = match &request {
            Request::Write(Write::Compact { revision }) => (true, *revision),
            request => (matches!(request, Request::Write(_)), 0),
        };
        let answer = self.keyspace.request(request, options).await.map_err(|error| match error {
            // etcd's clients get a timeout when a server stops during their request.
            StrongError::Stopped => Failure::Timeout(self.keyspace.keyspace().to_owned()).into(),
            error => error,
        })?;
        if is_write {
            self.shared.written.fetch_max(answer.revision, Ordering::Relaxed);
            self.shared.compacted.fetch_max(compacted, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// Whether the answer to a stale read shows every write that was acknowledged here. In etcd it does, because a
    /// member answers a write only after it has applied it; here the leader does, and this member may be behind.
    pub fn shows_writes(&self, read: &Read, answer: &Result<Answer, StrongError>) -> bool {
        let written = self.shared.written.load(Ordering::Relaxed);
        let is_compacted =
            read.oldest_revision().is_some_and(|at| at < self.shared.compacted.load(Ordering::Relaxed));
        match answer {
            Ok(answer) => answer.revision >= written && !is_compacted,
            Err(StrongError::Failed(Failure::Refused(Refusal::FutureRevision { now, .. }))) => {
                *now >= written
            }
            Err(_) => true,
        }
    }

    /// Sends a write with the longest deadline.
    pub async fn write(&self, write: Write) -> Result<Answer, StrongError> {
        self.ask(Request::Write(write), Timing::default()).await
    }

    /// Sends a linearizable read with the longest deadline.
    pub async fn read(&self, read: Read) -> Result<Answer, StrongError> {
        self.ask(Request::Read(read), Timing::default()).await
    }

    /// Whether the caller may watch these keys.
    pub fn may_watch(&self, watch: &Watch) -> bool {
        self.keyspace.may_watch(watch).is_ok()
    }

    /// Begins a watch; see [`StrongKeyspace::begin_watch`].
    pub async fn watch(
        &self,
        id: WatchId,
        watch: Watch,
        credit: u32,
        updates: WatchUpdates,
    ) -> Result<(), Status> {
        self.keyspace.begin_watch(id, watch, credit, updates).await.map_err(|error| status(&error))
    }

    /// Allows a watch this many more updates.
    pub async fn allow(&self, id: WatchId, credit: u32) -> Result<(), Status> {
        self.keyspace.allow(id, credit).await.map_err(|error| status(&error))
    }

    /// Requests the progress of a watch.
    pub async fn request_progress(&self, id: WatchId) -> Result<(), Status> {
        self.keyspace.request_progress(id).await.map_err(|error| status(&error))
    }

    /// Ends watches.
    pub async fn end_watches(&self, ids: Vec<WatchId>) -> Result<(), Status> {
        self.keyspace.end_watches(ids).await.map_err(|error| status(&error))
    }

    /// Ends a watch without waiting.
    pub fn abandon_watch(&self, id: WatchId) {
        self.keyspace.abandon_watch(id);
    }

    /// Sends a write without waiting for its answer. An overloaded node drops it.
    pub fn order(&self, write: Write) {
        self.keyspace.order(write, REQUEST_MS_MAX);
    }

    /// The status of the group.
    pub async fn status(&self) -> Result<Group, Status> {
        let group = self.keyspace.status(false).await.map_err(|error| status(&error))?;
        self.shared.cluster.store(cluster_id(group.group), Ordering::Relaxed);
        self.shared.member.store(self.member_id(&group), Ordering::Relaxed);
        self.shared.term.fetch_max(group.term, Ordering::Relaxed);
        Ok(group)
    }

    /// This node's id among the members: that of its own member, or an id of the node outside of the group, which
    /// therefore never is the leader's.
    pub fn member_id(&self, group: &Group) -> u64 {
        let node = self.keyspace.node();
        group
            .members
            .iter()
            .find(|member| member.node == node)
            .map_or_else(|| outside_id(node), |member| member.id)
    }

    /// The nodes that serve the keyspace to etcd clients, as far as this node knows.
    pub async fn etcd_servers(&self) -> Result<Vec<EtcdServer>, Status> {
        self.keyspace.etcd_servers().await.map_err(|error| status(&error))
    }

    /// The header of an answer at this revision.
    #[allow(clippy::unnecessary_wraps, reason = "the field of every message is optional")]
    pub fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.shared.cluster.load(Ordering::Relaxed),
            member_id: self.shared.member.load(Ordering::Relaxed),
            revision: wire(revision),
            raft_term: self.shared.term.load(Ordering::Relaxed),
        })
    }

    /// Completes when the group has had no leader for a few seconds.
    pub async fn lost_leader(&self) {
        let mut is_led = self.shared.is_led.subscribe();
        // The sender lives as long as this handle.
        drop(is_led.wait_for(|is_led| !is_led).await);
    }

    /// Refreshes the facts in headers, and notices the loss of the leader. Ends with the node.
    pub async fn keep_identity(&self) {
        let mut failures = 0;
        loop {
            // On failure the headers have an older term for a moment.
            let is_led = self.status().await.is_ok_and(|group| group.leader.is_some());
            failures = if is_led { 0 } else { failures + 1 };
            let is_led = failures < LEADERLESS;
            self.shared.is_led.send_if_modified(|before| std::mem::replace(before, is_led) != is_led);
            if self.keyspace.is_stopped() {
                return;
            }
            tokio::time::sleep(IDENTITY_AGE).await;
        }
    }
}

/// The queue of answers from the node.
pub type Answering = mpsc::Receiver<(oneshot::Sender<Answered>, Answered)>;

/// Passes answers to the tasks that wait for them, on the server's thread.
pub async fn pass_on(answering: &mut Answering) {
    let mut taken = Vec::new();
    while answering.recv_many(&mut taken, ANSWERS_MAX).await > 0 {
        for (waiter, answer) in taken.drain(..) {
            drop(waiter.send(answer));
        }
    }
}

/// The cluster id of a group: the first eight bytes of the group's id.
pub fn cluster_id(group: [u8; 16]) -> u64 {
    first_bytes(&group)
}

/// The id of a node that is no member: the first eight bytes of its public key.
pub fn outside_id(node: [u8; 32]) -> u64 {
    first_bytes(&node)
}

fn first_bytes(id: &[u8]) -> u64 {
    id.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The deadline of a request, and whether its answer may be stale.
#[derive(Clone, Copy)]
pub struct Timing {
    pub timeout_ms: u64,
    pub stale: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self { timeout_ms: REQUEST_MS_MAX, stale: false }
    }
}

impl Timing {
    /// The timing of a request with this metadata.
    pub fn of(metadata: &MetadataMap) -> Self {
        let asked = metadata.get("grpc-timeout").and_then(|value| timeout_ms(value.as_bytes()));
        Self { timeout_ms: asked.unwrap_or(REQUEST_MS_MAX).min(REQUEST_MS_MAX), stale: false }
    }
}

/// Parses a timeout (gRPC over HTTP/2, "Timeout"): at most eight digits, and a unit.
fn timeout_ms(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut count = 0_u64;
    for digit in digits {
        count = count * 10 + u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    match unit {
        b'H' => Some(count * 3_600_000),
        b'M' => Some(count * 60_000),
        b'S' => Some(count * 1000),
        b'm' => Some(count),
        b'u' => Some(count / 1000),
        b'n' => Some(count / 1_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{cluster_id, timeout_ms};

    #[test]
    fn deadlines_are_read_in_every_unit() {
        assert_eq!(timeout_ms(b"1H"), Some(3_600_000));
        assert_eq!(timeout_ms(b"2M"), Some(120_000));
        assert_eq!(timeout_ms(b"99999999S"), Some(99_999_999_000));
        assert_eq!(timeout_ms(b"20m"), Some(20));
        assert_eq!(timeout_ms(b"4999999u"), Some(4999));
        assert_eq!(timeout_ms(b"5n"), Some(0));
        for nonsense in ["", "m", "123456789m", "-1m", "1", "1x", "1 m"] {
            assert_eq!(timeout_ms(nonsense.as_bytes()), None, "{nonsense}");
        }
    }

    #[test]
    fn a_cluster_has_its_groups_name() {
        let mut group = [9; 16];
        group[..8].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
        assert_eq!(cluster_id(group), 0x0102_0304_0506_0708);
    }
}
