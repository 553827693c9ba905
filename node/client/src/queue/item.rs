//! What is done with items that are reserved or dead.

use starling_api::queue::{BATCH_MAX, Receipt, Standing};
use starling_api::strong::{Body, Request, TxnOp};
use starling_api::{Blob, Error, ErrorCode, Strong};
use starling_strong::queue::{self, Guard, Stored};

use super::push::now_ms;
use super::{Queue, ended, unfitting};
use crate::keyspace::{Named, WriteFailed, unexpected};

impl<N: Strong + Sync> Queue<N> {
    /// Acknowledges items, at most [`BATCH_MAX`], and applies the effects of the work, all of it or none of it: the
    /// effects of an item's work are applied once, however often it was begun. Returns the outcomes of the effects.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] if a reservation has ended, with its key.
    pub async fn acknowledge(
        &self,
        receipts: &[Receipt],
        effects: Vec<TxnOp>,
        how: &Named,
    ) -> Result<Vec<Body>, WriteFailed> {
        if receipts.is_empty() || receipts.len() > BATCH_MAX {
            let what = format!("an acknowledgement of {} items", receipts.len());
            return Err(Error::invalid(what, format!("acknowledge 1 to {BATCH_MAX} items at once")).into());
        }
        self.check_keys(receipts)?;
        let count = effects.len();
        let (answer, succeeded) = self.write(queue::acknowledge(&self.keys, receipts, effects), how).await?;
        let Body::Txn { mut bodies, .. } = answer.body else { return Ok(Vec::new()) };
        if succeeded {
            bodies.truncate(count);
            return Ok(bodies);
        }
        let stands = |receipt: &Receipt, body: &Body| match body {
            Body::Range(found) => found.kvs.first().is_some_and(|kv| kv.create_revision == receipt.token),
            _ => false,
        };
        let lost = receipts.iter().zip(&bodies).find(|(receipt, body)| !stands(receipt, body));
        Err(ended(lost.map_or(&receipts[0].key, |(receipt, _)| &receipt.key)).into())
    }

    /// Returns an item: it can be reserved again at once, or after a delay, if it is not 0. An item that was reserved as often
    /// as the rules allow becomes a dead letter. Returns where it stands then.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] if the reservation has ended.
    pub async fn release(
        &self,
        receipt: &Receipt,
        delay_ms: u64,
        how: &Named,
    ) -> Result<Standing, WriteFailed> {
        self.check_keys(std::slice::from_ref(receipt))?;
        let answer = self.read(queue::stored_read(&self.keys, &receipt.key.0)).await?;
        let (rules, stored) = queue::stored(answer.body).map_err(unfitting)?;
        let Some(stored) = stored else { return Err(ended(&receipt.key).into()) };
        let is_spent = rules.attempts > 0 && stored.about.attempts >= rules.attempts;
        let (standing, txn) = if is_spent {
            (Standing::Dead, queue::bury(&self.keys, Guard::Reserved(receipt), stored))
        } else if delay_ms > 0 {
            let hold = self.lease(delay_ms, how).await?;
            let due_ms = now_ms().saturating_add(delay_ms);
            (Standing::Delayed, queue::postpone(&self.keys, receipt, stored, due_ms, hold))
        } else {
            (Standing::Ready, Some(queue::release(&self.keys, receipt)))
        };
        let Some(txn) = txn else { return Err(not_an_item(&receipt.key).into()) };
        match self.write(txn, how).await? {
            (_, true) => Ok(standing),
            (_, false) => Err(ended(&receipt.key).into()),
        }
    }

    /// Begins the time of a reservation again, and that of all others under the same lease. Returns it, milliseconds.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] if the reservation has ended.
    pub async fn touch(&self, receipt: &Receipt) -> Result<u64, Error> {
        match self.keyspace.ask(Request::KeepAlive { id: receipt.lease }).await {
            Ok(answer) => match answer.body {
                Body::KeptAlive { ttl_ms, .. } => Ok(ttl_ms),
                other => Err(unexpected(&other)),
            },
            Err(error) if error.code == ErrorCode::NotFound => Err(ended(&receipt.key)),
            Err(error) => Err(error),
        }
    }

    /// Makes a dead letter an item again that was never reserved. `false`: there is no such dead letter.
    pub async fn revive(&self, key: &Blob, how: &Named) -> Result<bool, WriteFailed> {
        let answer = self.read(queue::stored_read(&self.keys, &key.0)).await?;
        let (rules, Some(stored)) = queue::stored(answer.body).map_err(unfitting)? else { return Ok(false) };
        let Some(txn) = queue::revive(&self.keys, &rules, &key.0, stored) else { return Ok(false) };
        Ok(self.write(txn, how).await?.1)
    }

    /// Moves an item that nobody has and that was reserved too often to the dead letters. One that is no longer as it was
    /// found stays.
    pub(super) async fn bury(&self, free: &queue::Free, how: &Named) -> Result<(), WriteFailed> {
        let answer = self.read(queue::stored_read(&self.keys, &free.key)).await?;
        let stored: Option<Stored> = queue::stored(answer.body).map_err(unfitting)?.1;
        let txn = stored.and_then(|stored| queue::bury(&self.keys, Guard::Free(free), stored));
        if let Some(txn) = txn {
            self.write(txn, how).await?;
        }
        Ok(())
    }

    fn check_keys(&self, receipts: &[Receipt]) -> Result<(), Error> {
        let other = receipts.iter().find(|receipt| self.keys.place(&receipt.key.0).is_none());
        other.map_or(Ok(()), |receipt| Err(not_an_item(&receipt.key)))
    }
}

fn not_an_item(key: &Blob) -> Error {
    let what = format!("{} is no item of the queue", key.escaped());
    Error::invalid(what, "use the receipt as it was returned with the item")
}
