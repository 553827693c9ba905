//! How a client asks: through one node after the other, again while it may, until somebody answers.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use starling_api::strong::{Fence, Request, RequestId, StrongAnswer, StrongCall};
use starling_api::{Error as ApiError, ErrorCode};
use starling_client::new_request_id;
use tokio::time::{Instant, sleep, timeout};

use super::KEYSPACE;
use super::members::Members;
use super::tally::Tally;

/// How long a client asks until it gives up.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long one node may take; then another is asked.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// A node says by itself that it was too late; one that stands still says nothing, and is given up so much
/// later.
const GRACE: Duration = Duration::from_millis(250);
/// Pause before another attempt, at most.
const PAUSE_MS: u64 = 120;

/// Names of operations: attempts at one node, and requests with all their attempts; reads and writes.
const ONE_NODE: [&str; 2] = ["strong read, one node", "strong write, one node"];
const RETRIED: [&str; 2] = ["strong read, retried", "strong write, retried"];

/// How often a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Once: it is a write without a name.
    Once,
    /// Again and again, under one name: it is applied once.
    Named,
    /// Again and again: doing it twice is doing it once.
    Repeated,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    Done(StrongAnswer),
    /// The state machine said no.
    Refused(ApiError),
    /// Every node that was asked said that it had changed nothing.
    Failed,
    Unknown,
}

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it was first sent, and when it was over, microseconds of the run.
    pub start: u64,
    pub end: u64,
    pub fate: Fate,
}

/// What one attempt came to.
enum Attempt {
    Done(StrongAnswer),
    Refused(ApiError),
    ChangedNothing,
    Unknown,
}

/// One client: its name, its place and its luck.
#[derive(Debug)]
pub struct Asker {
    members: Members,
    pub tally: Tally,
    pub random: ChaCha8Rng,
    name: u128,
    number: usize,
    /// Writes that it has named.
    named: u64,
    /// Of these, the last one that was answered; what came before it is not asked for again.
    answered: u64,
    node: usize,
}

impl Asker {
    /// A client that begins at any node.
    pub fn new(members: Members, tally: Tally, mut random: ChaCha8Rng) -> Self {
        let name = new_request_id();
        let node = random.random_range(0..members.count());
        let number = tally.client();
        Self { members, tally, random, name, number, named: 0, answered: 0, node }
    }

    /// Asks, and counts under `kind` what became of it.
    pub async fn ask(
        &mut self,
        kind: &'static str,
        manner: Manner,
        request: Request,
        fence: Option<Fence>,
    ) -> Asked {
        let request_id = (manner == Manner::Named).then(|| {
            self.named += 1;
            RequestId { client: self.name, seq: self.named, answered_below: self.answered + 1 }
        });
        let mut call = StrongCall { request_id, fence, ..request.into() };
        let (began, start) = (Instant::now(), self.tally.now_us());
        let fate = self.pursue(kind, manner, &mut call, began + PATIENCE).await;
        let end = self.tally.now_us();
        if manner == Manner::Named && matches!(fate, Fate::Done(_) | Fate::Refused(_)) {
            self.answered = self.named;
        }
        let is_write = matches!(call.request, Request::Write(_));
        if manner != Manner::Once {
            let succeeded = matches!(fate, Fate::Done(_) | Fate::Refused(_));
            self.tally.ended(self.number, RETRIED[usize::from(is_write)], [start, end], succeeded);
        }
        if is_write && matches!(fate, Fate::Done(_)) {
            self.tally.wrote();
        }
        self.tally.count(|counts| {
            let outcomes = counts.operations.entry(kind).or_default();
            *match fate {
                Fate::Done(_) => &mut outcomes.done,
                Fate::Refused(_) => &mut outcomes.refused,
                Fate::Failed => &mut outcomes.failed,
                Fate::Unknown => &mut outcomes.unknown,
            } += 1;
        });
        Asked { start, end, fate }
    }

    async fn pursue(
        &mut self,
        kind: &'static str,
        manner: Manner,
        call: &mut StrongCall,
        deadline: Instant,
    ) -> Fate {
        let mut is_open = false;
        loop {
            match self.attempt(call, deadline).await {
                Attempt::Done(answer) => return Fate::Done(answer),
                Attempt::Refused(body) => return Fate::Refused(body),
                Attempt::ChangedNothing => {}
                Attempt::Unknown => is_open = true,
            }
            self.node = self.random.random_range(0..self.members.count());
            let pause = Duration::from_millis(self.random.random_range(1..=PAUSE_MS));
            if manner == Manner::Once || Instant::now() + pause >= deadline {
                return if is_open { Fate::Unknown } else { Fate::Failed };
            }
            sleep(pause).await;
            self.tally.count(|counts| counts.operations.entry(kind).or_default().again += 1);
        }
    }

    async fn attempt(&mut self, call: &mut StrongCall, deadline: Instant) -> Attempt {
        let start = self.tally.now_us();
        let attempt = self.ask_one(call, deadline).await;
        let succeeded = matches!(attempt, Attempt::Done(_) | Attempt::Refused(_));
        let name = ONE_NODE[usize::from(matches!(call.request, Request::Write(_)))];
        self.tally.ended(self.number, name, [start, self.tally.now_us()], succeeded);
        attempt
    }

    /// Asks one node.
    async fn ask_one(&mut self, call: &mut StrongCall, deadline: Instant) -> Attempt {
        if self.random.random_ratio(1, 8) {
            self.node = self.random.random_range(0..self.members.count());
        }
        let Some(client) = self.members.client(self.node) else { return Attempt::ChangedNothing };
        let time = ATTEMPT.min(deadline.saturating_duration_since(Instant::now()));
        call.timeout_ms = time.as_millis() as u64;
        match timeout(time + GRACE, client.ask(KEYSPACE, call)).await {
            Ok(Ok(answer)) => Attempt::Done(answer),
            Ok(Err(error)) if error.is_answer() => self.refused(error),
            Ok(Err(ApiError { code: ErrorCode::Unreachable, .. })) | Err(_) => Attempt::Unknown,
            Ok(Err(error)) => {
                self.tally.note(format!("{}: {error}", self.members.name(self.node)));
                Attempt::Unknown
            }
        }
    }

    fn refused(&self, error: ApiError) -> Attempt {
        match error.code {
            ErrorCode::NotFound | ErrorCode::Conflict => Attempt::Refused(error),
            ErrorCode::NoSuchKeyspace | ErrorCode::NoMajority | ErrorCode::Timeout => Attempt::ChangedNothing,
            ErrorCode::OutcomeUnknown | ErrorCode::NotReady => Attempt::Unknown,
            _ => {
                self.tally.note(format!("{}: {error}", self.members.name(self.node)));
                Attempt::Unknown
            }
        }
    }
}
