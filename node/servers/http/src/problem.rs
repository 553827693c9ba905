//! Errors as answers.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use starling_api::Error;
use starling_service::StrongError;

/// An answer that is an error.
#[derive(Debug)]
pub struct Problem(Error);

impl Problem {
    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Error::invalid(message, hint))
    }

    /// There is no such key.
    pub fn no_key() -> Self {
        let hint = "list keys, or check the keyspace";
        Self(Error::new(starling_api::ErrorCode::NotFound, "there is no such key", hint))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<StrongError> for Problem {
    fn from(error: StrongError) -> Self {
        Self(error.into())
    }
}
