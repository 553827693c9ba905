//! Errors, as the node says them and as the client meets them.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// What kind of error it was, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request makes no sense as it is.
    Invalid,
    /// 401: a token is configured and the request carries none, or another one.
    Unauthorized,
    /// 404: there is no such key, lease, keyspace or path.
    NotFound,
    /// 404: this node has heard of no strong keyspace of this name; of one that was just made it may yet hear.
    NoSuchKeyspace,
    /// 405: the path does not take this method.
    MethodNotAllowed,
    /// 409: `if_version` names another version than the key has.
    VersionMismatch,
    /// 409: the key holds another type.
    TypeMismatch,
    /// 409: the name belongs to a strong keyspace, or to an eventual one.
    OtherKeyspace,
    /// 409: two strong keyspaces were made under this name, apart from each other.
    Ambiguous,
    /// 409: the state does not allow it: a stale fence, a lease or a keyspace that is there already.
    Conflict,
    /// 410: the revision is no longer kept.
    Compacted,
    /// 503: most voters of the keyspace do not answer; nothing was changed.
    NoMajority,
    /// 503: there was no answer in time; nothing was changed.
    Timeout,
    /// 504: there was no answer in time, and the write may or may not have been applied.
    OutcomeUnknown,
    /// 413: a key, value or body is above its limit.
    TooLarge,
    /// 503: the disk is full; reads go on.
    StorageFull,
    /// 503: storage failed otherwise.
    Storage,
    /// 503: the node is starting, stopping, or has too much queued.
    NotReady,
    /// 501: this node is a bootstrap seed and keeps no data.
    NoStore,
    /// 500: a defect.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::NoSuchKeyspace => 404,
            Self::MethodNotAllowed => 405,
            Self::VersionMismatch
            | Self::TypeMismatch
            | Self::OtherKeyspace
            | Self::Ambiguous
            | Self::Conflict => 409,
            Self::Compacted => 410,
            Self::TooLarge => 413,
            Self::StorageFull | Self::Storage | Self::NotReady | Self::NoMajority | Self::Timeout => 503,
            Self::OutcomeUnknown => 504,
            Self::NoStore => 501,
            Self::Internal => 500,
        }
    }
}

/// Body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize, ToSchema)]
#[error("{message}")]
pub struct ErrorBody {
    /// What kind.
    pub error: ErrorCode,
    /// What happened, one line.
    pub message: String,
    /// What to do next, one line.
    pub hint: String,
}

/// Why a call of the client failed.
#[derive(Debug, Error)]
pub enum Error {
    /// No answer: nothing listens there, or it did not answer in time. Whether a write was made is
    /// unknown.
    #[error("cannot reach the node at {url}: {reason}")]
    Unreachable {
        /// The node's API address.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The node refused. Nothing was changed.
    #[error("{0}")]
    Refused(ErrorBody),
    /// The answer is not one of a Starling node of this version.
    #[error("the answer of {url} is not understood: {reason}")]
    NotUnderstood {
        /// The node's API address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request cannot be sent as it is.
    #[error("{0}")]
    Unsendable(String),
}

impl Error {
    /// The code, if the node refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(body) => Some(body.error),
            _ => None,
        }
    }

    /// What to do next, one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "is the node running? `starling up` starts one; --api or STARLING_API names another".into()
            }
            Self::Refused(body) => body.hint.clone(),
            Self::NotUnderstood { .. } => {
                "check that --api names a Starling node, and that `starling version` says the same on both ends".into()
            }
            Self::Unsendable(_) => "see `starling --help`".into(),
        }
    }
}
