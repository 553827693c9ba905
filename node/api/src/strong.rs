//! Strong keyspaces: what is asked of them, and what they answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Blob;

/// Voters of a keyspace when the request does not say.
pub const VOTERS_DEFAULT: u8 = 3;
/// How long a request may take when it does not say, milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 5_000;
/// The longest that a request may take, milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 60_000;

/// Makes a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyspace {
    /// Its name.
    pub name: String,
    /// How many nodes vote: 1, 3, 5 or 7. They are chosen for spread and uptime.
    #[serde(default = "voters_default")]
    pub voters: u8,
    /// The nodes instead, by name or by the first digits of their id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// A voter that is lost is not replaced by itself.
    #[serde(default)]
    pub manual: bool,
}

fn voters_default() -> u8 {
    VOTERS_DEFAULT
}

/// Makes these nodes the voters of a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Voters {
    /// By name or by the first digits of their id.
    pub nodes: Vec<String>,
}

/// Lets a node lead a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// By name or by the first digits of its id.
    pub node: String,
}

/// How a strong keyspace stands, as one of its members sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongInfo {
    /// Its name.
    pub name: String,
    /// The name of its group for ever, in hexadecimal.
    pub group: String,
    /// The member that answered.
    pub answered_by: String,
    /// Who leads; absent while an election is under way.
    pub leader: Option<String>,
    /// Counts elections.
    pub term: u64,
    /// Voters and learners.
    pub members: Vec<StrongMember>,
    /// Of its last change.
    pub revision: u64,
    /// The last entry of the log of the member that answered.
    pub log_index: u64,
    /// The last entry that it has applied.
    pub applied_index: u64,
    /// The last entry that it knows most voters to have.
    pub commit_index: u64,
    /// Entries that its log keeps.
    pub log_entries: u64,
    /// What they take on its disk, about.
    pub log_bytes: u64,
    /// What the keyspace takes on its disk, superseded versions included.
    pub bytes: u64,
    /// Milliseconds since it heard of the leader, or, if it leads, of a majority; absent: not since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// A voter that is lost is not replaced by itself.
    pub manual: bool,
}

/// One member of a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongMember {
    /// Its node's public key in hexadecimal.
    pub id: String,
    /// Its node's name.
    pub name: String,
    /// "voter", or "learner": it follows, and has no vote.
    pub role: String,
    /// Its node's multiaddresses.
    pub addresses: Vec<String>,
    /// Entries of the leader's log that it does not have; absent if the leader could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// It is being sent a snapshot, as far as the leader knows.
    #[serde(default)]
    pub restoring: bool,
    /// Milliseconds since it was heard of by the member that answered; absent: not since that one started, or
    /// it is one follower of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
}

/// One key, those with a prefix, or a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// Exactly this one.
    Key(Blob),
    /// All that begin with this.
    Prefix(Blob),
    /// From one key up to and without another.
    Range {
        /// The first.
        from: Blob,
        /// Without this one; absent: to the last key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Blob>,
    },
}

/// Keys and values at one revision, in order of the keys unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Get {
    /// Which.
    pub keys: Keys,
    /// Most to return; 0: all that fits into an answer.
    #[serde(default)]
    pub limit: u64,
    /// Read the past; 0: now.
    #[serde(default)]
    pub revision: u64,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// Only those that came into being up to this revision; 0: all.
    #[serde(default)]
    pub max_create_revision: u64,
    /// No values.
    #[serde(default)]
    pub keys_only: bool,
    /// Only how many.
    #[serde(default)]
    pub count_only: bool,
}

impl Get {
    /// What these keys hold now.
    pub fn of(keys: Keys) -> Self {
        Self {
            keys,
            limit: 0,
            revision: 0,
            sort: None,
            max_create_revision: 0,
            keys_only: false,
            count_only: false,
        }
    }
}

/// An order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// The greatest first.
    #[serde(default)]
    pub descending: bool,
}

/// What keys are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    /// Their bytes.
    Key,
    /// How often they were written.
    Version,
    /// When they came into being.
    CreateRevision,
    /// When they were last written.
    ModRevision,
    /// What they hold.
    Value,
}

/// Sets a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Put {
    /// The key.
    pub key: Blob,
    /// The value.
    pub value: Blob,
    /// The key goes with this lease; 0: with none.
    #[serde(default)]
    pub lease: i64,
    /// Return what was there before.
    #[serde(default)]
    pub prev: bool,
}

/// Deletes keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delete {
    /// Which.
    pub keys: Keys,
    /// Return what was there before.
    #[serde(default)]
    pub prev: bool,
}

/// If all of `compare` hold, `then`, otherwise `otherwise`; all of it at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Txn {
    /// Conditions.
    #[serde(default)]
    pub compare: Vec<Compare>,
    /// Done if they hold.
    #[serde(default)]
    pub then: Vec<TxnOp>,
    /// Done if one does not.
    #[serde(default)]
    pub otherwise: Vec<TxnOp>,
}

impl Txn {
    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        self.then.iter().chain(&self.otherwise).any(|op| !matches!(op, TxnOp::Get(_)))
    }
}

/// A condition on one key. A key that does not exist has all revisions, version and lease 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Compare {
    /// The key.
    pub key: Blob,
    /// How the left side and the right side compare.
    #[serde(default)]
    pub is: Relation,
    /// The right side.
    #[serde(flatten)]
    pub to: Operand,
}

/// How two things compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// They are the same.
    #[default]
    Equal,
    /// They are not.
    NotEqual,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
}

/// What a key's property is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operand {
    /// Writes since the key came into being.
    Version(u64),
    /// When it came into being.
    CreateRevision(u64),
    /// When it was last written.
    ModRevision(u64),
    /// What it holds.
    Value(Blob),
    /// The lease it goes with.
    Lease(i64),
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum TxnOp {
    /// Read.
    Get(Get),
    /// Set.
    Put(Put),
    /// Delete.
    Delete(Delete),
}

/// What is asked of a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum StrongRequest {
    /// Keys and values.
    Get(Get),
    /// Set a key.
    Put(Put),
    /// Set a key `prefix` + 20 digits that nobody else has, in the order of the writes.
    PutSequential {
        /// What it begins with.
        prefix: Blob,
        /// The value.
        value: Blob,
        /// The key goes with this lease; 0: with none.
        #[serde(default)]
        lease: i64,
    },
    /// Delete keys.
    Delete(Delete),
    /// Delete the first key, and return it.
    PopFirst {
        /// Among these.
        keys: Keys,
    },
    /// Compare, then.
    Txn(Txn),
    /// Forget what was superseded up to this revision.
    Compact {
        /// Which.
        revision: u64,
    },
    /// Make a lease.
    LeaseGrant {
        /// Its name; 0: to be drawn.
        #[serde(default)]
        id: i64,
        /// How long it lasts without a sign of life, milliseconds.
        ttl_ms: u64,
    },
    /// End a lease, and delete its keys.
    LeaseRevoke {
        /// Which.
        id: i64,
    },
    /// Start a lease's time again.
    KeepAlive {
        /// Which.
        id: i64,
    },
    /// A lease's time and keys.
    TimeToLive {
        /// Which.
        id: i64,
    },
    /// All leases.
    Leases,
    /// What a replica makes of its log, in short: replicas that have applied the same say the same. Asked with
    /// `stale`, this node's replica answers, otherwise the leader's.
    Hash,
}

/// One request to a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongCall {
    /// What.
    #[serde(flatten)]
    pub request: StrongRequest,
    /// How long it may take, milliseconds; at most [`TIMEOUT_MS_MAX`].
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
    /// Read what this node's replica holds, without asking anybody.
    #[serde(default)]
    pub stale: bool,
    /// Under this name a write is applied once, however often it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The write is refused unless this lock is held with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

fn timeout_default() -> u64 {
    TIMEOUT_MS_DEFAULT
}

impl From<StrongRequest> for StrongCall {
    fn from(request: StrongRequest) -> Self {
        Self { request, timeout_ms: TIMEOUT_MS_DEFAULT, stale: false, request_id: None, fence: None }
    }
}

/// Names a write for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestId {
    /// Who writes: up to 32 hexadecimal digits, drawn at random.
    pub client: String,
    /// Counts the client's writes.
    #[serde(default)]
    pub seq: u64,
    /// Every write below this one has been answered: what is remembered of them may be forgotten.
    #[serde(default)]
    pub answered_below: u64,
}

/// Proof that a lock is held: whoever held it before has a smaller token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fence {
    /// The lock's name: its holders' keys are `name/...`.
    pub lock: Blob,
    /// The create revision of the holder's key.
    pub token: u64,
}

/// A key as it is, or was at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyValue {
    /// The key.
    pub key: Blob,
    /// What it holds; nothing after a deletion.
    #[serde(default)]
    pub value: Blob,
    /// When it came into being, counted from its last deletion.
    pub create_revision: u64,
    /// When it was last written.
    pub mod_revision: u64,
    /// Writes since it came into being, from 1.
    pub version: u64,
    /// The lease it goes with; 0: none.
    #[serde(default)]
    pub lease: i64,
}

/// The answer of a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongAnswer {
    /// The keyspace's revision when it was answered: that of the write, if it changed anything.
    pub revision: u64,
    /// How old what a stale read has read may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Staleness>,
    /// What came of it.
    #[serde(flatten)]
    pub result: StrongResult,
}

/// How old what a replica holds may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Staleness {
    /// Milliseconds since the replica heard of its leader, or, if it leads, of a majority; absent: not since
    /// its node started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// The last entry of the log that it has applied.
    pub applied_index: u64,
    /// The last one that it knows most voters to have.
    pub commit_index: u64,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum StrongResult {
    /// What was found.
    Found(Found),
    /// The key was set.
    Put {
        /// What was there before, if asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev: Option<KeyValue>,
    },
    /// The key that a sequential write made.
    Sequential {
        /// Its name.
        key: Blob,
    },
    /// Keys were deleted.
    Deleted {
        /// How many.
        deleted: u64,
        /// What was there before, if asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prev: Vec<KeyValue>,
    },
    /// The first key, which is gone now.
    Popped {
        /// Absent: there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<KeyValue>,
    },
    /// A transaction was carried out.
    Txn {
        /// Whether the conditions held.
        succeeded: bool,
        /// One for each operation of the branch taken.
        #[schema(no_recursion)]
        results: Vec<StrongResult>,
    },
    /// The past was forgotten.
    Compacted,
    /// A lease was made.
    LeaseGranted {
        /// Its name.
        id: i64,
        /// How long it lasts, milliseconds.
        ttl_ms: u64,
    },
    /// A lease was ended.
    LeaseRevoked,
    /// A lease's time began again.
    KeptAlive {
        /// Its name.
        id: i64,
        /// How long it lasts, milliseconds.
        ttl_ms: u64,
    },
    /// A lease's time and keys.
    TimeToLive {
        /// Its name.
        id: i64,
        /// How long it lasts, milliseconds.
        granted_ms: u64,
        /// How long it has left, milliseconds.
        left_ms: u64,
        /// The keys that go with it.
        keys: Vec<Blob>,
    },
    /// All leases.
    Leases {
        /// Their names.
        leases: Vec<i64>,
    },
    /// What a replica makes of its log.
    Hash {
        /// In hexadecimal.
        hash: String,
    },
}

/// Keys that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// In order.
    pub kvs: Vec<KeyValue>,
    /// There were more than the limit, or than fits into an answer.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: u64,
}

/// What a watch of a strong keyspace is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StrongEvent {
    /// The watch stands: changes from the next revision on will be told.
    Ready {
        /// Everything up to there is not.
        revision: u64,
    },
    /// A key was written.
    Put {
        /// As it is now.
        kv: KeyValue,
    },
    /// A key was deleted.
    Delete {
        /// Which.
        key: Blob,
        /// When.
        revision: u64,
    },
    /// The last event: what was asked for is no longer kept.
    Compacted {
        /// The oldest revision that is.
        oldest: u64,
    },
    /// The last event: to be resumed from the revision after the last one told.
    Lost {
        /// Why.
        reason: String,
    },
}

impl StrongEvent {
    /// The name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Compacted { .. } => "compacted",
            Self::Lost { .. } => "lost",
        }
    }
}
