//! What the door asks of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use starling_strong::api::{Answer, Failure, Options, Request, Status, Watch, WatchUpdate};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// The way to the node. Bounded: where it is full, requests are refused and watches wait.
pub type Calls = mpsc::Sender<Call>;

/// Where a watch's updates go; several watches share one. The door keeps it large enough for all that it
/// has asked for: within a watch's credit there is always room, so the node never waits.
pub type WatchUpdates = mpsc::Sender<(WatchId, WatchUpdate)>;

/// What came of a request.
pub type Answered = Result<Answer, Failure>;

/// Answers on their way to a door, and who waits for each.
pub type Answers = mpsc::Sender<(oneshot::Sender<Answered>, Answered)>;

/// Who waits for an answer.
#[derive(Debug)]
pub struct Reply {
    waiter: oneshot::Sender<Answered>,
    answers: Option<Answers>,
}

impl Reply {
    /// The way of an answer. To wake a task of another thread takes a system call: with `answers`, what is
    /// answered at one instant takes one.
    pub fn new(answers: Option<Answers>) -> (Self, oneshot::Receiver<Answered>) {
        let (waiter, answer) = oneshot::channel();
        (Self { waiter, answers }, answer)
    }

    /// Answers. Whoever has gone away does not want to know.
    pub fn send(self, answer: Answered) {
        let sent = match self.answers {
            Some(answers) => answers.try_send((self.waiter, answer)).map_err(TrySendError::into_inner),
            None => Err((self.waiter, answer)),
        };
        // Nobody passes it on, or there is no room.
        if let Err((waiter, answer)) = sent {
            drop(waiter.send(answer));
        }
    }
}

/// Names a watch within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

impl WatchId {
    /// A name that nobody has had.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The same as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// One thing asked of the node.
#[derive(Debug)]
pub enum Call {
    /// A read or a write. It is answered within the time that the options give, whatever happens.
    Request {
        /// The strong keyspace.
        keyspace: Arc<str>,
        /// What is asked.
        request: Request,
        /// How to carry it out.
        options: Options,
        /// A request whose client has gone is carried out all the same.
        reply: Reply,
    },
    /// Begins a watch. The first update is `Created`, `Compacted` or `Lost`. The watch ends with
    /// [`Call::Unwatch`], with the last two, and where `updates` turns out to be closed.
    Watch {
        /// The strong keyspace.
        keyspace: Arc<str>,
        /// Comes with every update.
        id: WatchId,
        /// What to watch.
        watch: Watch,
        /// `Events` and `Progress` that may be sent before [`Call::More`]; the others are always welcome.
        credit: u32,
        /// Where updates go.
        updates: WatchUpdates,
    },
    /// So many more updates may be sent. Unknown watches have ended, here and below.
    More {
        /// The watch.
        id: WatchId,
        /// How many.
        credit: u32,
    },
    /// Have this watch say `Progress` after all that it has to tell by now.
    Progress {
        /// The watch.
        id: WatchId,
    },
    /// Ends a watch.
    Unwatch {
        /// The watch.
        id: WatchId,
    },
    /// How the group of a keyspace stands.
    Status {
        /// The strong keyspace.
        keyspace: Arc<str>,
        /// As its leader sees it, if that one can be asked: it knows more than the others. Otherwise as the
        /// member here does, or any.
        of_leader: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Status, Failure>>,
    },
}
