//! Queues: items are pushed, reserved by workers, and acknowledged. What is read and written is
//! [`starling_strong::queue`]'s; here are the requests and the waiting.

mod item;
mod push;
mod taker;
mod wait;

use starling_api::queue::{Listed, QueueStats, Rules, Standing};
use starling_api::strong::{Body, Keys, Put, Range, Request, StrongAnswer, Txn, Write};
use starling_api::{Error, ErrorCode, Strong};
use starling_strong::queue::{self, QueueKeys, Unfitting};

use crate::keyspace::{Keyspace, Named, WriteFailed, unexpected};

pub use taker::{Taker, Under};
pub use wait::Turns;

/// A queue in a strong keyspace.
///
/// An item that was pushed is reserved, for as long as a lease lasts, then acknowledged, which deletes it. It is reserved
/// again if the lease ends before; so it is delivered at least once. What an acknowledgement writes along with it
/// ([`Queue::acknowledge`]) is written once.
#[derive(Clone, Debug)]
pub struct Queue<N> {
    keyspace: Keyspace<N>,
    keys: QueueKeys,
}

impl<N: Strong + Sync> Queue<N> {
    /// The queue of this name. Names must not nest, as a and a/1 do.
    pub fn new(keyspace: Keyspace<N>, name: impl Into<Vec<u8>>) -> Self {
        Self { keyspace, keys: QueueKeys::new(name) }
    }

    /// A worker of the queue.
    pub fn taker(&self) -> Taker<N>
    where
        N: Clone,
    {
        Taker::new(self.clone())
    }

    /// How many items there are, by where they stand, and the rules.
    pub async fn stats(&self) -> Result<QueueStats, Error> {
        let answer = self.read(queue::count(&self.keys)).await?;
        queue::counted(answer.body).map_err(unfitting)
    }

    /// Sets the rules. They hold for the next reservation.
    pub async fn set_rules(&self, rules: &Rules, how: &Named) -> Result<(), WriteFailed> {
        if !rules.ageing.is_finite() || rules.ageing < 0.0 {
            return Err(Error::invalid("ageing is no share of time", "use 0 or more, as 0.1").into());
        }
        let rules = serde_json::to_vec(rules).map_err(|error| Error::invalid(error.to_string(), ""))?;
        let put = Put::new(self.keys.rules(), rules);
        self.keyspace.write(Write::Put(put), how).await.map(drop)
    }

    /// The items that would be reserved next, at most `max`, the next one first. Reserves none.
    pub async fn peek(&self, max: usize) -> Result<Vec<Listed>, Error>
    where
        N: Clone,
    {
        let findings = self.taker().search(max).await?;
        let mut items = Vec::new();
        for free in findings.free.into_iter().take(max) {
            // One that was taken since then is left out.
            let Some(kv) = self.keyspace.get(&free.key).await?.1 else { continue };
            let priority = self.keys.place(&free.key).map_or(0, |place| place.priority);
            items.push(Listed {
                key: free.key.into(),
                standing: Standing::Ready,
                attempts: free.about.attempts,
                priority,
                cost_ms: free.about.cost_ms,
                tenant: free.about.tenant,
                value: kv.value.into(),
            });
        }
        Ok(items)
    }

    /// All items, in the order of their keys. Reads the whole queue, at one revision.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let (mut kvs, mut revision) = (Vec::new(), 0);
        let mut keys = Keys::prefix(self.keys.prefix());
        loop {
            let answer = self.keyspace.ask(Range { revision, ..Range::of(keys.clone()) }).await?;
            let Body::Range(found) = answer.body else { return Err(unexpected(&answer.body)) };
            revision = answer.revision;
            kvs.extend(found.kvs);
            let last = kvs.last().filter(|_| found.more);
            match (last, &mut keys) {
                // The next key behind it.
                (Some(last), Keys::Range { from, .. }) => *from = [&last.key[..], &[0]].concat(),
                _ => return Ok(queue::list(&self.keys, &kvs)),
            }
        }
    }

    /// How many items can be reserved.
    pub async fn len(&self) -> Result<u64, Error> {
        Ok(self.stats().await?.ready)
    }

    /// Whether no item can be reserved.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }

    async fn read(&self, txn: Txn) -> Result<StrongAnswer, Error> {
        self.keyspace.ask(Request::txn(txn)).await
    }

    /// Sends a transaction. Returns its answer, and whether its conditions held.
    async fn write(&self, txn: Txn, how: &Named) -> Result<(StrongAnswer, bool), WriteFailed> {
        let answer = self.keyspace.write(Write::Txn(txn), how).await?;
        let Body::Txn { succeeded, .. } = answer.body else { return Err(unexpected(&answer.body).into()) };
        Ok((answer, succeeded))
    }

    /// Grants a lease that nobody keeps alive. Without it what it is for is not written, so an unused one ends.
    async fn lease(&self, ttl_ms: u64, how: &Named) -> Result<i64, WriteFailed> {
        let how = Named { request_id: None, ..how.clone() };
        match self.keyspace.write(Write::LeaseGrant { id: 0, ttl_ms }, &how).await?.body {
            Body::LeaseGranted { id, .. } => Ok(id),
            other => Err(unexpected(&other).into()),
        }
    }
}

fn unfitting(error: Unfitting) -> Error {
    Error::not_understood("the node", error.to_string())
}

/// The error of a reservation that has ended.
fn ended(key: &starling_api::Blob) -> Error {
    Error::new(
        ErrorCode::Conflict,
        format!("the reservation of {} has ended", key.escaped()),
        "another worker may have the item: drop the result; a longer reservation, or a touch in time, keeps it",
    )
}
