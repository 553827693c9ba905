//! Who sends a request, and protection from foreign web pages.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use starling_api::{Error, ErrorCode};
use starling_listener::{Activity, Origin};
use starling_service::{Caller, Capability, Handle};

use super::App;
use super::problem::Problem;

/// Paths that are served on spare connections, while all others have requests in progress.
pub const WHILE_FULL: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// The node, with the rights of the caller of a request.
pub struct Node(Handle);

impl Deref for Node {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Node {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let node = parts.extensions.get::<Handle>().cloned();
        node.map(Self).ok_or_else(|| Problem::unauthorized(None))
    }
}

/// Gives each request the [`Node`] of its caller.
///
/// Who connects to the unix socket is the node's own user, an administrator. By TCP a request with a token has the rights of
/// that. One without a token has those of data where callers need none; requests that a foreign web page makes a browser send
/// are rejected then.
///
/// The connection has the request in progress until the last part of the answer is sent; one that is rejected does not
/// count, so that it keeps no other client out.
pub async fn guard(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Activity>,
    request: Request,
    next: Next,
) -> Response {
    let caller = match app.caller(connection.origin(), &request) {
        Ok(caller) => caller,
        Err(problem) => {
            let is_asked = app.access.needs_token_for_api() || bearer(request.headers()).is_some();
            if problem.code() == ErrorCode::Unauthorized && is_asked {
                app.refusals.refuse(connection.origin()).await;
            }
            return problem.into_response();
        }
    };
    if connection.is_spare() && !WHILE_FULL.contains(&request.uri().path()) {
        return too_busy();
    }
    let in_progress = connection.begin();
    let (sender, receiver) = (caller.clone(), caller.clone());
    let mut request = request.map(|body| Body::new(body.inspect_frame(move |frame| charge(&sender, frame))));
    let is_anonymous = caller.is_anonymous();
    request.extensions_mut().insert(app.unrestricted.for_caller(caller));
    let mut answer = next.run(request).await;
    if answer.status() == StatusCode::FORBIDDEN {
        app.forbidden.fetch_add(1, Ordering::Relaxed);
        if is_anonymous {
            Problem::name_socket(answer.headers_mut(), &app.socket);
        }
    }
    let held = move |frame: &Frame<Bytes>| {
        _ = &in_progress;
        charge(&receiver, frame);
    };
    answer.map(|body| Body::new(body.inspect_frame(held)))
}

/// Takes a part of a body from the caller's quota.
fn charge(caller: &Caller, frame: &Frame<Bytes>) {
    caller.charge(frame.data_ref().map_or(0, Bytes::len));
}

impl App {
    /// Who sends a request.
    fn caller(&self, origin: Origin, request: &Request) -> Result<Caller, Problem> {
        let is_needed = self.access.needs_token_for_api();
        match bearer(request.headers()) {
            _ if origin == Origin::OwnUser => Ok(self.access.own_user()),
            _ if request.uri().path() == "/healthz" => Ok(self.anonymous.caller(origin)),
            // Where none is needed, one of another node does no harm.
            Some(token) if is_needed || Capability::is_text(token) => {
                Ok(self.access.bearer(token, origin)?)
            }
            None if is_needed => Err(Problem::unauthorized(origin.is_local().then_some(&*self.socket))),
            _ => {
                is_of_no_page(request.headers(), self.tls.is_some())?;
                Ok(self.anonymous.caller(origin))
            }
        }
    }
}

/// The token that a request bears.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token)
}

/// The answer on a spare connection, which is closed behind it.
fn too_busy() -> Response {
    let message = "all connections of this node's API have requests in progress";
    let hint = "try again later, use another node, or end watches that nobody reads";
    let problem = Problem::from(Error::new(ErrorCode::NotReady, message, hint));
    ([(header::CONNECTION, "close")], problem).into_response()
}

/// Rejects requests of foreign web pages. A browser sends the page's origin with every request that changes something,
/// and the `Host` of a page whose name was pointed at loopback (DNS rebinding) is not local; in TLS the certificate is for
/// another name.
fn is_of_no_page(headers: &HeaderMap, has_tls: bool) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("localhost");
    let name =
        host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    let host_is_ours = has_tls || literal == "localhost" || literal.parse::<IpAddr>().is_ok();
    let scheme = if has_tls { "https://" } else { "http://" };
    let origin_is_host =
        text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix(scheme).is_some_and(|o| o == host));
    if host_is_ours && origin_is_host {
        return Ok(());
    }
    let hint = "speak to it by its address, and not from another site's page; or set api.token";
    Err(Error::new(ErrorCode::Unauthorized, "the API of this node answers this machine only", hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn foreign_pages_are_kept_out() {
        let is_allowed = |host, origin: Option<&'static str>, has_tls| {
            let mut pairs = vec![(header::HOST, host)];
            pairs.extend(origin.map(|origin| (header::ORIGIN, origin)));
            is_of_no_page(&headers(&pairs), has_tls).is_ok()
        };
        let allowed = |host, origin| is_allowed(host, origin, false);
        assert!(allowed("127.0.0.1:7401", None));
        assert!(allowed("[::1]:7401", None));
        assert!(allowed("localhost:7401", Some("http://localhost:7401")));
        assert!(!allowed("127.0.0.1:7401", Some("https://example.org")));
        assert!(!allowed("127.0.0.1:7401", Some("null")));
        assert!(!allowed("rebound.example.org:7401", None));
        assert!(is_allowed("db.example.org:7401", Some("https://db.example.org:7401"), true));
        assert!(!is_allowed("db.example.org:7401", Some("https://example.org"), true));
        assert!(!is_allowed("db.example.org:7401", Some("http://db.example.org:7401"), true));
    }
}
