//! The one error of a node's interfaces, embedded and remote.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request is invalid.
    Invalid,
    /// 401: the request has no token, and the node wants one; or one that does not count.
    Unauthorized,
    /// 403: the caller's rights do not suffice; nothing was changed.
    Forbidden,
    /// 404: there is no such key, lease, keyspace or path.
    NotFound,
    /// 404: this node knows no strong keyspace of this name; it may learn of a new one a moment later.
    NoSuchKeyspace,
    /// 405: the path does not support this method.
    MethodNotAllowed,
    /// 409: `if_version` names another version than the key has.
    VersionMismatch,
    /// 409: the key holds another type.
    TypeMismatch,
    /// 409: the name belongs to a strong keyspace, or to an eventual one.
    OtherKeyspace,
    /// 409: two strong keyspaces were created under this name, on two sides of a partition.
    Ambiguous,
    /// 409: the state does not allow the request: a stale fence, or a lease or a keyspace that exists already.
    Conflict,
    /// 410: the revision was compacted.
    Compacted,
    /// 503: most voters of the keyspace do not answer; nothing was changed.
    NoMajority,
    /// 503: there was no answer in time; nothing was changed.
    Timeout,
    /// 504: there was no answer in time, and the write may or may not have been applied.
    OutcomeUnknown,
    /// 413: a key, value or body is above its limit.
    TooLarge,
    /// 429: the token has used up its quota of requests or bytes on this node; nothing was changed.
    TooManyRequests,
    /// 503: the disk is full; reads continue.
    StorageFull,
    /// 503: storage failed otherwise.
    Storage,
    /// 503: the node is starting, stopping, or has too much queued.
    NotReady,
    /// 501: this node is a bootstrap seed and keeps no data.
    NoStore,
    /// 500: a bug.
    Internal,
    /// Clients only: there was no answer. Whether a write was applied is unknown.
    #[serde(skip)]
    Unreachable,
    /// Clients only: the answer is not one of a Starling node of this version.
    #[serde(skip)]
    NotUnderstood,
    /// Clients only: the request cannot be sent as it is.
    #[serde(skip)]
    Unsendable,
}

/// Whether sending a request again may succeed, and whether it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails again.
    Never,
    /// Nothing was changed: the same request may succeed a moment later, or at another node.
    Safe,
    /// The request may have been applied: only one that has the same effect twice may be sent again.
    IfIdempotent,
}

impl ErrorCode {
    /// The HTTP status of this error.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound | Self::NoSuchKeyspace => 404,
            Self::MethodNotAllowed => 405,
            Self::VersionMismatch
            | Self::TypeMismatch
            | Self::OtherKeyspace
            | Self::Ambiguous
            | Self::Conflict => 409,
            Self::Compacted => 410,
            Self::TooLarge => 413,
            Self::TooManyRequests => 429,
            Self::StorageFull | Self::Storage | Self::NotReady | Self::NoMajority | Self::Timeout => 503,
            Self::OutcomeUnknown => 504,
            Self::NoStore => 501,
            Self::Internal | Self::Unreachable | Self::NotUnderstood | Self::Unsendable => 500,
        }
    }

    /// Whether a request that failed so may be sent again.
    pub fn retry(self) -> Retry {
        match self {
            Self::NoMajority | Self::Timeout | Self::NotReady | Self::TooManyRequests => Retry::Safe,
            Self::OutcomeUnknown | Self::Unreachable => Retry::IfIdempotent,
            _ => Retry::Never,
        }
    }
}

/// Why a request failed: what happened, and what to do next. As JSON it is the body of every HTTP answer
/// that is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, ToSchema)]
#[schema(as = ErrorBody)]
#[error("{message}")]
pub struct Error {
    /// The kind of error.
    #[serde(rename = "error")]
    pub code: ErrorCode,
    /// What happened, one line.
    pub message: String,
    /// What to do next, one line.
    pub hint: String,
}

impl Error {
    /// An error with what happened and what to do next.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }

    /// An error for an invalid request.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message, hint)
    }

    /// An error for a node that gave no answer.
    pub fn unreachable(url: &str, reason: impl Display) -> Self {
        let hint = "is the node running? `starling up` starts one; --api or STARLING_API names another";
        Self::new(ErrorCode::Unreachable, format!("cannot reach the node at {url}: {reason}"), hint)
    }

    /// The node at `url` gave an answer that is not one of this version.
    pub fn not_understood(url: &str, reason: impl Display) -> Self {
        let hint =
            "check that --api names a Starling node, and that `starling version` says the same on both ends";
        Self::new(ErrorCode::NotUnderstood, format!("the answer of {url} is not understood: {reason}"), hint)
    }

    /// The request cannot be sent as it is.
    pub fn unsendable(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsendable, reason, "see `starling --help`")
    }

    /// Whether the same request may be sent again.
    pub fn retry(&self) -> Retry {
        self.code.retry()
    }

    /// Whether this error is a node's answer. Otherwise the request did not arrive, or the answer was lost.
    pub fn is_answer(&self) -> bool {
        !matches!(self.code, ErrorCode::Unreachable | ErrorCode::NotUnderstood | ErrorCode::Unsendable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_json_and_codes_of_clients_never_travel() {
        let error = Error::new(ErrorCode::NoMajority, "m", "h");
        let json = serde_json::to_string(&error).expect("serializes");
        assert_eq!(json, r#"{"error":"no_majority","message":"m","hint":"h"}"#);
        assert_eq!(serde_json::from_str::<Error>(&json).expect("parses"), error);
        assert!(serde_json::to_string(&Error::unreachable("u", "r")).is_err());
        assert!(serde_json::from_str::<ErrorCode>("\"unreachable\"").is_err());
    }

    #[test]
    fn only_requests_that_changed_nothing_are_safe_to_send_again() {
        assert_eq!(ErrorCode::Timeout.retry(), Retry::Safe);
        assert_eq!(ErrorCode::OutcomeUnknown.retry(), Retry::IfIdempotent);
        assert_eq!(ErrorCode::Unreachable.retry(), Retry::IfIdempotent);
        assert_eq!(ErrorCode::Invalid.retry(), Retry::Never);
    }
}
