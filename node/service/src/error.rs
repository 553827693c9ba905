//! From the errors of the parts to the one error of the node's interfaces.

use starling_api::{Error, ErrorCode};
use starling_core::WriteFailure;
use starling_core::strong::{CreateError, ManageError};
use starling_kv::{Contents, Error as StoreError, Kind, WriteError};
use starling_strong::api::{Failure, Refusal};
use starling_strong::group::ChangeError;

use crate::strong::ManageFailure;

/// What to do without a majority.
const NO_MAJORITY_HINT: &str = "start the nodes that are missing (nothing was changed; of those that run `starling doctor` says \
                         why they take no part); if most voters are lost for good, see \
                         `starling keyspace recover --help`";

/// This node is a seed.
pub fn no_store() -> Error {
    let message = "this node is a bootstrap seed and keeps no data";
    Error::new(ErrorCode::NoStore, message, "ask a node that was started with `starling up`")
}

/// The gossip thread has stopped.
pub fn stopping() -> Error {
    Error::new(ErrorCode::NotReady, "the node is stopping", "ask another node, or start it again")
}

/// The key holds something else than what was asked for.
pub fn other_type(contents: &Contents, wanted: &str) -> Error {
    let holds: Vec<_> = contents.kinds().into_iter().map(Kind::name).collect();
    if holds.is_empty() {
        let hint = "upgrade this node: `starling version` shows the version of the node that wrote it";
        return Error::new(ErrorCode::TypeMismatch, "a newer version of Starling wrote this key", hint);
    }
    let message = format!("the key holds a {}, not a {wanted}", holds.join(" and a "));
    let hint = "GET /v1/keyspaces/{keyspace}/keys/{key} as application/json shows any type";
    Error::new(ErrorCode::TypeMismatch, message, hint)
}

/// The store failed.
#[expect(clippy::needless_pass_by_value, reason = "given to `map_err`")]
pub fn store_error(error: StoreError) -> Error {
    let code = if error == StoreError::Full { ErrorCode::StorageFull } else { ErrorCode::Storage };
    Error::new(code, error.to_string(), error.hint())
}

/// A batch was refused, or failed.
pub fn write_failure(failure: &WriteFailure) -> Error {
    match failure {
        WriteFailure::Refused(error) => write_error(error),
        WriteFailure::NoStore => no_store(),
        WriteFailure::DataVersion { .. } => Error::new(
            ErrorCode::Conflict,
            failure.to_string(),
            "once every node is upgraded, `starling upgrade finalize` switches it on; `upgrade status` shows how far it is",
        ),
        WriteFailure::Storage(error) => store_error(error.clone()),
    }
}

/// A batch was written, and the sync that its acknowledgement waits for failed: it is visible, here and at peers, and may
/// be gone after a power loss.
pub fn unsynced(error: &StoreError) -> Error {
    let message = format!("written, but the sync failed, so it may or may not survive a power loss: {error}");
    let hint = "repair the disk, then read the key; a register, a flag or a set can be written again safely, an \
                increment would count twice";
    Error::new(ErrorCode::OutcomeUnknown, message, hint)
}

fn write_error(error: &WriteError) -> Error {
    let code = match error {
        WriteError::KeyTooLong { .. }
        | WriteError::ValueTooLarge { .. }
        | WriteError::FieldTooLong { .. }
        | WriteError::BatchTooLarge { .. } => ErrorCode::TooLarge,
        WriteError::VersionMismatch { .. } => ErrorCode::VersionMismatch,
        WriteError::TypeMismatch { .. } => ErrorCode::TypeMismatch,
        _ => ErrorCode::Invalid,
    };
    Error::new(code, error.to_string(), error.hint())
}

/// A hint about a keyspace, whose name stands in place of `NAME`.
fn named(hint: &str, keyspace: &str) -> String {
    hint.replace("NAME", keyspace)
}

/// The error for a failed request to a strong keyspace.
pub fn failure_error(failure: &Failure) -> Error {
    let (code, hint) = match failure {
        Failure::Refused(refusal) => return refused(refusal),
        Failure::NoSuchKeyspace(_) => (
            ErrorCode::NoSuchKeyspace,
            "`starling keyspace ls` lists them; `keyspace create --strong` makes one",
        ),
        Failure::Ambiguous(_) => (
            ErrorCode::Ambiguous,
            "start the nodes of both: one then gets another name; or `starling keyspace drop` on a member of the other",
        ),
        Failure::NoMajority { .. } => (ErrorCode::NoMajority, NO_MAJORITY_HINT),
        Failure::Timeout(_) => {
            (ErrorCode::Timeout, "try again; `starling keyspace info NAME` shows its status")
        }
        Failure::OutcomeUnknown(_) | Failure::Unconfirmed { .. } => (
            ErrorCode::OutcomeUnknown,
            "read the key to see, or send the write again with the same request id: it is applied once",
        ),
        Failure::Overloaded => (ErrorCode::NotReady, "send fewer requests at a time"),
        Failure::NoReplica(_) => (
            ErrorCode::NoStore,
            "leave out --stale, or ask a member: `starling keyspace info NAME` lists them",
        ),
        Failure::Diverged(_) => (
            ErrorCode::Storage,
            "replace this voter: `starling keyspace voters replace`; keep its log for a report",
        ),
        Failure::Storage(_) => (ErrorCode::Storage, "look at the disk and the log of the node that answered"),
    };
    let hint = match failure {
        Failure::Timeout(keyspace) | Failure::NoReplica(keyspace) => named(hint, keyspace),
        _ => hint.into(),
    };
    Error::new(code, failure.to_string(), hint)
}

fn refused(refusal: &Refusal) -> Error {
    let (code, hint) = match refusal {
        Refusal::Compacted { .. } => (ErrorCode::Compacted, "read or watch from the oldest revision on"),
        Refusal::LeaseNotFound(_) => (
            ErrorCode::NotFound,
            "`starling lease ls` lists those that live, `lease grant TIME` grants another one",
        ),
        Refusal::KeyNotFound => (ErrorCode::NotFound, "it has expired or was removed: make it again"),
        Refusal::LeaseExists(_) => (ErrorCode::Conflict, "choose another number, or 0 for a random one"),
        Refusal::StaleFence { .. } => {
            (ErrorCode::Conflict, "it was released, or another client holds it: stop, and lock again")
        }
        Refusal::Forgotten => (
            ErrorCode::Conflict,
            "read the key to see whether it was applied; with a new id, compare the clocks of the clients",
        ),
        Refusal::RequestIdReused => (ErrorCode::Conflict, "draw an id for each write: `starling request-id`"),
        Refusal::UndatedRequestId => (
            ErrorCode::Invalid,
            "`starling request-id` prints one; without one, `starling` draws it and prints it if the outcome is unknown",
        ),
        Refusal::RequestIdAhead { .. } => {
            (ErrorCode::Invalid, "set the clocks of the client and of the leader's node")
        }
        Refusal::TooLarge { .. } | Refusal::TooManyOps { .. } | Refusal::TooMany { .. } => {
            (ErrorCode::TooLarge, "send less at a time")
        }
        Refusal::FutureRevision { .. } => {
            (ErrorCode::Invalid, "leave the revision out for the latest state, or name an earlier one")
        }
        Refusal::LeaseTtl => (ErrorCode::Invalid, "choose another time, like 10s"),
        Refusal::EmptyKey => (ErrorCode::Invalid, "name a key of at least one byte"),
        Refusal::DuplicateKey => (ErrorCode::Invalid, "write each key once in a transaction"),
        Refusal::NotARead => (ErrorCode::Invalid, "see /openapi.json"),
        Refusal::NoSpace { .. } => (
            ErrorCode::StorageFull,
            "delete keys, then `starling keyspace compact`; `strong.quota_bytes` sets the quota",
        ),
    };
    Error::new(code, refusal.to_string(), hint)
}

/// The error for a strong keyspace that was not created or changed.
pub fn manage_error(failure: &ManageFailure, keyspace: &str) -> Error {
    let (code, hint) = match failure {
        ManageFailure::Node { known, .. } => {
            let hint = format!(
                "known here: {}; `starling nodes` lists all, and the first digits of an id distinguish equal names",
                known.join(", ")
            );
            return Error::new(ErrorCode::Invalid, failure.to_string(), hint);
        }
        ManageFailure::Create(error) => not_created(error),
        ManageFailure::Manage(ManageError::Shorter { node, entries }) => {
            let hint = format!(
                "nothing was changed: run it on {node}, or give up these entries with --accept-loss {entries}"
            );
            return Error::new(ErrorCode::Conflict, failure.to_string(), hint);
        }
        ManageFailure::Manage(ManageError::JustOpened { left_s }) => {
            let hint = format!("nothing was changed: try again in {left_s} s");
            return Error::new(ErrorCode::Conflict, failure.to_string(), hint);
        }
        ManageFailure::Manage(ManageError::Refused(error)) => (ErrorCode::Conflict, not_changed(error)),
        ManageFailure::Manage(error) => not_managed(error),
    };
    Error::new(code, failure.to_string(), named(hint, keyspace))
}

fn not_created(error: &CreateError) -> (ErrorCode, &'static str) {
    match error {
        CreateError::Name => (ErrorCode::Invalid, "choose another name"),
        CreateError::Exists(_) => (ErrorCode::Conflict, "`starling keyspace info NAME` shows its status"),
        CreateError::Voters => (ErrorCode::Invalid, "name 1, 3, 5 or 7 nodes"),
        CreateError::TooFewNodes { .. } => (
            ErrorCode::Invalid,
            "start more nodes; with --voters 1 the keyspace survives the loss of no node",
        ),
        CreateError::Refused { .. } => (
            ErrorCode::NotReady,
            "see with `starling keyspace ls` that members which could not be reached have not created it, then try \
             again, or name other nodes with --on",
        ),
        CreateError::Busy => (ErrorCode::NotReady, "try again in a moment"),
    }
}

/// What to do about voters or a leader that were not changed.
fn not_changed(error: &ChangeError) -> &'static str {
    match error {
        ChangeError::Declined(_) => {
            "nothing was changed: do there what the reason says and try again, or name another node"
        }
        ChangeError::SilentVoter => "nothing was changed: start its node and try again, or name another one",
        ChangeError::NotTransferred => {
            "nothing was changed: `starling keyspace info NAME` shows the voters that respond, and how far they are"
        }
        _ => "`starling keyspace info NAME` shows its status",
    }
}

fn not_managed(error: &ManageError) -> (ErrorCode, &'static str) {
    match error {
        ManageError::NoSuchKeyspace(_) => (
            ErrorCode::NoSuchKeyspace,
            "`starling keyspace ls` lists them; an eventual one exists as long as it holds a key",
        ),
        ManageError::NoReplica(_) => (ErrorCode::NoStore, "ask one of its members"),
        ManageError::HasQuorum => (
            ErrorCode::Conflict,
            "nothing was changed: `starling keyspace voters replace` replaces lost voters; if a majority is lost \
             for good, try again a little later",
        ),
        ManageError::QuorumUnknown => (
            ErrorCode::Conflict,
            "nothing was changed: run it on a node whose replica works; `starling keyspace replicas NAME` shows them",
        ),
        ManageError::QuorumAt { .. } => (
            ErrorCode::Conflict,
            "nothing was changed: the keyspace works there; or, if it has just been started, try again in a moment",
        ),
        ManageError::IsAlone(_) => (
            ErrorCode::Conflict,
            "nothing was changed: add voters with `starling keyspace voters add NAME NODE`",
        ),
        ManageError::NoSpare | ManageError::AllDecline { .. } | ManageError::Manual => {
            (ErrorCode::Conflict, "`starling keyspace voters replace` names the other node")
        }
        ManageError::NotOpened(_) => (ErrorCode::Storage, "see the node's log"),
        ManageError::Failed(Failure::NoMajority { .. }) => (ErrorCode::NoMajority, NO_MAJORITY_HINT),
        ManageError::Failed(_) => (ErrorCode::Timeout, "`starling keyspace info NAME` shows its status"),
        ManageError::Refused(_) | ManageError::Shorter { .. } | ManageError::JustOpened { .. } => {
            (ErrorCode::Conflict, "nothing was changed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: &Error) -> ErrorCode {
        assert!(!error.hint.is_empty(), "{error:?} has no hint");
        error.code
    }

    #[test]
    fn each_refusal_has_its_code_and_a_hint() {
        let mismatch = WriteError::VersionMismatch { index: 0, expected: None, found: None };
        assert_eq!(code(&write_failure(&WriteFailure::Refused(mismatch))), ErrorCode::VersionMismatch);
        assert_eq!(code(&write_error(&WriteError::BatchTooLarge { size: 2, max: 1 })), ErrorCode::TooLarge);
        assert_eq!(code(&write_error(&WriteError::KeyEmpty)), ErrorCode::Invalid);
        assert_eq!(code(&write_failure(&WriteFailure::NoStore)), ErrorCode::NoStore);
        assert_eq!(code(&write_failure(&WriteFailure::Storage(StoreError::Full))), ErrorCode::StorageFull);
        assert_eq!(code(&write_failure(&WriteFailure::Storage(StoreError::ReadOnly))), ErrorCode::Storage);
    }

    #[test]
    fn hints_name_the_keyspace() {
        let changes =
            [ChangeError::NotTransferred, ChangeError::Declined("d".into()), ChangeError::NotAVoter];
        let others = [
            ManageError::IsAlone("orders".into()),
            ManageError::QuorumUnknown,
            ManageError::JustOpened { left_s: 3 },
        ];
        for error in changes.into_iter().map(ManageError::from).chain(others) {
            let hint = manage_error(&error.into(), "orders").hint;
            assert!(!hint.contains("NAME"), "{hint}");
        }
        for failure in [Failure::Timeout("orders".into()), Failure::NoReplica("orders".into())] {
            let hint = failure_error(&failure).hint;
            assert!(hint.contains("`starling keyspace info orders`"), "{hint}");
        }
    }
}
