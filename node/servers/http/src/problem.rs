//! Errors as answers.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use starling_api::{Error, ErrorCode, SOCKET_HEADER};
use starling_service::StrongError;

/// An answer that is an error.
#[derive(Debug)]
pub struct Problem {
    error: Error,
    /// The path of the socket on which the request is served, percent-encoded, if it is served on that alone.
    socket: Option<String>,
}

impl Problem {
    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::invalid(message, hint).into()
    }

    /// The request does not bear the token. A client of this machine learns on which unix socket the node's own user needs
    /// none; strangers do not learn the names of directories.
    pub fn unauthorized(socket: Option<&Path>) -> Self {
        let at_socket = socket.map_or_else(String::new, |socket| {
            format!("; the user that runs the node needs none:  starling --api unix:{} ...", socket.display())
        });
        let hint = format!(
            "send Authorization: Bearer TOKEN (the command line: --token or STARLING_API_TOKEN){at_socket}"
        );
        Error::new(ErrorCode::Unauthorized, "the API of this node wants its token", hint).into()
    }

    /// Only an administrator may do this, who is served on this unix socket.
    pub fn forbidden(socket: &Path) -> Self {
        let message =
            "only this node's administrator may do this, and the API on TCP has no token to know one by";
        let hint = format!(
            "as the user that runs the node:  starling --api unix:{} ...;  or set api.token, and send it",
            socket.display()
        );
        let error = Error::new(ErrorCode::Forbidden, message, hint);
        let socket = percent_encode(socket.as_os_str().as_bytes(), NON_ALPHANUMERIC).to_string();
        Self { error, socket: Some(socket) }
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
        let socket = self.socket.map(|socket| (HeaderName::from_static(SOCKET_HEADER), socket));
        (status, AppendHeaders(socket), Json(self.error)).into_response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { error, socket: None }
    }
}

impl From<StrongError> for Problem {
    fn from(error: StrongError) -> Self {
        Error::from(error).into()
    }
}
