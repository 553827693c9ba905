//! Waiting in line, as etcd's own locks and elections do it ([`starling_strong::line`]). Everybody waits for
//! the deletion of the key before their own, so that one departure wakes one.

use starling_strong::api::{
    Answer, Body, Compare, Delete, EventKind, Failure, KeyValue, Keys, LeaseId, Operand, Put, Range, Read,
    Relation, Request, Revision, SortBy, SortOrder, Txn, TxnOp, Watch, Write,
};
use starling_strong::line;
use tonic::Status;

use crate::convert::unexpected;
use crate::failure::status;
use crate::keyspace::{Keyspace, Timing};
use crate::watching::Watching;

/// How long a lease lasts that the door takes for a client that named none, as in etcd.
const LEASE_MS: u64 = 60_000;

/// A place in the line. Given back when it is dropped before its turn.
pub struct Claim {
    keyspace: Keyspace,
    prefix: Vec<u8>,
    pub key: Vec<u8>,
    /// When the key came into being: its place.
    pub place: Revision,
    /// The keyspace's revision when it was made, or found to be there.
    pub made: Revision,
    pub lease: LeaseId,
    /// What the key said before, if it was there.
    pub found: Option<KeyValue>,
    give_back: bool,
}

impl Claim {
    /// Gets in line with a value, unless this lease is in it already.
    pub async fn make(
        keyspace: &Keyspace,
        name: &[u8],
        lease: LeaseId,
        value: Vec<u8>,
    ) -> Result<Self, Status> {
        let lease = if lease == 0 { grant(keyspace).await? } else { lease };
        let (prefix, key) = (line::prefix(name), line::key(name, lease));
        let put = Put { key: key.clone(), value: Some(value), lease: Some(lease), prev: false };
        let txn = Txn {
            compare: vec![created(&key, 0)],
            then: vec![TxnOp::Put(put)],
            otherwise: vec![TxnOp::Range(one(Keys::One(key.clone()), SortOrder::Ascending, 0))],
        };
        let answer = keyspace.write(Write::Txn(txn)).await.map_err(|error| status(&error))?;
        let Body::Txn { succeeded, bodies } = answer.body else { return Err(unexpected()) };
        let found = match bodies.into_iter().next() {
            Some(Body::Range(found)) => found.kvs.into_iter().next(),
            _ => None,
        };
        let place = match &found {
            Some(kv) => kv.create_revision,
            None if succeeded => answer.revision,
            None => return Err(unexpected()),
        };
        let made = answer.revision;
        let keyspace = keyspace.clone();
        Ok(Self { keyspace, prefix, key, place, made, lease, found, give_back: succeeded })
    }

    /// Returns at which revision it is this claim's turn. Fails if its key has gone by then.
    pub async fn turn(&mut self) -> Result<Revision, Status> {
        while let Some((before, seen)) = self.before().await? {
            let watch = Watch {
                keys: Keys::One(before),
                from_revision: seen + 1,
                prev: false,
                only: Some(EventKind::Delete),
            };
            let mut gone = Watching::start(&self.keyspace, watch).await?;
            gone.next().await;
        }
        let (revision, kv) =
            first(&self.keyspace, one(Keys::One(self.key.clone()), SortOrder::Ascending, 0)).await?;
        if kv.is_none_or(|kv| kv.create_revision != self.place) {
            return Err(Status::failed_precondition("starling: the lease has ended while waiting"));
        }
        self.give_back = false;
        Ok(revision)
    }

    /// The key just before this one in the line, and the revision at which it was there.
    async fn before(&self) -> Result<Option<(Vec<u8>, Revision)>, Status> {
        // The first revision there is, is 2: the bound is never 0, which would be none.
        let last = one(prefixed(&self.prefix), SortOrder::Descending, self.place - 1);
        let (revision, kv) = first(&self.keyspace, last).await?;
        Ok(kv.map(|kv| (kv.key, revision)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.give_back {
            // Where the node has too much to do for it, the key goes with its lease.
            self.keyspace.order(Write::Txn(leave(&self.key, self.place)));
        }
    }
}

/// Deletes a key that came into being at that revision.
pub fn leave(key: &[u8], place: Revision) -> Txn {
    Txn {
        compare: vec![created(key, place)],
        then: vec![TxnOp::Delete(Delete { keys: Keys::One(key.to_vec()), prev: false })],
        otherwise: Vec::new(),
    }
}

/// Writes to a key that came into being at that revision.
pub fn say(key: &[u8], place: Revision, value: Vec<u8>, lease: LeaseId) -> Txn {
    let put = Put { key: key.to_vec(), value: Some(value), lease: Some(lease), prev: false };
    Txn { compare: vec![created(key, place)], then: vec![TxnOp::Put(put)], otherwise: Vec::new() }
}

/// Carries out a transaction of which only matters whether it succeeded.
pub async fn succeeded(keyspace: &Keyspace, txn: Txn, timing: Timing) -> Result<(Revision, bool), Status> {
    let answer =
        keyspace.ask(Request::Write(Write::Txn(txn)), timing).await.map_err(|error| status(&error))?;
    let Body::Txn { succeeded, .. } = answer.body else { return Err(unexpected()) };
    Ok((answer.revision, succeeded))
}

/// Who is first in the line of this name, and the revision at which that was so.
pub async fn holder(keyspace: &Keyspace, name: &[u8]) -> Result<(Revision, Option<KeyValue>), Status> {
    first(keyspace, one(everybody(name), SortOrder::Ascending, 0)).await
}

/// The keys of all who wait in the line of this name.
pub fn everybody(name: &[u8]) -> Keys {
    prefixed(&line::prefix(name))
}

async fn first(keyspace: &Keyspace, range: Range) -> Result<(Revision, Option<KeyValue>), Status> {
    let answer: Result<Answer, Failure> = keyspace.read(Read::Range(range)).await;
    let answer = answer.map_err(|error| status(&error))?;
    let Body::Range(found) = answer.body else { return Err(unexpected()) };
    Ok((answer.revision, found.kvs.into_iter().next()))
}

async fn grant(keyspace: &Keyspace) -> Result<LeaseId, Status> {
    let write = Write::LeaseGrant { id: 0, ttl_ms: LEASE_MS };
    let answer = keyspace.write(write).await.map_err(|error| status(&error))?;
    let Body::LeaseGranted { id, .. } = answer.body else { return Err(unexpected()) };
    Ok(id)
}

/// `revision` 0: the key does not exist.
fn created(key: &[u8], revision: Revision) -> Compare {
    Compare { keys: Keys::One(key.to_vec()), is: Relation::Equal, to: Operand::CreateRevision(revision) }
}

/// The first or the last in the order of creation, up to a revision.
fn one(keys: Keys, order: SortOrder, max_create_revision: Revision) -> Range {
    Range { limit: 1, sort: Some((SortBy::CreateRevision, order)), max_create_revision, ..Range::of(keys) }
}

/// `prefix` ends with a slash, so that there is a byte string right behind all that begin with it.
fn prefixed(prefix: &[u8]) -> Keys {
    let mut to = prefix.to_vec();
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    Keys::Range { from: prefix.to_vec(), to: Some(to) }
}
