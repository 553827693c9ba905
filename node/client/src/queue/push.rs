//! Pushes.

use std::collections::BTreeSet;
use std::time::SystemTime;

use starling_api::queue::{BATCH_MAX, NewItem, Pushed, Rules};
use starling_api::strong::{Body, Keys, Range, Txn, TxnOp, Write};
use starling_api::{Blob, Error, Strong};
use starling_strong::queue::{self, Pushing};

use super::{Queue, unfitting};
use crate::keyspace::{Named, WriteFailed, unexpected};

/// Longest name of a tenant, bytes: it is a part of the key of an item.
const TENANT_BYTES_MAX: usize = 256;

impl<N: Strong + Sync> Queue<N> {
    /// Pushes an item. One with nothing but a value and a priority is one write; another one is read for, and costs a lease
    /// for its delay and for its id.
    pub async fn push(&self, item: NewItem, how: &Named) -> Result<Pushed, WriteFailed> {
        if !item.is_plain() {
            let missing = || Error::not_understood("the node", "a push has no outcome").into();
            return self.push_all(vec![item], how).await?.pop().ok_or_else(missing);
        }
        let prefix = self.keys.sequential(item.priority);
        let push = Write::PutSequential { prefix, value: item.value.0, lease: 0 };
        match self.keyspace.write(push, how).await?.body {
            Body::Sequential { key } => Ok(Pushed { key: key.into(), duplicate: false }),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Pushes several items, at most [`BATCH_MAX`], in their order, in one transaction: all, but those whose ids are
    /// known, or none.
    pub async fn push_all(&self, items: Vec<NewItem>, how: &Named) -> Result<Vec<Pushed>, WriteFailed> {
        check(&items)?;
        if how.request_id.is_some() {
            let what = "a push with more than a value and a priority takes no request id";
            return Err(Error::invalid(
                what,
                "give the item an id: while it is known, the item is pushed once",
            )
            .into());
        }
        let rules = self.keyspace.ask(Range::of(Keys::One(self.keys.rules()))).await?;
        let Body::Range(found) = rules.body else { return Err(unexpected(&rules.body).into()) };
        let read = found.kvs.first().and_then(|kv| serde_json::from_slice(&kv.value).ok());
        let (rules, revision): (Rules, u64) = (read.unwrap_or_default(), rules.revision);
        let batch: u32 = rand::random();
        let (mut keys, mut txn) = (Vec::new(), Txn::default());
        for (at, item) in items.into_iter().enumerate() {
            let hold = if item.delay_ms == 0 { 0 } else { self.lease(item.delay_ms, how).await? };
            let memory = if item.unique.is_none() { 0 } else { self.lease(item.unique_ms, how).await? };
            // Items of a batch are in its order.
            let unique = format!("{batch:08x}{at:02}");
            let pushing = Pushing { rules, revision, unique: &unique, now_ms: now_ms(), hold, memory };
            let (key, push) = queue::push(&self.keys, item, pushing);
            keys.push(key);
            txn.then.push(TxnOp::Txn(push));
        }
        let (answer, _) = self.write(txn, how).await.map_err(maybe_pushed)?;
        let Body::Txn { bodies, .. } = answer.body else { return Err(unexpected(&answer.body).into()) };
        let pushed = keys.into_iter().zip(bodies).map(|(key, body)| queue::pushed(key, body));
        Ok(pushed.collect::<Result<_, _>>().map_err(unfitting)?)
    }
}

/// The failure of a push that is another one when it is sent again.
fn maybe_pushed(mut failed: WriteFailed) -> WriteFailed {
    if failed.maybe_applied.take().is_some() {
        failed.error.hint =
            "push it again: an item with an id is pushed once; without one it may then be there twice".into();
    }
    failed
}

fn check(items: &[NewItem]) -> Result<(), Error> {
    if items.is_empty() || items.len() > BATCH_MAX {
        let what = format!("a push of {} items", items.len());
        return Err(Error::invalid(what, format!("push 1 to {BATCH_MAX} items at once")));
    }
    let mut ids: BTreeSet<&Blob> = BTreeSet::new();
    for item in items {
        if item.tenant.contains('/') || item.tenant.len() > TENANT_BYTES_MAX {
            let what = format!("{:?} cannot be a tenant", item.tenant);
            return Err(Error::invalid(
                what,
                format!("use at most {TENANT_BYTES_MAX} bytes without a slash"),
            ));
        }
        if item.unique.as_ref().is_some_and(|id| !ids.insert(id)) {
            return Err(Error::invalid("two items have the same id", "push each id once"));
        }
    }
    Ok(())
}

/// The time of this machine, milliseconds since 1970. It decides on the order of items, never on whether one is free.
pub(super) fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
