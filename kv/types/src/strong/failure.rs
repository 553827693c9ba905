//! Why a request was refused, or not answered.
#![allow(missing_docs, reason = "the text of each error explains its fields")]

use bincode::{Decode, Encode};

use super::{LeaseId, Revision};

/// Why the state machine refused a request. Nothing was changed.
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
    #[error("the keyspace is full: {bytes} of {max} bytes are used")]
    NoSpace { bytes: u64, max: u64 },
    #[error("the lock is not held with token {token} any more")]
    StaleFence { token: Revision },
    #[error(
        "this request id is so old that it may have been used: whether its write was applied is forgotten"
    )]
    Forgotten,
    #[error("a read may not write")]
    NotARead,
    #[error("too many {what}: at most {max}")]
    TooMany { what: String, max: u64 },
    #[error("the request id contains no time: it has to be a UUID of version 7 (RFC 9562)")]
    UndatedRequestId,
    #[error(
        "this request id was used for another write, which was not repeated; this one was not carried out"
    )]
    RequestIdReused,
    #[error("the request id was drawn {ahead_ms} ms in the future by the leader's clock")]
    RequestIdAhead { ahead_ms: u64 },
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Refused(Refusal),
    #[error("there is no strong keyspace {0:?}")]
    NoSuchKeyspace(String),
    /// Nothing was changed.
    #[error(
        "several keyspaces were created as {0:?}, by nodes that did not reach each other, and it is not known which one keeps the name"
    )]
    Ambiguous(String),
    /// Nothing was changed.
    #[error("keyspace {keyspace:?} has no majority: {}", silent(missing))]
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
    /// As [`Failure::OutcomeUnknown`], where it is known which voters do not answer. Made by the node that the client asked,
    /// and never sent to another one.
    #[error(
        "keyspace {keyspace:?} has no majority ({}): the write may or may not have been applied",
        silent(missing)
    )]
    Unconfirmed { keyspace: String, missing: Vec<String> },
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The silent voters, as a part of a message.
fn silent(missing: &[String]) -> String {
    match missing {
        [] => "too few of its voters answer".into(),
        names => format!("no message from {}", names.join(", ")),
    }
}
