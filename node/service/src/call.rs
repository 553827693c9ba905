//! Calls: requests of the servers and of embedding programs to strong keyspaces, on their way to the gossip thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use starling_strong::api::{Answer, Failure, Options, Request, Status, Watch, WatchUpdate};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// The bounded queue of calls. While it is full, requests are rejected and watches wait.
pub type Calls = mpsc::Sender<Call>;

/// The queue of updates of one or more watches. The receiver makes it large enough for the credits of all of them, so
/// that the node never waits.
pub type WatchUpdates = mpsc::Sender<(WatchId, WatchUpdate)>;

/// The outcome of a request.
pub type Answered = Result<Answer, Failure>;

/// A queue of answers, each with its receiver, that a server drains.
pub type Answers = mpsc::Sender<(oneshot::Sender<Answered>, Answered)>;

/// The sender of one answer.
#[derive(Debug)]
pub struct Reply {
    waiter: oneshot::Sender<Answered>,
    answers: Option<Answers>,
}

impl Reply {
    /// A sender and its receiver. Waking a task of another thread takes a system call; with `answers`, all answers of
    /// one instant share one.
    pub fn new(answers: Option<Answers>) -> (Self, oneshot::Receiver<Answered>) {
        let (waiter, answer) = oneshot::channel();
        (Self { waiter, answers }, answer)
    }

    /// Sends the answer; dropped if the receiver is gone.
    pub fn send(self, answer: Answered) {
        let sent = match self.answers {
            Some(answers) => answers.try_send((self.waiter, answer)).map_err(TrySendError::into_inner),
            None => Err((self.waiter, answer)),
        };
        // The queue is closed or full.
        if let Err((waiter, answer)) = sent {
            drop(waiter.send(answer));
        }
    }
}

/// The id of a watch within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

impl WatchId {
    /// An id that was not used before.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The id as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// One call to a strong keyspace.
#[derive(Debug)]
pub enum Call {
    /// A read or a write. It is answered within the deadline in its options.
    Request {
        /// The strong keyspace.
        keyspace: Arc<str>,
        /// The request.
        request: Request,
        /// Its deadline, consistency and request id.
        options: Options,
        /// The sender of the answer. A request is carried out even if its receiver is gone.
        reply: Reply,
    },
    /// Begins a watch. The first update is `Created`, `Compacted` or `Lost`. The watch ends with
    /// [`Call::Unwatch`], with the last two, and when `updates` is closed.
    Watch {
        /// The strong keyspace.
        keyspace: Arc<str>,
        /// The watch's id, which is sent with every update.
        id: WatchId,
        /// The keys, and the revision to begin with.
        watch: Watch,
        /// `Events` and `Progress` that may be sent before [`Call::More`]; other updates need no credit.
        credit: u32,
        /// The queue of its updates.
        updates: WatchUpdates,
    },
    /// Lets more updates of a watch be sent. This and the following calls ignore an unknown watch: it has ended.
    More {
        /// The watch.
        id: WatchId,
        /// The number of further updates.
        credit: u32,
    },
    /// Requests a `Progress` of a watch after all its pending events.
    Progress {
        /// The watch.
        id: WatchId,
    },
    /// Ends watches.
    Unwatch {
        /// The watches. Those of a client that disconnects are in one call, so that they leave room for other calls.
        ids: Vec<WatchId>,
    },
    /// Asks for the status of a keyspace's group.
    Status {
        /// The strong keyspace.
        keyspace: Arc<str>,
        /// Whether the leader's status is preferred, because the leader knows more. Otherwise, and if the leader does
        /// not reply, that of the member on this node or of any.
        of_leader: bool,
        /// The sender of the answer.
        reply: oneshot::Sender<Result<Status, Failure>>,
    },
    /// Asks for the etcd servers of a keyspace that this node knows, its own included.
    Servers {
        /// The strong keyspace.
        keyspace: Arc<str>,
        /// The sender of the answer.
        reply: oneshot::Sender<Vec<EtcdServer>>,
    },
}

/// A node that serves a strong keyspace to etcd clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdServer {
    /// The node's public key.
    pub node: [u8; 32],
    /// Its name.
    pub name: String,
    /// Where its clients connect.
    pub urls: Vec<String>,
}
