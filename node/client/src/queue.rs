//! Queues: keys `name/<priority>/<number>`, of which the first is taken. Priority and number have a fixed
//! number of digits, so the order of the keys is that of priorities, then of writes.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use starling_api::strong::{Body, KeyValue, Keys, Range, StrongEvent, Write};
use starling_api::{Blob, Error, Retry, Strong};
use tokio::time::{Instant, sleep};

use crate::keyspace::{AGAIN, Keyspace, Named, WriteFailed, unexpected};

/// Time over which the clients that wait for an item spread their pops at first, and at most. A pop that finds nothing costs
/// the keyspace an entry in its log, and a client whose turn comes after the item is gone sends none. Estimates: some
/// times as long as a pop takes on a local network.
const SPREAD: Duration = Duration::from_millis(50);
const SPREAD_MAX: Duration = Duration::from_millis(400);

/// How long [`Queue::take`] retries a pop, under its name, before it reports that the outcome is unknown. An estimate:
/// several elections.
const POP_PATIENCE: Duration = Duration::from_secs(10);

/// A queue in a strong keyspace: each item is taken once.
#[derive(Clone, Debug)]
pub struct Queue<N> {
    keyspace: Keyspace<N>,
    name: Vec<u8>,
}

impl<N: Strong> Queue<N> {
    /// The priority of an item that has none given: 0 is taken first, 65535 last.
    pub const PRIORITY: u16 = 1000;

    /// The queue of this name. Names must not nest, as a and a/1 do.
    pub fn new(keyspace: Keyspace<N>, name: impl Into<Vec<u8>>) -> Self {
        Self { keyspace, name: name.into() }
    }

    /// The prefix of the keys of items of this priority.
    pub fn prefix(&self, priority: u16) -> Vec<u8> {
        [&self.name[..], format!("/{priority:05}/").as_bytes()].concat()
    }

    /// The priority of an item's key; `None` if the key is not of this queue.
    pub fn priority(&self, key: &[u8]) -> Option<u16> {
        let rest = key.strip_prefix(&self.name[..])?.strip_prefix(b"/")?;
        let digits = rest.split(|byte| *byte == b'/').next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The keys of the queue: those whose priority begins with a digit.
    fn items(&self) -> Keys {
        let (from, to) = ([&self.name[..], b"/0"].concat(), [&self.name[..], b"/:"].concat());
        Keys::Range { from, to: Some(to) }
    }

    /// Appends an item. Returns its key.
    pub async fn push(
        &self,
        priority: u16,
        value: impl Into<Blob>,
        how: &Named,
    ) -> Result<Blob, WriteFailed> {
        let push = Write::PutSequential { prefix: self.prefix(priority), value: value.into().0, lease: 0 };
        match self.keyspace.write(push, how).await?.body {
            Body::Sequential { key } => Ok(Blob(key)),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Takes the first item; `None` if there is none. The revision is that of the pop.
    pub async fn pop(&self, how: &Named) -> Result<(u64, Option<KeyValue>), WriteFailed> {
        let answer = self.keyspace.write(Write::PopFirst { keys: self.items() }, how).await?;
        match answer.body {
            Body::Popped { first } => Ok((answer.revision, first)),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Takes the first item, or the next one that is pushed. If the future is dropped during a pop, an item may be
    /// lost.
    pub async fn take(&self) -> Result<KeyValue, Error> {
        let mut turn = Turns::default();
        loop {
            let how = Named { patience: POP_PATIENCE, ..Named::default() };
            let (revision, item) = self.pop(&how).await?;
            if let Some(item) = item {
                return Ok(item);
            }
            match self.until_pushed(revision + 1, &mut turn).await {
                Err(error) if error.retry() == Retry::Never => return Err(error),
                Err(_) => sleep(AGAIN).await,
                Ok(()) => {}
            }
        }
    }

    /// Completes once an item was pushed at this revision or later and no other client has popped it when this one's turn
    /// has come, or the watch has ended.
    pub async fn until_pushed(&self, from: u64, turns: &mut Turns) -> Result<(), Error> {
        let prefix = [&self.name[..], b"/"].concat();
        let mut events = self.keyspace.node().changes(self.keyspace.name(), &prefix, from).await?;
        let mut items = BTreeSet::new();
        let turn = sleep(Duration::ZERO);
        tokio::pin!(turn);
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = &mut turn, if !items.is_empty() => return Ok(()),
            };
            match event.transpose()? {
                Some(StrongEvent::Put { kv }) if self.priority(&kv.key).is_some() => {
                    if items.is_empty() {
                        turn.as_mut().reset(Instant::now() + turns.draw());
                    }
                    items.insert(kv.key);
                }
                Some(StrongEvent::Delete { key, .. }) => drop(items.remove(&key.0)),
                Some(StrongEvent::Ready { .. } | StrongEvent::Put { .. }) => {}
                None | Some(StrongEvent::Compacted { .. } | StrongEvent::Lost { .. }) => break,
            }
        }
        sleep(AGAIN).await;
        Ok(())
    }

    /// How many items there are.
    pub async fn len(&self) -> Result<u64, Error> {
        let count = Range { count_only: true, ..Range::of(self.items()) };
        match self.keyspace.ask(count).await?.body {
            Body::Range(found) => Ok(found.count),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether there is no item.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }
}

/// When a client that waits for items tries to pop one: after a random time, which grows with each attempt.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    spread: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { spread: SPREAD }
    }
}

impl Turns {
    /// How long to wait after a push.
    fn draw(&mut self) -> Duration {
        let pause = self.spread.mul_f64(rand::random());
        self.spread = (self.spread * 2).min(SPREAD_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    #[test]
    fn keys_are_in_the_order_of_priorities_then_of_writes() {
        let client = Client::new("127.0.0.1:1", None).expect("an address");
        let queue = Queue::new(Keyspace::new(client, "orders"), "q");
        let key = |priority, revision: u64| {
            [&queue.prefix(priority)[..], format!("{revision:020}").as_bytes()].concat()
        };
        let order = [key(0, 70), key(0, 100), key(9, 3), key(10, 2), key(1000, 1), key(u16::MAX, 9)];
        assert!(order.is_sorted());
        let Keys::Range { from, to } = queue.items() else { panic!("a range") };
        let to = to.expect("it has an end");
        assert!(order.iter().all(|key| *key >= from && *key < to));
        assert_eq!(queue.priority(&key(10, 2)), Some(10));
        assert_eq!(queue.priority(b"q/lock/1f"), None);
        assert_eq!(queue.priority(b"other/00010/1"), None);
    }
}
