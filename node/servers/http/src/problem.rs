//! Errors as answers.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use starling_api::{Error, ErrorCode, SOCKET_HEADER};
use starling_service::StrongError;

/// An answer that is an error.
#[derive(Debug)]
pub struct Problem {
    error: Error,
}

impl Problem {
    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::invalid(message, hint).into()
    }

    /// The request bears no token. A client of this machine learns on which unix socket the node's own user needs
    /// none; strangers do not learn the names of directories.
    pub fn unauthorized(socket: Option<&Path>) -> Self {
        let at_socket = socket.map_or_else(String::new, |socket| {
            format!("; the user that runs the node needs none:  starling --api unix:{} ...", socket.display())
        });
        let hint = format!(
            "send Authorization: Bearer TOKEN (the command line: --token or STARLING_API_TOKEN){at_socket}"
        );
        Error::new(ErrorCode::Unauthorized, "the API of this node wants a token", hint).into()
    }

    /// The kind of error.
    pub fn code(&self) -> ErrorCode {
        self.error.code
    }

    /// Adds to a refusal the socket on which the node's own user may do everything.
    pub fn name_socket(headers: &mut HeaderMap, socket: &Path) {
        let path = percent_encode(socket.as_os_str().as_bytes(), NON_ALPHANUMERIC).to_string();
        headers.extend(
            HeaderValue::from_str(&path).ok().map(|path| (HeaderName::from_static(SOCKET_HEADER), path)),
        );
    }

    /// There is no such key.
    pub fn no_key() -> Self {
        let hint = "list keys, or check the keyspace";
        Error::new(ErrorCode::NotFound, "there is no such key", hint).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let hint = match self.error.code {
            ErrorCode::TooManyRequests => Some((header::RETRY_AFTER, "1")),
            ErrorCode::Unauthorized => Some((header::WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        (status, AppendHeaders(hint), Json(self.error)).into_response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { error }
    }
}

impl From<StrongError> for Problem {
    fn from(error: StrongError) -> Self {
        Error::from(error).into()
    }
}
