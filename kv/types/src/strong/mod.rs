//! Strong keyspaces: requests and answers, used by the state machine, by forwarding between nodes and by every
//! server. Semantics are etcd's (API v3) where etcd has the feature.
#![allow(missing_docs, reason = "each variant's docs explain its fields")]

pub mod codec;
#[cfg(feature = "json")]
mod form;

use bincode::{Decode, Encode};
#[cfg(feature = "json")]
use serde::{Deserialize, Serialize};
#[cfg(feature = "json")]
use utoipa::ToSchema;

use codec::Nesting;
#[cfg(feature = "json")]
use form::SortForm;
#[cfg(feature = "json")]
pub use form::{KeysForm, RequestForm};

#[cfg(feature = "json")]
use crate::{Blob, json};

/// A point in the order of all changes of a keyspace; the first change is at 2, an empty keyspace at 1.
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
    Range { from: Vec<u8>, to: Option<Vec<u8>> },
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

/// A key as it is, or was at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct KeyValue {
    #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
    pub key: Vec<u8>,
    #[cfg_attr(feature = "json", serde(default, with = "json::bytes"), schema(value_type = Blob))]
    pub value: Vec<u8>,
    /// When the key came into being, counted from its last deletion.
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
    /// Writes since it came into being, from 1.
    pub version: u64,
    /// The lease it goes with; 0: none.
    #[cfg_attr(feature = "json", serde(default))]
    pub lease: LeaseId,
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
    KeepAlive { id: LeaseId },
    /// A lease's remaining time, and its keys if asked for.
    TimeToLive { id: LeaseId, keys: bool },
}

impl Request {
    /// A transaction: a read, answered without a log entry, if it cannot write.
    pub fn txn(txn: Txn) -> Self {
        if txn.writes() { Self::Write(Write::Txn(txn)) } else { Self::Read(Read::Txn(txn)) }
    }
}

/// How a request is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Options {
    /// Milliseconds the client is willing to wait; carried along when the request is forwarded.
    pub timeout_ms: u64,
    /// Read what this node's replica holds, without asking anybody.
    pub stale: bool,
    /// Under this name a write is applied once, however often it is sent.
    pub id: Option<RequestId>,
    /// The write is refused unless this lock is held with this token.
    pub fence: Option<Fence>,
}

/// Names a write of a client for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct RequestId {
    /// Drawn at random by the client.
    #[cfg_attr(feature = "json", serde(with = "json::hex_u128"), schema(value_type = String))]
    pub client: u128,
    /// Counts the client's writes, from 1.
    #[cfg_attr(feature = "json", serde(default))]
    pub seq: u64,
    /// Every write below this one has been answered; what is remembered of them is forgotten.
    #[cfg_attr(feature = "json", serde(default))]
    pub answered_below: u64,
}

/// Proof that a lock is held: whoever held it before has a smaller token.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Fence {
    /// The lock's name: its holders' keys are `name/...`.
    #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
    pub lock: Vec<u8>,
    /// The create revision of the holder's key.
    pub token: Revision,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum Read {
    Range(Range),
    /// A transaction that only reads.
    Txn(Txn),
    Leases,
    /// The rolling hash of the state, and the revision it stands for.
    Hash,
}

/// Keys and values, at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), schema(as = Get))]
pub struct Range {
    #[cfg_attr(feature = "json", schema(value_type = KeysForm))]
    pub keys: Keys,
    /// Most to return; 0: all that fits into an answer.
    #[cfg_attr(feature = "json", serde(default))]
    pub limit: u64,
    /// Read the past; 0: now.
    #[cfg_attr(feature = "json", serde(default))]
    pub revision: Revision,
    #[cfg_attr(feature = "json", serde(default, with = "form::sort", skip_serializing_if = "Option::is_none"), schema(value_type = Option<SortForm>))]
    pub sort: Option<(SortBy, SortOrder)>,
    #[cfg_attr(feature = "json", serde(default))]
    pub keys_only: bool,
    #[cfg_attr(feature = "json", serde(default))]
    pub count_only: bool,
    /// Only those within these bounds (inclusive); 0: no bound.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "json::is_zero"))]
    pub min_mod_revision: Revision,
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "json::is_zero"))]
    pub max_mod_revision: Revision,
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "json::is_zero"))]
    pub min_create_revision: Revision,
    #[cfg_attr(feature = "json", serde(default))]
    pub max_create_revision: Revision,
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), serde(rename_all = "snake_case"))]
pub enum SortBy {
    Key,
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SortOrder {
    Ascending,
    Descending,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum Write {
    Put(Put),
    /// Writes a key `prefix` + the revision of this write as 20 decimal digits, which nobody else has.
    PutSequential {
        prefix: Vec<u8>,
        value: Vec<u8>,
        lease: LeaseId,
    },
    Delete(Delete),
    /// Deletes the first key of a range, and returns it.
    PopFirst {
        keys: Keys,
    },
    Txn(Txn),
    /// Forgets what was superseded up to this revision.
    Compact {
        revision: Revision,
    },
    /// `id` 0: drawn by the state machine.
    LeaseGrant {
        id: LeaseId,
        ttl_ms: u64,
    },
    /// Ends a lease, and deletes its keys.
    LeaseRevoke {
        id: LeaseId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Put {
    #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
    pub key: Vec<u8>,
    /// None: keep the value the key has (it must exist).
    #[cfg_attr(feature = "json", serde(with = "json::bytes_or_null"), schema(value_type = Option<Blob>, required))]
    pub value: Option<Vec<u8>>,
    /// None: keep the lease the key has (it must exist). 0: no lease.
    #[cfg_attr(feature = "json", serde(default = "form::no_lease"))]
    pub lease: Option<LeaseId>,
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

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Delete {
    #[cfg_attr(feature = "json", schema(value_type = KeysForm))]
    pub keys: Keys,
    /// Return what was deleted.
    #[cfg_attr(feature = "json", serde(default))]
    pub prev: bool,
}

/// If all of `compare` hold, `then`, otherwise `otherwise`; all of it at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), serde(default, deny_unknown_fields))]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<TxnOp>,
    pub otherwise: Vec<TxnOp>,
}

impl Txn {
    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        let writes = |op: &TxnOp| match op {
            TxnOp::Range(_) => false,
            TxnOp::Put(_) | TxnOp::Delete(_) => true,
            TxnOp::Txn(txn) => txn.writes(),
        };
        self.then.iter().chain(&self.otherwise).any(writes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Compare {
    /// Holds if it holds for every key of the range that exists. Where none does, version, revisions and
    /// lease are 0, and no comparison of values holds.
    #[cfg_attr(feature = "json", serde(flatten), schema(value_type = KeysForm))]
    pub keys: Keys,
    #[cfg_attr(feature = "json", serde(default))]
    pub is: Relation,
    #[cfg_attr(feature = "json", serde(flatten))]
    pub to: Operand,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), serde(rename_all = "snake_case"))]
pub enum Relation {
    #[default]
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize), serde(rename_all = "snake_case"))]
pub enum Operand {
    Version(u64),
    CreateRevision(Revision),
    ModRevision(Revision),
    #[cfg_attr(feature = "json", serde(with = "json::bytes"))]
    Value(Vec<u8>),
    Lease(LeaseId),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
#[cfg_attr(
    feature = "json",
    derive(Serialize, Deserialize, ToSchema),
    serde(tag = "op", rename_all = "snake_case")
)]
pub enum TxnOp {
    #[cfg_attr(feature = "json", serde(rename = "get"))]
    Range(Range),
    Put(Put),
    Delete(Delete),
    #[cfg_attr(feature = "json", schema(no_recursion))]
    Txn(Txn),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub struct Answer {
    /// The keyspace's revision when it was answered: that of the write, if it changed anything.
    pub revision: Revision,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema), serde(tag = "result", rename_all = "snake_case"), schema(as = StrongResult))]
pub enum Body {
    #[cfg_attr(feature = "json", serde(rename = "found"))]
    Range(Found),
    Put {
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        prev: Option<KeyValue>,
    },
    /// The key that a sequential write made.
    Sequential {
        #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
        key: Vec<u8>,
    },
    #[cfg_attr(feature = "json", serde(rename = "deleted"))]
    Delete {
        deleted: u64,
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Vec::is_empty"))]
        prev: Vec<KeyValue>,
    },
    Popped {
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        first: Option<KeyValue>,
    },
    Txn {
        succeeded: bool,
        #[cfg_attr(feature = "json", serde(rename = "results"), schema(no_recursion))]
        bodies: Vec<Body>,
    },
    Compacted,
    LeaseGranted {
        id: LeaseId,
        ttl_ms: u64,
    },
    LeaseRevoked,
    /// The whole time that a lease now has again.
    KeptAlive {
        id: LeaseId,
        ttl_ms: u64,
    },
    TimeToLive {
        id: LeaseId,
        granted_ms: u64,
        left_ms: u64,
        #[cfg_attr(feature = "json", serde(with = "json::list"), schema(value_type = Vec<Blob>))]
        keys: Vec<Vec<u8>>,
    },
    Leases {
        leases: Vec<LeaseId>,
    },
    Hash {
        #[cfg_attr(feature = "json", serde(with = "json::hex_bytes"), schema(value_type = String))]
        hash: [u8; 32],
        #[cfg_attr(feature = "json", serde(skip))]
        compacted: Revision,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Found {
    pub kvs: Vec<KeyValue>,
    /// There were more than the limit, or than fits into an answer.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: u64,
}

/// Why the state machine refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    #[error("revision {asked} has been compacted: the oldest that can be read is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} is in the future: the keyspace is at {now}")]
    FutureRevision { asked: Revision, now: Revision },
    #[error("there is no lease {0:x}: it was revoked or has expired")]
    LeaseNotFound(LeaseId),
    #[error("lease {0:x} exists")]
    LeaseExists(LeaseId),
    #[error("a lease may last from 1 s to 9,000,000 s")]
    LeaseTtl,
    #[error("the key does not exist")]
    KeyNotFound,
    #[error("a key may not be empty")]
    EmptyKey,
    #[error("a transaction may not write one key twice")]
    DuplicateKey,
    #[error("a transaction may have {max} operations")]
    TooManyOps { max: u64 },
    #[error("{what} of {bytes} bytes: at most {max} bytes fit")]
    TooLarge { what: String, bytes: u64, max: u64 },
    #[error("the keyspace is full: {bytes} of {max} bytes; delete keys and compact")]
    NoSpace { bytes: u64, max: u64 },
    #[error("the lock is not held with token {token} any more")]
    StaleFence { token: Revision },
    #[error("a write with this name was answered long ago: its answer is forgotten")]
    Forgotten,
    #[error("a read may not write")]
    NotARead,
    #[error("too many {what}: at most {max}")]
    TooMany { what: String, max: u64 },
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Refused(Refusal),
    #[error("there is no strong keyspace {0:?}")]
    NoSuchKeyspace(String),
    /// Nothing was changed.
    #[error("keyspace {0:?} was made twice, apart from each other: drop one of them")]
    Ambiguous(String),
    /// Nothing was changed.
    #[error("keyspace {keyspace:?} has no majority: no word from {}", missing.join(", "))]
    NoMajority { keyspace: String, missing: Vec<String> },
    /// Nothing was changed.
    #[error("no answer from keyspace {0:?} in time; nothing was changed")]
    Timeout(String),
    /// The write may have been applied, or be applied yet.
    #[error("no answer from keyspace {0:?} in time: the write may or may not have been applied")]
    OutcomeUnknown(String),
    /// Nothing was changed.
    #[error("too much is under way: try again later")]
    Overloaded,
    /// A stale read on a node without a replica.
    #[error("this node has no replica of {0:?}")]
    NoReplica(String),
    /// The replica has found that it differs from the others, and serves nothing any more.
    #[error("the replica on {0} differs from the others and has stopped serving")]
    Diverged(String),
    #[error("storage failed: {0}")]
    Storage(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Watch {
    pub keys: Keys,
    /// The first revision to be told; 0: from the next change on.
    pub from_revision: Revision,
    /// Say what was there before each change.
    pub prev: bool,
    pub only: Option<EventKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// What is there now. Of a deletion: its key and its revision.
    pub kv: KeyValue,
    pub kind: EventKind,
    pub prev: Option<KeyValue>,
}

/// What a watch is told.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WatchUpdate {
    /// It stands; changes from the next revision after this one on will be told.
    Created { revision: Revision },
    /// Changes in order; those of one revision are never torn apart. `revision`: all up to there are told.
    Events { revision: Revision, events: Vec<Event> },
    /// All changes up to there have been told; said when asked for, and now and then where nothing changes.
    Progress { revision: Revision },
    /// The end: what was asked for is no longer kept. Nothing between is known.
    Compacted { oldest: Revision },
    /// The end: too slow, or the replica is gone. To be resumed from the revision after the last one told.
    Lost { reason: String },
}

/// How the group that owns a keyspace stands, as the node that was asked knows it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// The group's name for ever.
    pub group: [u8; 16],
    /// The member that answered.
    pub member: u64,
    /// None while an election is under way.
    pub leader: Option<u64>,
    pub term: u64,
    /// Voters and learners.
    pub members: Vec<Member>,
    pub revision: Revision,
    /// The last entry of its log, and the last one that its state machine has applied.
    pub log_index: u64,
    pub applied_index: u64,
    /// The last entry that the member knows most voters to have.
    pub commit_index: u64,
    /// Entries that its log keeps, and what they take on disk, about.
    pub log_entries: u64,
    pub log_bytes: u64,
    /// What the keyspace takes on disk, superseded versions included.
    pub bytes: u64,
    /// Milliseconds since the member heard of its leader; of a leader, since it heard of a majority.
    /// None: not since its process started.
    pub heard_ms: Option<u64>,
    /// Voters that are lost are not replaced by themselves.
    pub manual: bool,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    pub id: u64,
    /// Its node's public key.
    pub node: [u8; 32],
    /// What people call its node.
    pub name: String,
    /// It follows, and has no vote.
    pub learner: bool,
    /// Entries of the leader's log that it does not have. None: whoever answers is not the leader.
    pub behind: Option<u64>,
    /// It is being sent a snapshot; only the leader knows.
    pub restoring: bool,
    /// Milliseconds since it was heard of. None: not since the answering process started, or it is one
    /// follower of another.
    pub silent_ms: Option<u64>,
    /// Addresses of its node, as URLs: for nodes, and for clients.
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}
