//! The line of a lock or an election, in etcd's layout ([`starling_strong::line`]): clients of etcd, the etcd
//! server and these recipes wait in the same line.

use std::time::Duration;

use starling_api::strong::{
    Body, Compare, KeyValue, Keys, Operand, Put, Range, Relation, SortBy, SortOrder, Txn, TxnOp, Write,
};
use starling_api::{Blob, Error, Strong};
use starling_strong::line;
use tokio::time::sleep;

use crate::keyspace::{AGAIN, Keyspace, Named, insist, unexpected};
use crate::lease::{Lease, Lost, until_deleted};

/// A place in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key in the line.
    pub key: Blob,
    /// The revision at which the key was created: the place, and the fencing token.
    pub token: u64,
}

/// Why a turn was not reached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitFailed {
    /// A request failed with an error that a retry does not mend.
    #[error(transparent)]
    Failed(Error),
    /// This key stands before all clients of the line, and no lease will end it: its name begins like those of the line
    /// by mistake.
    #[error("the key {} is in the way of the line, and no lease ends it", .0.escaped())]
    Blocked(Blob),
    /// The place in the line is lost.
    #[error("the place in the line is lost: {0}")]
    Lost(Lost),
}

impl From<Error> for WaitFailed {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A lock or a leadership that is held until its lease is lost, its key is deleted, or it is released.
#[derive(Debug)]
pub struct Turn<N> {
    /// The lease that it is held under.
    pub lease: Lease<N>,
    /// The place in the line; its token fences writes.
    pub place: Place,
}

impl<N: Strong + Clone + Send + Sync + 'static> Turn<N> {
    /// Waits for the lock `name`, or for the leadership of the election `name`, under a new lease. Where the
    /// future is dropped, the place in the line ends with the lease.
    pub async fn wait(
        keyspace: &Keyspace<N>,
        name: &[u8],
        value: impl Into<Blob>,
        ttl_ms: u64,
    ) -> Result<Self, WaitFailed> {
        let mut lease = Lease::grant(keyspace, ttl_ms).await.map_err(Error::from)?;
        let id = lease.id();
        let place = tokio::select! {
            biased;
            lost = lease.lost() => return Err(WaitFailed::Lost(lost)),
            place = Place::reach(keyspace, name, value.into(), id) => place?,
        };
        Ok(Self { lease, place })
    }

    /// Completes once the turn is lost. What runs under it has to stop then.
    pub async fn lost(&mut self) -> Lost {
        self.lease.lost_with(&self.place.key.0, self.place.token).await
    }

    /// Gives the turn to the next one in the line.
    pub async fn release(self) -> Result<(), Error> {
        self.lease.revoke().await
    }
}

impl Place {
    /// Creates a key in the line under a lease, and completes when it is first.
    pub async fn reach<N: Strong>(
        keyspace: &Keyspace<N>,
        name: &[u8],
        value: Blob,
        lease: i64,
    ) -> Result<Self, WaitFailed> {
        let place = Self::take(keyspace, name, value, lease).await?;
        while let Some((before, seen)) = insist(async || before(keyspace, name, place.token).await).await? {
            if before.lease == 0 {
                return Err(WaitFailed::Blocked(Blob(before.key)));
            }
            if until_deleted(keyspace, &before.key, seen + 1).await.is_err() {
                sleep(AGAIN).await;
            }
        }
        let (_, kv) = insist(async || keyspace.get(&place.key.0).await).await?;
        if kv.is_none_or(|kv| kv.create_revision != place.token) {
            return Err(WaitFailed::Lost(Lost::Deleted));
        }
        Ok(place)
    }

    async fn take<N: Strong>(
        keyspace: &Keyspace<N>,
        name: &[u8],
        value: Blob,
        lease: i64,
    ) -> Result<Self, Error> {
        let key = line::key(name, lease);
        let keys = Keys::One(key.clone());
        let is_new = Compare { keys: keys.clone(), is: Relation::Equal, to: Operand::CreateRevision(0) };
        let put = Put { lease: Some(lease), ..Put::new(key.clone(), value.0) };
        let txn = Txn {
            compare: vec![is_new],
            then: vec![TxnOp::Put(put)],
            otherwise: vec![TxnOp::Range(Range::of(keys))],
        };
        // For as long as the lease lasts: the caller stops waiting when it is lost.
        let how = Named { patience: Duration::MAX, ..Named::default() };
        let answer = keyspace.write(Write::Txn(txn), &how).await?;
        let token = match answer.body {
            Body::Txn { succeeded: true, .. } => answer.revision,
            Body::Txn { ref bodies, .. } => match bodies.first() {
                Some(Body::Range(found)) if found.kvs.len() == 1 => found.kvs[0].create_revision,
                _ => return Err(unexpected(&answer.body)),
            },
            other => return Err(unexpected(&other)),
        };
        Ok(Self { key: Blob(key), token })
    }
}

/// The key just before a place in a line, and the revision at which it was there.
async fn before<N: Strong>(
    keyspace: &Keyspace<N>,
    name: &[u8],
    place: u64,
) -> Result<Option<(KeyValue, u64)>, Error> {
    let last = Range {
        limit: 1,
        sort: Some((SortBy::CreateRevision, SortOrder::Descending)),
        // The first revision is 2: the bound is never 0, which would be none.
        max_create_revision: place - 1,
        keys_only: true,
        ..Range::of(Keys::prefix(line::prefix(name)))
    };
    let answer = keyspace.ask(last).await?;
    let Body::Range(found) = answer.body else { return Ok(None) };
    Ok(found.kvs.into_iter().next().map(|kv| (kv, answer.revision)))
}

/// The keys of a line in its order: the first one holds the lock or leads.
pub fn in_order(mut kvs: Vec<KeyValue>) -> Vec<KeyValue> {
    kvs.sort_by_key(|kv| kv.create_revision);
    kvs
}

/// The name of the line that a key may stand in: such a key ends with the id of the lease that it is attached to.
pub fn line_name(kv: &KeyValue) -> Option<&[u8]> {
    let at = kv.key.iter().rposition(|byte| *byte == b'/')?;
    let is_it = kv.lease != 0 && line::key(&kv.key[..at], kv.lease) == kv.key;
    is_it.then(|| &kv.key[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, create_revision: u64, lease: i64) -> KeyValue {
        KeyValue { key: key.into(), create_revision, lease, ..KeyValue::default() }
    }

    #[test]
    fn whoever_came_first_has_it_whatever_its_key() {
        let line = in_order(vec![kv("job/a", 9, 0xa), kv("job/b", 3, 0xb), kv("job/c", 5, 0xc)]);
        let tokens: Vec<u64> = line.iter().map(|kv| kv.create_revision).collect();
        assert_eq!(tokens, [3, 5, 9]);
    }

    #[test]
    fn a_key_in_a_line_ends_with_its_lease() {
        assert_eq!(line_name(&kv("a/job/1f", 2, 0x1f)), Some(&b"a/job"[..]));
        assert_eq!(line_name(&kv("job/-1f", 2, -0x1f)), Some(&b"job"[..]));
        for other in [kv("job/1f", 2, 0), kv("job/1f", 2, 0x1e), kv("1f", 2, 0x1f), kv("job", 2, 0x1f)] {
            assert_eq!(line_name(&other), None, "{other:?}");
        }
    }
}
