//! Strong keyspaces: requests and answers, used by the state machine, by forwarding between nodes and by every
//! server. Semantics are etcd's (API v3) where etcd has the feature.
#![allow(missing_docs, reason = "each variant's docs explain its fields")]

pub mod codec;

use bincode::{Decode, Encode};

use codec::Nesting;

/// A point in the order of all changes of a keyspace; the first change is at 2, an empty keyspace at 1.
pub type Revision = u64;
/// A lease's name, chosen by the client or drawn by the state machine; never 0.
pub type LeaseId = i64;

/// One key or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Keys {
    /// Exactly this one.
    One(Vec<u8>),
    /// From `from` up to and without `to`; without `to`, to the last key.
    Range { from: Vec<u8>, to: Option<Vec<u8>> },
}

/// A key as it is, or was at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct KeyValue {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// When the key came into being, counted from its last deletion.
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
    /// Writes since it came into being, from 1.
    pub version: u64,
    /// The lease it goes with; 0: none.
    pub lease: LeaseId,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
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
pub struct RequestId {
    /// Drawn at random by the client.
    pub client: u128,
    /// Counts the client's writes, from 1.
    pub seq: u64,
    /// Every write below this one has been answered; what is remembered of them is forgotten.
    pub answered_below: u64,
}

/// Proof that a lock is held: whoever held it before has a smaller token.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fence {
    /// The lock's name: its holders' keys are `name/...`.
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
pub struct Range {
    pub keys: Keys,
    /// Most to return; 0: all that fits into an answer.
    pub limit: u64,
    /// Read the past; 0: now.
    pub revision: Revision,
    pub sort: Option<(SortBy, SortOrder)>,
    pub keys_only: bool,
    pub count_only: bool,
    /// Only those within these bounds (inclusive); 0: no bound.
    pub min_mod_revision: Revision,
    pub max_mod_revision: Revision,
    pub min_create_revision: Revision,
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
pub struct Put {
    pub key: Vec<u8>,
    /// None: keep the value the key has (it must exist).
    pub value: Option<Vec<u8>>,
    /// None: keep the lease the key has (it must exist). 0: no lease.
    pub lease: Option<LeaseId>,
    /// Return what was there before.
    pub prev: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Delete {
    pub keys: Keys,
    /// Return what was deleted.
    pub prev: bool,
}

/// If all of `compare` hold, `then`, otherwise `otherwise`; all of it at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<TxnOp>,
    pub otherwise: Vec<TxnOp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Compare {
    /// Holds if it holds for every key of the range that exists. Where none does, version, revisions and
    /// lease are 0, and no comparison of values holds.
    pub keys: Keys,
    pub is: Relation,
    pub to: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Relation {
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Operand {
    Version(u64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Vec<u8>),
    Lease(LeaseId),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum TxnOp {
    Range(Range),
    Put(Put),
    Delete(Delete),
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
pub enum Body {
    Range(Found),
    Put {
        prev: Option<KeyValue>,
    },
    /// The key that a sequential write made.
    Sequential {
        key: Vec<u8>,
    },
    Delete {
        deleted: u64,
        prev: Vec<KeyValue>,
    },
    Popped(Option<KeyValue>),
    Txn {
        succeeded: bool,
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
        keys: Vec<Vec<u8>>,
    },
    Leases(Vec<LeaseId>),
    Hash {
        hash: [u8; 32],
        compacted: Revision,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
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
