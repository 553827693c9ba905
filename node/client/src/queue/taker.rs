//! Reservations.

use std::time::Duration;

use starling_api::queue::Reserved;
use starling_api::strong::{Body, KeyValue, RequestId};
use starling_api::{Error, ErrorCode, Retry, Strong, escaped};
use starling_strong::queue::{self, Findings, Free, Hints, Search, WINDOW};
use tokio::time::{Instant, sleep, timeout_at};

use super::push::now_ms;
use super::wait::Turns;
use super::{Queue, unfitting};
use crate::keyspace::{AGAIN, Named, WriteFailed, unexpected};

/// How long a write is retried, under its request id, before its outcome is reported to be unknown. An estimate: several
/// elections.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the item that a pop with a request id took is remembered, and how old the id may be for it to be looked up,
/// milliseconds. Half an hour is left for clocks that differ. Estimates.
const POPPED_MS: u64 = 3_600_000;
const POPPED_AGE_MS: u64 = POPPED_MS / 2;

/// The lease of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// A lease that the worker keeps alive. Its end returns all that the worker has reserved.
    Lease(i64),
    /// A new one, which lasts for so many milliseconds unless it is touched.
    New(u64),
}

/// A worker of a queue. It remembers what it has seen of the queue, and how many others it competes with.
///
/// Workers that look at the same time find the same first item, and one of them gets it. The others look again, and choose at
/// random among more of the first items, twice as many after each collision; half as many after each success.
#[derive(Clone, Debug)]
pub struct Taker<N> {
    queue: Queue<N>,
    hints: Hints,
    /// The number of first items among which it chooses.
    spread: usize,
    turns: Turns,
    /// How fast it is; see [`Taker::set_rate`].
    rate: Option<u64>,
    collisions: u64,
}

impl<N: Strong + Clone + Sync> Taker<N> {
    pub(super) fn new(queue: Queue<N>) -> Self {
        let (hints, turns) = (Hints::default(), Turns::default());
        Self { queue, hints, spread: 1, turns, rate: None, collisions: 0 }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue<N> {
        &self.queue
    }

    /// Sets how fast the worker is: cost in milliseconds that it does in a second. In the order `longest` the fastest
    /// worker gets the longest item.
    pub fn set_rate(&mut self, rate: f64) {
        // A float is cut to the bounds of the integer.
        #[allow(clippy::cast_sign_loss, reason = "a rate is at least 1")]
        let rate = rate.max(1.0) as u64;
        self.rate = Some(rate);
    }

    /// How often another worker was faster.
    pub fn collisions(&self) -> u64 {
        self.collisions
    }

    /// Reserves the next items, at most `max`; none if none is free, which costs no entry in the log. Returns them with the
    /// revision at which the queue was read.
    pub async fn reserve(&mut self, max: usize, under: Under) -> Result<(u64, Vec<Reserved>), WriteFailed> {
        let mut lease = match under {
            Under::Lease(id) => Some(id),
            Under::New(_) => None,
        };
        let how = Named { patience: PATIENCE, ..Named::default() };
        loop {
            let findings = self.search(max.max(self.spread)).await?;
            let items = self.choose(findings.free, max);
            if items.is_empty() {
                return Ok((findings.revision, Vec::new()));
            }
            let id = match (lease, under) {
                (Some(id), _) | (None, Under::Lease(id)) => id,
                (None, Under::New(ttl_ms)) => self.queue.lease(ttl_ms, &how).await?,
            };
            lease = Some(id);
            let claim = queue::claim(&self.queue.keys, &findings.rules, &items, id, self.rate);
            let (answer, _) = self.queue.write(claim, &how).await?;
            let claimed = queue::claimed(&self.queue.keys, items, id, answer.revision, answer.body);
            if self.note(claimed.as_ref().is_ok_and(Option::is_some)) {
                let claimed = claimed.map_err(unfitting)?.unwrap_or_default();
                return Ok((answer.revision, self.complete(claimed).await?));
            }
            claimed.map_err(unfitting)?;
        }
    }

    /// Reserves the next items, at most `max`. If none is free it waits for one, until the deadline. None: it has passed.
    pub async fn reserve_by(
        &mut self,
        max: usize,
        under: Under,
        deadline: Option<Instant>,
    ) -> Result<Vec<Reserved>, WriteFailed> {
        loop {
            let revision = match self.reserve(max, under).await {
                Ok((_, items)) if !items.is_empty() => return Ok(items),
                Ok((revision, _)) => revision,
                Err(failed) if failed.error.retry() == Retry::Never => return Err(failed),
                Err(failed) => {
                    if deadline.is_some_and(|deadline| Instant::now() + AGAIN > deadline) {
                        return Err(failed);
                    }
                    sleep(AGAIN).await;
                    continue;
                }
            };
            if self.wait(revision + 1, deadline).await? {
                return Ok(Vec::new());
            }
        }
    }

    /// Takes the next item, or the next one that becomes free: it is reserved and acknowledged in one. If the future is
    /// dropped meanwhile, an item may be lost.
    pub async fn take(&mut self) -> Result<KeyValue, Error> {
        loop {
            let how = Named { patience: PATIENCE, ..Named::default() };
            let (revision, item) = self.pop(&how).await?;
            if let Some(item) = item {
                return Ok(item);
            }
            self.wait(revision + 1, None).await?;
        }
    }

    /// Waits until an item may be free. Returns whether the deadline has passed.
    async fn wait(&mut self, from: u64, deadline: Option<Instant>) -> Result<bool, Error> {
        let free = self.queue.until_free(from, &mut self.turns);
        let waited = match deadline {
            Some(deadline) => match timeout_at(deadline, free).await {
                Ok(waited) => waited,
                Err(_) => return Ok(true),
            },
            None => free.await,
        };
        match waited {
            Err(error) if error.retry() == Retry::Never => return Err(error),
            Err(_) => sleep(AGAIN).await,
            Ok(()) => {}
        }
        Ok(deadline.is_some_and(|deadline| Instant::now() >= deadline))
    }

    /// Takes the next item and deletes it; `None` if none is free. Returns it with the revision at which the queue was read.
    ///
    /// With a request id that was drawn in the last half hour, the item of an earlier pop with this id is returned again.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] if the request id is older.
    pub async fn pop(&mut self, how: &Named) -> Result<(u64, Option<KeyValue>), WriteFailed> {
        if let Some(id) = how.request_id
            && let Some(known) = self.popped(id).await?
        {
            return Ok(known);
        }
        loop {
            let findings = self.search(self.spread).await?;
            let Some(item) = self.choose(findings.free, 1).pop() else {
                return Ok((findings.revision, None));
            };
            let (mut memory, mut value) = (None, Vec::new());
            if let Some(id) = how.request_id {
                let Some(kv) = self.queue.keyspace.get(&item.key).await?.1 else { continue };
                memory = Some((id, self.queue.lease(POPPED_MS, how).await?));
                value = kv.value;
            }
            let pop = queue::pop(&self.queue.keys, &item, memory, &value);
            // The next attempt may be for another item.
            let attempt = Named { request_id: None, ..how.clone() };
            let popped = self.queue.write(pop, &attempt).await;
            let (answer, succeeded) =
                popped.map_err(|failed| maybe_popped(failed, how, &item.key, item.written))?;
            if self.note(succeeded) {
                let Body::Txn { bodies, .. } = answer.body else { continue };
                return match bodies.into_iter().next() {
                    Some(Body::Range(mut found)) => Ok((answer.revision, found.kvs.pop())),
                    other => Err(unexpected(&other.unwrap_or(Body::Compacted)).into()),
                };
            }
            if let Some(id) = how.request_id
                && let Some(known) = self.popped(id).await?
            {
                return Ok(known);
            }
        }
    }

    /// The item of an earlier pop with this request id.
    async fn popped(&self, id: u128) -> Result<Option<(u64, Option<KeyValue>)>, Error> {
        let (revision, kv) = self.queue.keyspace.get(&self.queue.keys.popped(id)).await?;
        if kv.is_some() {
            return Ok(Some((revision, kv)));
        }
        let age_ms = RequestId::drawn_ms(id).map(|drawn_ms| now_ms().saturating_sub(drawn_ms));
        if age_ms.is_none_or(|age_ms| age_ms > POPPED_AGE_MS) {
            let what = "the request id is too old for a pop: its item may be forgotten";
            let hint = "look which item is missing; `starling request-id` prints an id for the next pop";
            return Err(Error::new(ErrorCode::Conflict, what, hint));
        }
        Ok(None)
    }

    /// Looks for at least `wanted` items, and moves those that were reserved too often to the dead letters.
    pub(super) async fn search(&mut self, wanted: usize) -> Result<Findings, WriteFailed> {
        let mut search = Search::new(self.queue.keys.clone(), self.hints.clone(), wanted, self.rate);
        let findings = loop {
            let answer = self.queue.read(search.read()).await?;
            if let Some(findings) = search.step(answer.revision, answer.body).map_err(unfitting)? {
                break findings;
            }
        };
        self.hints = search.into_hints();
        let how = Named { patience: PATIENCE, ..Named::default() };
        for spent in findings.spent.iter().take(starling_api::queue::BATCH_MAX) {
            self.queue.bury(spent, &how).await?;
        }
        Ok(findings)
    }

    /// The items to ask for: the first ones, or, where others collide with this worker, some of the first.
    fn choose(&self, mut free: Vec<Free>, max: usize) -> Vec<Free> {
        free.truncate(self.spread.max(max));
        while free.len() > max {
            free.remove(rand::random_range(0..free.len()));
        }
        free
    }

    /// Adapts the number of items among which the worker chooses. Returns whether it has got what it asked for.
    fn note(&mut self, succeeded: bool) -> bool {
        if succeeded {
            self.spread = (self.spread / 2).max(1);
        } else {
            self.spread = (self.spread * 2).min(WINDOW);
            self.collisions += 1;
        }
        succeeded
    }

    /// Reads the values that did not fit into the answer to a claim.
    async fn complete(&self, claimed: Vec<(Reserved, bool)>) -> Result<Vec<Reserved>, Error> {
        let mut items = Vec::new();
        for (mut item, is_complete) in claimed {
            if !is_complete {
                // An item that is gone was popped by a client that knows no reservations.
                let Some(kv) = self.queue.keyspace.get(&item.receipt.key.0).await?.1 else { continue };
                item.value = kv.value.into();
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// The failure of a pop, of which an attempt may have taken this item, which was there at a revision.
fn maybe_popped(mut failed: WriteFailed, how: &Named, key: &[u8], revision: u64) -> WriteFailed {
    if failed.maybe_applied.is_some() {
        failed.maybe_applied = how.request_id;
        let key = escaped(key);
        failed.error.message = format!("whether {key} was popped is not known: {}", failed.error.message);
        failed.error.hint = format!(
            "it was not if `starling get {key}` shows it; otherwise `starling get {key} --revision {revision}` shows what was popped"
        );
    }
    failed
}
