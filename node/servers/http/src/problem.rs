//! Errors as answers.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use starling_api::{ErrorBody, ErrorCode};
use starling_core::WriteFailure;
use starling_core::strong::{CreateError, ManageError};
use starling_kv::{Error as StoreError, WriteError};
use starling_strong::api::{Failure, Refusal};

use starling_service::advice;
use starling_service::{FinalizeError, ManageFailure};

/// An answer that is an error.
#[derive(Debug)]
pub struct Problem(ErrorBody);

impl Problem {
    /// An error with what happened and what to do next.
    pub fn new(error: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(ErrorBody { error, message: message.into(), hint: hint.into() })
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message, hint)
    }

    /// There is no such key.
    pub fn no_key() -> Self {
        Self::new(ErrorCode::NotFound, "there is no such key", "list keys, or check the keyspace")
    }

    /// The key holds something else than was asked for.
    pub fn other_type(holds: &str, wanted: &str) -> Self {
        let message = format!("the key holds a {holds}, not a {wanted}");
        Self::new(
            ErrorCode::TypeMismatch,
            message,
            "GET /v1/keyspaces/{keyspace}/keys/{key} as application/json shows any type",
        )
    }

    /// This node is a seed.
    pub fn no_store() -> Self {
        let message = "this node is a bootstrap seed and keeps no data";
        Self::new(ErrorCode::NoStore, message, "ask a node that was started with `starling up`")
    }

    /// The gossip thread has stopped.
    pub fn stopping() -> Self {
        Self::new(ErrorCode::NotReady, "the node is stopping", "ask another node, or start it again")
    }

    fn advised(error: ErrorCode, text: &str) -> Self {
        let (message, hint) = advice::split(text);
        Self::new(error, message, hint)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full => ErrorCode::StorageFull,
            _ => ErrorCode::Storage,
        };
        Self::advised(code, &error.to_string())
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let code = match error {
            WriteError::KeyTooLong { .. }
            | WriteError::ValueTooLarge { .. }
            | WriteError::FieldTooLong { .. }
            | WriteError::BatchTooLarge { .. } => ErrorCode::TooLarge,
            WriteError::VersionMismatch { .. } => ErrorCode::VersionMismatch,
            WriteError::TypeMismatch { .. } => ErrorCode::TypeMismatch,
            _ => ErrorCode::Invalid,
        };
        Self::advised(code, &error.to_string())
    }
}

impl From<WriteFailure> for Problem {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::Refused(error) => error.into(),
            WriteFailure::NoStore => Self::no_store(),
            WriteFailure::DataVersion { .. } => Self::new(
                ErrorCode::Conflict,
                failure.to_string(),
                "once every node is upgraded, `starling upgrade finalize` switches it on; `upgrade status` shows how far it is",
            ),
            WriteFailure::Storage(reason) if reason == StoreError::Full.to_string() => {
                StoreError::Full.into()
            }
            WriteFailure::Storage(reason) => Self::advised(ErrorCode::Storage, &reason),
        }
    }
}

impl From<FinalizeError> for Problem {
    fn from(error: FinalizeError) -> Self {
        match error {
            FinalizeError::Obstacles { .. } => Self::new(
                ErrorCode::Conflict,
                error.to_string(),
                "upgrade or start these nodes; with --force they keep and forward what they cannot read, and do not show it",
            ),
            FinalizeError::Write(failure) => failure.into(),
            FinalizeError::Stopping => Self::stopping(),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (code, hint) = match &failure {
            Failure::Refused(refusal) => return refused(refusal),
            Failure::NoSuchKeyspace(_) => (
                ErrorCode::NoSuchKeyspace,
                "`starling keyspace ls` lists them; `keyspace create --strong` makes one",
            ),
            Failure::Ambiguous(_) => (ErrorCode::Ambiguous, "`starling keyspace drop` removes one of them"),
            Failure::NoMajority { .. } => {
                (ErrorCode::NoMajority, "start the nodes that are missing; nothing was changed")
            }
            Failure::Timeout(_) => {
                (ErrorCode::Timeout, "try again; `starling keyspace info` tells how it stands")
            }
            Failure::OutcomeUnknown(_) => (
                ErrorCode::OutcomeUnknown,
                "read the key to see, or send the write again with the same request id: it is applied once",
            ),
            Failure::Overloaded => (ErrorCode::NotReady, "send fewer requests at a time"),
            Failure::NoReplica(_) => {
                (ErrorCode::NoStore, "leave out --stale, or ask a member: `starling keyspace info`")
            }
            Failure::Diverged(_) => (
                ErrorCode::Storage,
                "replace this voter: `starling keyspace voters replace`; keep its log for a report",
            ),
            Failure::Storage(_) => {
                (ErrorCode::Storage, "look at the disk and the log of the node that answered")
            }
        };
        Self::new(code, failure.to_string(), hint)
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let (code, hint) = match refusal {
        Refusal::Compacted { .. } => (ErrorCode::Compacted, "read or watch from the oldest revision on"),
        Refusal::LeaseNotFound(_) | Refusal::KeyNotFound => {
            (ErrorCode::NotFound, "it has expired or was removed: make it again")
        }
        Refusal::LeaseExists(_) => (ErrorCode::Conflict, "choose another number, or 0 to have one drawn"),
        Refusal::StaleFence { .. } => {
            (ErrorCode::Conflict, "it was given up, or somebody else has it by now: stop, and lock again")
        }
        Refusal::Forgotten => (ErrorCode::Conflict, "read the key to see what came of it"),
        Refusal::TooLarge { .. } | Refusal::TooManyOps { .. } | Refusal::TooMany { .. } => {
            (ErrorCode::TooLarge, "send less at a time")
        }
        Refusal::NoSpace { .. } => (ErrorCode::StorageFull, "delete keys and compact"),
        Refusal::FutureRevision { .. }
        | Refusal::LeaseTtl
        | Refusal::EmptyKey
        | Refusal::DuplicateKey
        | Refusal::NotARead => (ErrorCode::Invalid, "see /openapi.json"),
    };
    Problem::new(code, refusal.to_string(), hint)
}

impl From<ManageFailure> for Problem {
    fn from(failure: ManageFailure) -> Self {
        let (code, hint) = match &failure {
            ManageFailure::Node { .. } => (
                ErrorCode::Invalid,
                "`starling nodes` lists them; the first digits of an id tell equal names apart",
            ),
            ManageFailure::Create(error) => match error {
                CreateError::Name => (ErrorCode::Invalid, "choose another name"),
                CreateError::Exists(_) => {
                    (ErrorCode::Conflict, "`starling keyspace info` tells how it stands")
                }
                CreateError::Voters => (ErrorCode::Invalid, "name 1, 3, 5 or 7 nodes"),
                CreateError::TooFewNodes { .. } => {
                    (ErrorCode::Invalid, "start more nodes, or ask for fewer with --voters")
                }
                CreateError::Refused { .. } => {
                    (ErrorCode::NotReady, "nothing is left of it: try again, or name other nodes with --on")
                }
                CreateError::Busy => (ErrorCode::NotReady, "try again in a moment"),
            },
            ManageFailure::Manage(error) => match error {
                ManageError::NoSuchKeyspace(_) => {
                    (ErrorCode::NoSuchKeyspace, "`starling keyspace ls` lists them")
                }
                ManageError::NoReplica(_) => (ErrorCode::NoStore, "ask one of its members"),
                ManageError::Refused(_) => {
                    (ErrorCode::Conflict, "`starling keyspace info` tells how it stands")
                }
                ManageError::NotOpened(_) => (ErrorCode::Storage, "see the node's log"),
                ManageError::Failed(Failure::NoMajority { .. }) => {
                    (ErrorCode::NoMajority, "start the nodes that are missing")
                }
                ManageError::Failed(_) => {
                    (ErrorCode::Timeout, "`starling keyspace info` tells how it stands")
                }
            },
        };
        Self::new(code, failure.to_string(), hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(problem: &Problem) -> ErrorCode {
        assert!(!problem.0.hint.is_empty(), "{problem:?} says nothing of what to do");
        problem.0.error
    }

    #[test]
    fn each_refusal_has_its_code_and_a_hint() {
        let mismatch = WriteError::VersionMismatch { index: 0, expected: None, found: None };
        assert_eq!(code(&WriteFailure::Refused(mismatch).into()), ErrorCode::VersionMismatch);
        assert_eq!(code(&WriteError::BatchTooLarge { size: 2, max: 1 }.into()), ErrorCode::TooLarge);
        assert_eq!(code(&WriteError::KeyEmpty.into()), ErrorCode::Invalid);
        assert_eq!(code(&WriteFailure::NoStore.into()), ErrorCode::NoStore);
        assert_eq!(code(&WriteFailure::Storage(StoreError::Full.to_string()).into()), ErrorCode::StorageFull);
        assert_eq!(code(&WriteFailure::Storage("no idea".into()).into()), ErrorCode::Storage);
    }
}
