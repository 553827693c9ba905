//! One strong keyspace, as servers and embedding programs see it.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use starling_access::Operation;
use starling_api::strong::Staleness;
use starling_api::{Error, escaped};
use starling_strong::api::{
    Answer, Delete, Event, Failure, Keys, Options, Request, Status, Watch, WatchUpdate, Write,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::access::{Caller, TOKEN_OVER, WatchPlace};
use crate::call::{Answers, Call, Calls, EtcdServer, Reply, WatchId, WatchUpdates};
use crate::error::{failure_error, stopping};

/// Updates that a watch may receive before it allows more. An estimate: the client reads one while the next are on
/// their way.
const CREDIT: u32 = 4;
/// Room for the credit and for the two updates that need none: the first and the last.
const UPDATES_MAX: usize = CREDIT as usize + 2;

/// Why a strong keyspace gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrongError {
    /// The keyspace, or the way to it, failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The node has stopped. A write may have been applied.
    #[error("the node is stopping")]
    Stopped,
    /// The caller may not do this. Nothing was changed.
    #[error("{}", .0.message)]
    Forbidden(Error),
}

impl From<StrongError> for Error {
    fn from(error: StrongError) -> Self {
        match error {
            StrongError::Failed(failure) => failure_error(&failure),
            StrongError::Stopped => stopping(),
            StrongError::Forbidden(error) => error,
        }
    }
}

/// A strong keyspace, reached through this node: [`Handle::strong`](crate::Handle::strong). Cheap to clone.
#[derive(Clone)]
pub struct StrongKeyspace {
    keyspace: Arc<str>,
    node: [u8; 32],
    calls: Calls,
    answers: Option<Answers>,
    caller: Caller,
}

impl StrongKeyspace {
    /// The keyspace behind a queue of calls of a node. Programs get one from [`Handle::strong`](crate::Handle::strong);
    /// tests of servers bring a queue of their own.
    pub fn new(keyspace: impl Into<Arc<str>>, node: [u8; 32], calls: Calls) -> Self {
        Self { keyspace: keyspace.into(), node, calls, answers: None, caller: Caller::program(None) }
    }

    /// The same keyspace, with the rights of a caller.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// Whose rights it has.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    fn authorize(&self, operation: &Operation) -> Result<(), StrongError> {
        self.caller.check(operation).map_err(StrongError::Forbidden)
    }

    /// The public key of the node through which it is reached.
    pub fn node(&self) -> [u8; 32] {
        self.node
    }

    /// The same keyspace with answers sent to this channel, to be handed on by the thread that waits for
    /// them: answers that are ready at one instant wake that thread once.
    #[must_use]
    pub fn with_answers(self, answers: Answers) -> Self {
        Self { answers: Some(answers), ..self }
    }

    /// Its name.
    pub fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// Carries a request out within `timeout_ms` of the options. Fails at once with [`Failure::Overloaded`] if the
    /// queue is full.
    ///
    /// If the future is dropped, a queued write may still be applied.
    pub async fn request(&self, mut request: Request, options: Options) -> Result<Answer, StrongError> {
        self.caller.choose_lease(&mut request);
        let fence = options.fence.as_ref();
        self.authorize(&Operation::Request { keyspace: &self.keyspace, request: &request, fence })?;
        let swept = swept(&request);
        let outcome = self.carry_out(request, options).await;
        if let Some((action, target)) = swept {
            let target = format!("{}: {target}", self.keyspace);
            match &outcome {
                Ok(_) => self.caller.record_swept(action, &target, Ok(())),
                Err(error) => self.caller.record_swept(action, &target, Err(&error.clone().into())),
            }
        }
        outcome
    }

    async fn carry_out(&self, request: Request, options: Options) -> Result<Answer, StrongError> {
        let (reply, answer) = Reply::new(self.answers.clone());
        let keyspace = Arc::clone(&self.keyspace);
        match self.calls.try_send(Call::Request { keyspace, request, options, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Failure::Overloaded.into()),
            Err(TrySendError::Closed(_)) => return Err(StrongError::Stopped),
        }
        Ok(answer.await.map_err(|_| StrongError::Stopped)??)
    }

    /// Reads the replica on this node, and returns the age of what it read. The replica's status is read first: what
    /// is read after it is no older.
    pub async fn request_stale(
        &self,
        request: Request,
        options: Options,
    ) -> Result<(Answer, Staleness), StrongError> {
        let began = Instant::now();
        let (status, answer) = futures::join!(self.status(false), self.request(request, options));
        let (answer, status) = (answer?, status?);
        let since_ms = began.elapsed().as_millis() as u64;
        let staleness = Staleness {
            heard_ms: status.heard_ms.map(|ms| ms.saturating_add(since_ms)),
            applied_index: status.applied_index,
            commit_index: status.commit_index,
        };
        Ok((answer, staleness))
    }

    /// Queues a write without waiting for its answer. If the queue is full, or the caller may not write so, the write is
    /// dropped.
    pub fn order(&self, write: Write, timeout_ms: u64) {
        let (request, fence) = (Request::Write(write), None);
        let operation = Operation::Request { keyspace: &self.keyspace, request: &request, fence };
        if self.authorize(&operation).is_err() {
            return;
        }
        let (reply, _) = Reply::new(None);
        let options = Options { timeout_ms, stale: false, id: None, fence: None };
        let keyspace = Arc::clone(&self.keyspace);
        drop(self.calls.try_send(Call::Request { keyspace, request, options, reply }));
    }

    /// The group's status: with `of_leader` the leader's if it answers, otherwise that of any member.
    pub async fn status(&self, of_leader: bool) -> Result<Status, StrongError> {
        let (reply, answer) = oneshot::channel();
        let keyspace = Arc::clone(&self.keyspace);
        self.send(Call::Status { keyspace, of_leader, reply }).await?;
        Ok(answer.await.map_err(|_| StrongError::Stopped)??)
    }

    /// The nodes that serve it to etcd clients, as far as this node knows; itself included if it does.
    pub async fn etcd_servers(&self) -> Result<Vec<EtcdServer>, StrongError> {
        let (reply, answer) = oneshot::channel();
        self.send(Call::Servers { keyspace: Arc::clone(&self.keyspace), reply }).await?;
        answer.await.map_err(|_| StrongError::Stopped)
    }

    /// Watches keys, from a revision on or from now on.
    pub async fn watch(&self, watch: Watch) -> Result<StrongWatch, StrongError> {
        let (sender, updates) = mpsc::channel(UPDATES_MAX);
        let id = WatchId::fresh();
        let place = self.caller.watch_place().map_err(StrongError::Forbidden)?;
        self.begin_watch(id, watch, CREDIT, sender).await?;
        let (keyspace, over) = (self.clone(), self.caller.over());
        Ok(StrongWatch { keyspace, id, updates, taken: 0, is_due: false, over, _place: place, ended: false })
    }

    // ---- many watches over one channel, for servers that multiplex them

    /// Whether the caller may watch these keys.
    pub fn may_watch(&self, watch: &Watch) -> Result<(), StrongError> {
        self.authorize(&Operation::Watch { keyspace: &self.keyspace, keys: &watch.keys })
    }

    /// Begins a watch whose updates go to a channel of the caller. The channel needs room for the credit and for the
    /// first and the last update; see [`Call::Watch`].
    pub async fn begin_watch(
        &self,
        id: WatchId,
        watch: Watch,
        credit: u32,
        updates: WatchUpdates,
    ) -> Result<(), StrongError> {
        self.may_watch(&watch)?;
        let keyspace = Arc::clone(&self.keyspace);
        self.send(Call::Watch { keyspace, id, watch, credit, updates }).await
    }

    /// Allows a watch this many more updates.
    pub async fn allow(&self, id: WatchId, credit: u32) -> Result<(), StrongError> {
        self.send(Call::More { id, credit }).await
    }

    /// Asks a watch to report its progress after everything that it has to report now.
    pub async fn request_progress(&self, id: WatchId) -> Result<(), StrongError> {
        self.send(Call::Progress { id }).await
    }

    /// Ends watches.
    pub async fn end_watches(&self, ids: Vec<WatchId>) -> Result<(), StrongError> {
        self.send(Call::Unwatch { ids }).await
    }

    /// Ends a watch without waiting. If the queue is full, the node ends the watch at its next update, because the
    /// channel is closed.
    pub fn abandon_watch(&self, id: WatchId) {
        drop(self.calls.try_send(Call::Unwatch { ids: vec![id] }));
    }

    /// Whether the node has stopped.
    pub fn is_stopped(&self) -> bool {
        self.calls.is_closed()
    }

    /// Queues a call, once there is room.
    async fn send(&self, call: Call) -> Result<(), StrongError> {
        self.calls.send(call).await.map_err(|_| StrongError::Stopped)
    }
}

/// What a request destroys without naming each key: its name and its target for the audit log.
fn swept(request: &Request) -> Option<(&'static str, String)> {
    match request {
        Request::Write(Write::Compact { revision }) => Some(("keyspace compact", revision.to_string())),
        Request::Write(Write::Delete(Delete { keys: Keys::Range { from, to }, .. })) => {
            let to = to.as_ref().map_or_else(|| "the last key".into(), |to| escaped(to));
            Some(("del of a range", format!("{} to {to}", escaped(from))))
        }
        _ => None,
    }
}

/// A watch of a strong keyspace: [`StrongKeyspace::watch`]. Dropping it ends it.
pub struct StrongWatch {
    keyspace: StrongKeyspace,
    id: WatchId,
    updates: mpsc::Receiver<(WatchId, WatchUpdate)>,
    /// Updates received since the node was last allowed more.
    taken: u32,
    /// Whether the node is to be allowed more at once, because the last update was large.
    is_due: bool,
    /// Completes when the caller's token counts no more.
    over: BoxFuture<'static, ()>,
    _place: WatchPlace,
    ended: bool,
}

/// An event of a [`StrongWatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrongWatchEvent {
    /// The watch has begun: changes after this revision follow.
    Ready {
        /// The last revision whose changes are not reported.
        revision: u64,
    },
    /// Changes in order, none left out; those of one revision come together.
    Changes(Vec<Event>),
    /// The last event: revisions before `oldest` are no longer kept.
    Compacted {
        /// The oldest revision that is kept.
        oldest: u64,
    },
    /// The last event: resume from the revision after the last one reported.
    Lost {
        /// The reason, for people.
        reason: String,
    },
}

impl StrongWatch {
    /// The next event; `None` after the last one, and once the node has stopped.
    pub async fn next(&mut self) -> Option<StrongWatchEvent> {
        while !self.ended {
            self.allow_more().await;
            let update = tokio::select! {
                update = self.updates.recv() => update?.1,
                () = &mut self.over => WatchUpdate::Lost { reason: TOKEN_OVER.into() },
            };
            let is_large = update.is_large();
            match update {
                WatchUpdate::Created { revision } => return Some(StrongWatchEvent::Ready { revision }),
                WatchUpdate::Events { events, .. } => {
                    self.taken += 1;
                    self.is_due = is_large;
                    return Some(StrongWatchEvent::Changes(events));
                }
                WatchUpdate::Progress { .. } => self.taken += 1,
                WatchUpdate::Compacted { oldest } => {
                    self.ended = true;
                    return Some(StrongWatchEvent::Compacted { oldest });
                }
                WatchUpdate::Lost { reason } => {
                    self.ended = true;
                    return Some(StrongWatchEvent::Lost { reason });
                }
            }
        }
        None
    }

    /// Allows the node as many more updates as were received, several at a time. Waits for room in the queue; if that
    /// is cancelled, the next call allows them, so no credit is lost.
    async fn allow_more(&mut self) {
        let is_due = self.is_due || self.taken >= CREDIT / 2;
        if is_due && self.keyspace.allow(self.id, self.taken).await.is_ok() {
            (self.taken, self.is_due) = (0, false);
        }
    }
}

impl Drop for StrongWatch {
    fn drop(&mut self) {
        self.keyspace.abandon_watch(self.id);
    }
}
