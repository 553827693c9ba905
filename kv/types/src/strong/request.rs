//! Requests to a strong keyspace.

use bincode::{Decode, Encode};
#[cfg(feature = "json")]
use serde::{Deserialize, Serialize};
#[cfg(feature = "json")]
use utoipa::ToSchema;

use super::codec::Nesting;
#[cfg(feature = "json")]
use super::form::{self, KeysForm, RequestForm, SortForm};
#[cfg(feature = "json")]
use crate::{Blob, json};

/// A point in the order of all changes of a keyspace; the first change is at 2, an empty keyspace at 1.
///
/// Fields of types with an OpenAPI schema are written `u64`, and ids of leases `i64`: a derived schema would refer to
/// the alias as to a type of its own.
pub type Revision = u64;
/// A lease's name, chosen by the client or drawn by the state machine; never 0.
pub type LeaseId = i64;

/// One key or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize), serde(from = "KeysForm", into = "KeysForm"))]
pub enum Keys {
    /// Exactly this one.
    One(Vec<u8>),
    /// From `from` up to and without `to`; without `to`, to the last key.
    Range {
        /// The first key.
        from: Vec<u8>,
        /// The key after the last one.
        to: Option<Vec<u8>>,
    },
}

impl Keys {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: Vec<u8>) -> Self {
        // The first key behind them: the last byte that can grow, grown.
        let grows = prefix.iter().rposition(|byte| *byte < u8::MAX);
        let to = grows.map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        });
        Self::Range { from: prefix, to }
    }
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
#[cfg_attr(
    feature = "json",
    derive(Serialize, Deserialize),
    serde(from = "RequestForm", into = "RequestForm")
)]
pub enum Request {
    /// Answered from the state, without a log entry.
    Read(Read),
    /// Goes through the log.
    Write(Write),
    /// Restarts a lease's time; answered by the leader once it has made sure that it still leads.
    KeepAlive {
        /// The lease.
        id: LeaseId,
    },
    /// A lease's remaining time, and its keys if asked for.
    TimeToLive {
        /// The lease.
        id: LeaseId,
        /// Whether to list its keys.
        keys: bool,
    },
}

impl From<Read> for Request {
    fn from(read: Read) -> Self {
        Self::Read(read)
    }
}

impl From<Write> for Request {
    fn from(write: Write) -> Self {
        Self::Write(write)
    }
}

impl From<Range> for Request {
    fn from(range: Range) -> Self {
        Self::Read(Read::Range(range))
    }
}

impl Request {
    /// A transaction: a read, answered without a log entry, if it cannot write.
    pub fn txn(txn: Txn) -> Self {
        if txn.writes() { Self::Write(Write::Txn(txn)) } else { Self::Read(Read::Txn(txn)) }
    }

    /// Whether this manages the keyspace for all its clients, so that only an administrator may send it over HTTP: a
    /// compaction ends the history that others read and resume watches from.
    pub fn is_administration(&self) -> bool {
        matches!(self, Self::Write(Write::Compact { .. }))
    }
}

/// How a request is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Options {
    /// Milliseconds the client is willing to wait; carried along when the request is forwarded.
    pub timeout_ms: u64,
    /// Read what this node's replica holds, without asking another member.
    pub stale: bool,
    /// Under this name a write is applied once, however often it is sent.
    pub id: Option<RequestId>,
    /// The write is refused unless this lock is held with this token.
    pub fence: Option<Fence>,
}

/// Identifies a write of a client, so that it is applied at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct RequestId {
    /// A UUID of version 7 (RFC 9562), which contains the time at which the client drew it; see
    /// [`RequestId::draw`]. In JSON up to 32 hexadecimal digits.
    #[cfg_attr(feature = "json", serde(with = "form::client"), schema(value_type = String))]
    pub client: u128,
    /// The number of the write, for a client that sends several under one id: they count from 1.
    #[cfg_attr(feature = "json", serde(default))]
    pub seq: u64,
    /// The client has received the answers to all writes below this number; they are forgotten.
    #[cfg_attr(feature = "json", serde(default))]
    pub answered_below: u64,
}

impl RequestId {
    /// The version of UUIDs that begin with the time, and the variant of RFC 9562, with the bits around them.
    const VERSION: (u128, u128) = (0xf << 76, 0x7 << 76);
    const VARIANT: (u128, u128) = (0b11 << 62, 0b10 << 62);

    /// A new value for [`RequestId::client`]: the time in milliseconds since 1970, and random bits.
    pub fn draw(wall_ms: u64, random: u128) -> u128 {
        let time = u128::from(wall_ms & ((1 << 48) - 1)) << 80;
        let random = random & ((1 << 80) - 1) & !Self::VERSION.0 & !Self::VARIANT.0;
        time | Self::VERSION.1 | Self::VARIANT.1 | random
    }

    /// When the client drew the id, milliseconds since 1970; `None` if the id is not a UUID of version 7.
    pub fn drawn_ms(client: u128) -> Option<u64> {
        let is_dated =
            client & Self::VERSION.0 == Self::VERSION.1 && client & Self::VARIANT.0 == Self::VARIANT.1;
        is_dated.then_some((client >> 80) as u64)
    }
}

/// Proof that a lock is held: every holder before has a smaller token.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Fence {
    /// The lock's name: its holders' keys are `name/...`.
    #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
    pub lock: Vec<u8>,
    /// The create revision of the holder's key.
    pub token: u64,
}

/// A request that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum Read {
    /// Keys and values.
    Range(Range),
    /// A transaction that only reads.
    Txn(Txn),
    /// All leases.
    Leases,
    /// The rolling hash of the state, and the revision it stands for.
    Hash,
}

impl Read {
    /// The oldest revision that it names; `None` if it reads the latest only.
    pub fn oldest_revision(&self) -> Option<Revision> {
        match self {
            Self::Range(range) => range.named_revision(),
            Self::Txn(txn) => txn.oldest_revision(),
            Self::Leases | Self::Hash => None,
        }
    }
}

/// Keys and values, at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), schema(as = Get))]
pub struct Range {
    /// The keys.
    pub keys: Keys,
    /// Most to return; 0: all that fits into an answer.
    #[cfg_attr(feature = "json", serde(default))]
    pub limit: u64,
    /// Read the past; 0: now.
    #[cfg_attr(feature = "json", serde(default))]
    pub revision: u64,
    /// The order; that of the keys if there is none.
    #[cfg_attr(
        feature = "json",
        serde(default, with = "form::sort", skip_serializing_if = "Option::is_none")
    )]
    #[cfg_attr(feature = "json", schema(value_type = Option<SortForm>))]
    pub sort: Option<(SortBy, SortOrder)>,
    /// Leave the values out.
    #[cfg_attr(feature = "json", serde(default))]
    pub keys_only: bool,
    /// Only count the keys.
    #[cfg_attr(feature = "json", serde(default))]
    pub count_only: bool,
    /// Only keys last written at this revision or later; 0: no bound.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "json::is_zero"))]
    pub min_mod_revision: u64,
    /// Only keys last written at this revision or before; 0: no bound.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "json::is_zero"))]
    pub max_mod_revision: u64,
    /// Only keys that came into being at this revision or later; 0: no bound.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "json::is_zero"))]
    pub min_create_revision: u64,
    /// Only keys that came into being at this revision or before; 0: no bound.
    #[cfg_attr(feature = "json", serde(default))]
    pub max_create_revision: u64,
}

impl Range {
    /// All of these keys, now, in their order.
    pub fn of(keys: Keys) -> Self {
        Self {
            keys,
            limit: 0,
            revision: 0,
            sort: None,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    fn named_revision(&self) -> Option<Revision> {
        Some(self.revision).filter(|revision| *revision != 0)
    }
}

/// The property that keys are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), serde(rename_all = "snake_case"))]
pub enum SortBy {
    /// The bytes of the key.
    Key,
    /// How often it was written.
    Version,
    /// When it came into being.
    CreateRevision,
    /// When it was last written.
    ModRevision,
    /// What it holds.
    Value,
}

/// The direction of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SortOrder {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// A request that changes the keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum Write {
    /// Sets a key.
    Put(Put),
    /// Sets a key `prefix` + the revision of this write as 20 decimal digits, which no other write gets.
    PutSequential {
        /// What the key begins with.
        prefix: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// The lease that the key is attached to; 0: none.
        lease: LeaseId,
    },
    /// Deletes keys.
    Delete(Delete),
    /// Deletes the first key of a range, and returns it.
    PopFirst {
        /// The range.
        keys: Keys,
    },
    /// Compares, then writes.
    Txn(Txn),
    /// Discards what was superseded up to a revision.
    Compact {
        /// The revision.
        revision: Revision,
    },
    /// Creates a lease.
    LeaseGrant {
        /// Its id; 0: drawn by the state machine.
        id: LeaseId,
        /// How long it lasts without a keep-alive, milliseconds.
        ttl_ms: u64,
    },
    /// Ends a lease, and deletes its keys.
    LeaseRevoke {
        /// Its id.
        id: LeaseId,
    },
}

/// Sets a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Put {
    /// The key.
    #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
    pub key: Vec<u8>,
    /// The value; none: keep the one that the key has (it must exist).
    #[cfg_attr(feature = "json", serde(with = "json::bytes_or_null"))]
    #[cfg_attr(feature = "json", schema(value_type = Option<Blob>, required))]
    pub value: Option<Vec<u8>>,
    /// The lease that it is attached to, 0: no lease; none: keep the one that the key has (it must exist).
    #[cfg_attr(feature = "json", serde(default = "form::no_lease"))]
    pub lease: Option<i64>,
    /// Return what was there before.
    #[cfg_attr(feature = "json", serde(default))]
    pub prev: bool,
}

impl Put {
    /// Sets `key` to `value`, attached to no lease.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: Some(value.into()), lease: Some(0), prev: false }
    }
}

/// Deletes keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Delete {
    /// The keys.
    pub keys: Keys,
    /// Return what was deleted.
    #[cfg_attr(feature = "json", serde(default))]
    pub prev: bool,
}

/// A transaction: if all of `compare` hold, `then`, otherwise `otherwise`; all of it at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), serde(default, deny_unknown_fields))]
pub struct Txn {
    /// Conditions.
    pub compare: Vec<Compare>,
    /// Carried out if all of them hold.
    pub then: Vec<TxnOp>,
    /// Carried out if one does not.
    pub otherwise: Vec<TxnOp>,
}

impl Txn {
    /// Transactions within transactions, this one counted.
    pub fn depth(&self) -> usize {
        let depth = |op: &TxnOp| if let TxnOp::Txn(txn) = op { txn.depth() } else { 0 };
        1 + self.then.iter().chain(&self.otherwise).map(depth).max().unwrap_or(0)
    }

    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        let writes = |op: &TxnOp| match op {
            TxnOp::Range(_) => false,
            TxnOp::Put(_) | TxnOp::Delete(_) => true,
            TxnOp::Txn(txn) => txn.writes(),
        };
        self.then.iter().chain(&self.otherwise).any(writes)
    }

    /// The oldest revision that its ranges name; `None` if they read the latest only.
    pub fn oldest_revision(&self) -> Option<Revision> {
        let ops = self.then.iter().chain(&self.otherwise);
        let named = ops.filter_map(|op| match op {
            TxnOp::Range(range) => range.named_revision(),
            TxnOp::Txn(txn) => txn.oldest_revision(),
            TxnOp::Put(_) | TxnOp::Delete(_) => None,
        });
        named.min()
    }
}

/// A condition on keys. It holds if it holds for every key of the range that exists. Where none does, version,
/// revisions and lease are 0, and no comparison of values holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Compare {
    /// The keys.
    #[cfg_attr(feature = "json", serde(flatten))]
    pub keys: Keys,
    /// How the left side and the right side compare.
    #[cfg_attr(feature = "json", serde(default))]
    pub is: Relation,
    /// The property of the keys on the left side, and the right side.
    #[cfg_attr(feature = "json", serde(flatten))]
    pub to: Operand,
}

/// How two sides of a condition compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), serde(rename_all = "snake_case"))]
pub enum Relation {
    /// They are the same.
    #[default]
    Equal,
    /// They differ.
    NotEqual,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
}

/// The value that a property of a key is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize), serde(rename_all = "snake_case"))]
pub enum Operand {
    /// Writes since the key came into being.
    Version(u64),
    /// When it came into being.
    CreateRevision(Revision),
    /// When it was last written.
    ModRevision(Revision),
    /// What it holds.
    #[cfg_attr(feature = "json", serde(with = "json::bytes"))]
    Value(Vec<u8>),
    /// The lease that it is attached to.
    Lease(LeaseId),
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
#[cfg_attr(
    feature = "json",
    derive(Serialize, Deserialize, ToSchema),
    serde(tag = "op", rename_all = "snake_case")
)]
pub enum TxnOp {
    /// Reads keys and values.
    #[cfg_attr(feature = "json", serde(rename = "get"))]
    Range(Range),
    /// Sets a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// A transaction within.
    #[cfg_attr(feature = "json", schema(no_recursion))]
    Txn(Txn),
}
