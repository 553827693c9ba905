//! Conversion of failures into etcd's: clients match on the gRPC code and the exact text.

use starling_api::{Error, ErrorCode};
use starling_service::StrongError;
use starling_strong::api::{Failure, Refusal};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The name of the trailer with Starling's own text for a failure.
pub const DETAIL: &str = "starling-detail";

pub const EMPTY_KEY: &str = "etcdserver: key is not provided";
pub const VALUE_PROVIDED: &str = "etcdserver: value is provided";
pub const LEASE_PROVIDED: &str = "etcdserver: lease is provided";
pub const TOO_LARGE: &str = "etcdserver: request is too large";
pub const LEASE_TTL: &str = "etcdserver: too large lease TTL";
pub const NO_LEADER: &str = "etcdserver: no leader";

pub const PERMISSION_DENIED: &str = "etcdserver: permission denied";
pub const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";
pub const NO_USER: &str = "etcdserver: user name is empty";
pub const INVALID_TOKEN: &str = "etcdserver: invalid auth token";
pub const AUTHENTICATION_FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";

/// The gRPC status of an error.
pub fn status(error: &StrongError) -> Status {
    match error {
        StrongError::Failed(failure) => failed(failure),
        StrongError::Forbidden(error) => refusal(error),
        StrongError::Stopped => stopped(),
    }
}

/// The status of a call that is refused because of who sends it.
pub fn refusal(error: &Error) -> Status {
    let (code, text) = match error.code {
        ErrorCode::Unauthorized => (Code::Unauthenticated, INVALID_TOKEN),
        ErrorCode::TooManyRequests => (Code::ResourceExhausted, TOO_MANY_REQUESTS),
        _ => (Code::PermissionDenied, PERMISSION_DENIED),
    };
    detailed(code, text, format!("{}: {}", error.message, error.hint))
}

fn failed(failure: &Failure) -> Status {
    let (code, text) = match failure {
        Failure::Refused(refusal) => refused(refusal),
        Failure::NoSuchKeyspace(_) | Failure::Ambiguous(_) => (Code::FailedPrecondition, None),
        Failure::NoMajority { .. } => (Code::Unavailable, Some(NO_LEADER)),
        Failure::Timeout(_) | Failure::OutcomeUnknown(_) | Failure::Unconfirmed { .. } => {
            (Code::Unavailable, Some("etcdserver: request timed out"))
        }
        Failure::Overloaded => (Code::ResourceExhausted, Some(TOO_MANY_REQUESTS)),
        Failure::NoReplica(_) => (Code::Unavailable, None),
        Failure::Diverged(_) => (Code::DataLoss, Some("etcdserver: corrupt cluster")),
        Failure::Storage(_) => (Code::Internal, None),
    };
    let detail = failure.to_string();
    match text {
        Some(text) => detailed(code, text, detail),
        None => Status::new(code, detail),
    }
}

fn detailed(code: Code, text: &'static str, detail: String) -> Status {
    let mut status = Status::new(code, text);
    // Text that is not a valid header value is left out.
    if let Ok(value) = MetadataValue::try_from(detail) {
        status.metadata_mut().insert(DETAIL, value);
    }
    status
}

fn refused(refusal: &Refusal) -> (Code, Option<&'static str>) {
    match refusal {
        Refusal::Compacted { .. } => {
            (Code::OutOfRange, Some("etcdserver: mvcc: required revision has been compacted"))
        }
        Refusal::FutureRevision { .. } => {
            (Code::OutOfRange, Some("etcdserver: mvcc: required revision is a future revision"))
        }
        Refusal::LeaseNotFound(_) => (Code::NotFound, Some("etcdserver: requested lease not found")),
        Refusal::LeaseExists(_) => (Code::FailedPrecondition, Some("etcdserver: lease already exists")),
        Refusal::LeaseTtl => (Code::OutOfRange, Some(LEASE_TTL)),
        Refusal::KeyNotFound => (Code::InvalidArgument, Some("etcdserver: key not found")),
        Refusal::EmptyKey => (Code::InvalidArgument, Some(EMPTY_KEY)),
        Refusal::DuplicateKey => {
            (Code::InvalidArgument, Some("etcdserver: duplicate key given in txn request"))
        }
        Refusal::TooManyOps { .. } => {
            (Code::InvalidArgument, Some("etcdserver: too many operations in txn request"))
        }
        Refusal::TooLarge { .. } => (Code::InvalidArgument, Some(TOO_LARGE)),
        Refusal::NoSpace { .. } => {
            (Code::ResourceExhausted, Some("etcdserver: mvcc: database space exceeded"))
        }
        Refusal::TooMany { .. } => (Code::ResourceExhausted, None),
        Refusal::StaleFence { .. }
        | Refusal::Forgotten
        | Refusal::UndatedRequestId
        | Refusal::RequestIdReused
        | Refusal::RequestIdAhead { .. } => (Code::FailedPrecondition, None),
        Refusal::NotARead => (Code::Internal, None),
    }
}

/// The status of a call that Starling does not support, with what to do instead.
pub fn unsupported(text: &'static str) -> Status {
    Status::unimplemented(text)
}

/// The status when the node has stopped.
pub fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}
