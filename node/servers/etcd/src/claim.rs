//! Claims to a lock or a leadership, queued as by etcd's own recipes ([`starling_strong::line`]). Each claim waits
//! for the deletion of the key before its own, so that each deletion wakes one client.

use starling_strong::api::{
    Body, Compare, Delete, EventKind, KeyValue, Keys, LeaseId, Operand, Put, Range, Read, Relation, Request,
    Revision, SortBy, SortOrder, Txn, TxnOp, Watch, Write,
};
use starling_strong::line;
use tonic::Status;

use crate::convert::unexpected;
use crate::failure::status;
use crate::keyspace::{Keyspace, Timing};
use crate::watching::Watching;

/// Time of the lease that this server grants for a client that named none, milliseconds, as in etcd.
const LEASE_MS: u64 = 60_000;

/// A key in the queue. If the claim is dropped before its turn, the key is deleted.
pub struct Claim {
    keyspace: Keyspace,
    prefix: Vec<u8>,
    pub key: Vec<u8>,
    /// The create revision of the key, which orders the queue.
    pub place: Revision,
    /// The keyspace's revision when the key was put, or was found to exist.
    pub made: Revision,
    pub lease: LeaseId,
    /// The key and its value before, if it existed.
    pub found: Option<KeyValue>,
    give_back: bool,
}

impl Claim {
    /// Puts a key with a value into the queue, unless this lease has one there already.
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

    /// Waits until this claim is the first in the queue, and returns the revision. Fails if its key was deleted.
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

    /// The key before this one in the queue, and the revision of that read.
    async fn before(&self) -> Result<Option<(Vec<u8>, Revision)>, Status> {
        // The first revision of a change is 2, so the bound is never 0, which would mean none.
        let last = one(prefixed(&self.prefix), SortOrder::Descending, self.place - 1);
        let (revision, kv) = first(&self.keyspace, last).await?;
        Ok(kv.map(|kv| (kv.key, revision)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.give_back {
            // If the node is overloaded, the key is deleted when its lease expires.
            self.keyspace.order(Write::Txn(leave(&self.key, self.place)));
        }
    }
}

/// Deletes a key if it has this create revision.
pub fn leave(key: &[u8], place: Revision) -> Txn {
    Txn {
        compare: vec![created(key, place)],
        then: vec![TxnOp::Delete(Delete { keys: Keys::One(key.to_vec()), prev: false })],
        otherwise: Vec::new(),
    }
}

/// Writes to a key if it has this create revision.
pub fn say(key: &[u8], place: Revision, value: Vec<u8>, lease: LeaseId) -> Txn {
    let put = Put { key: key.to_vec(), value: Some(value), lease: Some(lease), prev: false };
    Txn { compare: vec![created(key, place)], then: vec![TxnOp::Put(put)], otherwise: Vec::new() }
}

/// Runs a transaction, and returns the revision and whether its conditions held.
pub async fn succeeded(keyspace: &Keyspace, txn: Txn, timing: Timing) -> Result<(Revision, bool), Status> {
    let answer =
        keyspace.ask(Request::Write(Write::Txn(txn)), timing).await.map_err(|error| status(&error))?;
    let Body::Txn { succeeded, .. } = answer.body else { return Err(unexpected()) };
    Ok((answer.revision, succeeded))
}

/// The first key in the queue with this name, and the revision of that read.
pub async fn holder(keyspace: &Keyspace, name: &[u8]) -> Result<(Revision, Option<KeyValue>), Status> {
    first(keyspace, one(everybody(name), SortOrder::Ascending, 0)).await
}

/// The keys of all claims in the queue with this name.
pub fn everybody(name: &[u8]) -> Keys {
    prefixed(&line::prefix(name))
}

async fn first(keyspace: &Keyspace, range: Range) -> Result<(Revision, Option<KeyValue>), Status> {
    let answer = keyspace.read(Read::Range(range)).await;
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

/// The condition that a key has this create revision; 0 means that it does not exist.
fn created(key: &[u8], revision: Revision) -> Compare {
    Compare { keys: Keys::One(key.to_vec()), is: Relation::Equal, to: Operand::CreateRevision(revision) }
}

/// The first or the last key in the order of creation, up to a create revision.
fn one(keys: Keys, order: SortOrder, max_create_revision: Revision) -> Range {
    Range { limit: 1, sort: Some((SortBy::CreateRevision, order)), max_create_revision, ..Range::of(keys) }
}

/// All keys with a prefix. It ends with a slash, so that there is a first key after them.
fn prefixed(prefix: &[u8]) -> Keys {
    let mut to = prefix.to_vec();
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    Keys::Range { from: prefix.to_vec(), to: Some(to) }
}
