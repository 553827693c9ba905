//! Work queues over ordinary keys, leases and transactions: what is read, what is written, and which item is next. Clients,
//! servers and the simulator send these requests; the state machine knows nothing of queues.
//!
//! An item stays where it is until it is acknowledged. A *claim* stands beside it while a worker has it, under the
//! worker's lease: if the worker dies, its lease ends, and the item is free again. A delay is a *hold* under a lease that
//! nobody keeps alive. So the only clock that decides is the leader's, which ends leases.
//!
//! ```text
//! worker          keyspace
//!   | Search::read  |   items, claims, holds; no entry in the log; nothing free: that is all
//!   |-------------->|
//!   | LeaseGrant    |   one for many reservations of a worker
//!   |-------------->|
//!   | claim         |   if the item is as it was read, and has no claim
//!   |-------------->|
//!   | ack           |   if the claim is still the worker's: deletes both, and applies the effects of the work
//!   |-------------->|
//! ```
//!
//! An item is delivered at least once: a worker whose lease has ended may still be at work when the next one begins. What
//! must never happen: that an item which was pushed is deleted without an acknowledgement under a claim that stands, or that
//! two acknowledgements of one item succeed. Effects in the transaction of the acknowledgement are therefore applied once.

mod keys;
mod order;
mod push;
mod search;
mod take;
mod view;

use serde::{Deserialize, Serialize};

pub use keys::{Area, Place, QueueKeys};
pub use order::{Asker, Job, rank};
pub use push::{Pushing, push, pushed};
pub use search::{Findings, Free, Hints, Search, WINDOW};
pub use take::{
    Guard, Stored, acknowledge, bury, claim, claimed, pop, postpone, release, revive, stored, stored_read,
};
pub use view::{Change, change, count, counted, list};

use crate::api::queue::Rules;
use crate::api::{
    Body, Compare, Delete, Found, KeyValue, Keys, LeaseId, Operand, Put, Range, Relation, TxnOp,
};

/// What is known of an item beyond its key. In JSON, so that people can read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// How often it was reserved.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// How long the work is expected to take, milliseconds.
    pub cost_ms: u64,
    /// When it was pushed, by the client's clock, milliseconds since 1970; 0: that is not known.
    pub pushed_ms: u64,
    /// The tenant that it belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes the fields of a type by reference")]
fn is_zero(attempts: &u32) -> bool {
    *attempts == 0
}

impl About {
    /// What another client has written; the defaults if it cannot be read.
    fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields are written as JSON")
    }
}

/// The rules under the key of the rules; the defaults if there are none, or if they cannot be read.
fn read_rules(kv: Option<KeyValue>) -> Rules {
    kv.and_then(|kv| serde_json::from_slice(&kv.value).ok()).unwrap_or_default()
}

/// An answer that does not fit its request: the two ends differ in their version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer does not fit the request")]
pub struct Unfitting;

/// A condition on one key.
fn is(key: Vec<u8>, to: Operand) -> Compare {
    Compare { keys: Keys::One(key), is: Relation::Equal, to }
}

fn is_absent(key: Vec<u8>) -> Compare {
    is(key, Operand::CreateRevision(0))
}

fn put(key: Vec<u8>, value: impl Into<Vec<u8>>, lease: LeaseId) -> TxnOp {
    TxnOp::Put(Put { lease: Some(lease), ..Put::new(key, value) })
}

fn delete(key: Vec<u8>) -> TxnOp {
    TxnOp::Delete(Delete { keys: Keys::One(key), prev: false })
}

fn get(key: Vec<u8>) -> TxnOp {
    TxnOp::Range(Range::of(Keys::One(key)))
}

fn found(body: Body) -> Result<Found, Unfitting> {
    match body {
        Body::Range(found) => Ok(found),
        _ => Err(Unfitting),
    }
}

/// The outcomes of a transaction, and whether its conditions held.
fn outcomes(body: Body) -> Result<(bool, Vec<Body>), Unfitting> {
    match body {
        Body::Txn { succeeded, bodies } => Ok((succeeded, bodies)),
        _ => Err(Unfitting),
    }
}
