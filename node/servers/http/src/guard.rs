//! Authentication of requests, the rights that follow from it, and protection from foreign web pages.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use starling_api::{Error, ErrorCode};
use starling_listener::{Activity, Origin, Seldom};

use super::App;
use super::problem::Problem;

/// Paths that are served on spare connections, while all others have requests in progress.
pub const WHILE_FULL: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// How long a request without the token waits for its answer: bounds how many tokens can be tried. An estimate.
const REFUSAL: Duration = Duration::from_secs(1);

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read and write data, and read the status of the node and its network.
    Data,
    /// Everything.
    Administrator,
}

/// Who connects to the unix socket is the node's own user, an administrator. By TCP, with a token, every request except
/// `/healthz` must bear it, and is an administrator's. Without one, the API listens on loopback only, or asks for certificates
/// in TLS, and serves data, and requests that a foreign web page makes a browser send are rejected.
///
/// The connection has the request in progress until the last part of the answer is sent; one that is rejected does not
/// count, so that it keeps no other client out.
pub async fn guard(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Activity>,
    mut request: Request,
    next: Next,
) -> Response {
    let rights = match (connection.origin(), &app.token) {
        (Origin::OwnUser, _) => Ok(Rights::Administrator),
        (_, Some(_)) if request.uri().path() == "/healthz" => Ok(Rights::Data),
        (_, Some(token)) if bears(request.headers(), token) => Ok(Rights::Administrator),
        (origin, Some(_)) => Err(Problem::unauthorized(origin.is_local().then_some(&*app.socket))),
        (_, None) => is_of_no_page(request.headers(), app.tls.is_some()).map(|()| Rights::Data),
    };
    match rights {
        Ok(rights) => drop(request.extensions_mut().insert(rights)),
        Err(problem) => {
            if app.token.is_some() {
                app.refusals.note(connection.origin());
                tokio::time::sleep(REFUSAL).await;
            }
            return problem.into_response();
        }
    }
    if connection.is_spare() && !WHILE_FULL.contains(&request.uri().path()) {
        return too_busy();
    }
    let in_progress = connection.begin();
    next.run(request).await.map(|body| Body::new(body.inspect_frame(move |_| _ = &in_progress)))
}

/// Passes on what administrators send, and rejects it of others.
pub async fn administrators_only(
    State(app): State<Arc<App>>,
    Extension(rights): Extension<Rights>,
    request: Request,
    next: Next,
) -> Response {
    match app.check_administrator(rights) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl App {
    /// Rejects a request that only administrators may send. The answer names the socket on which they are served.
    pub fn check_administrator(&self, rights: Rights) -> Result<(), Problem> {
        if rights == Rights::Administrator {
            return Ok(());
        }
        self.refusals.forbidden.fetch_add(1, Ordering::Relaxed);
        Err(Problem::forbidden(&self.socket))
    }
}

/// The answer on a spare connection, which is closed behind it.
fn too_busy() -> Response {
    let message = "all connections of this node's API have requests in progress";
    let hint = "try again later, use another node, or end watches that nobody reads";
    let problem = Problem::from(Error::new(ErrorCode::NotReady, message, hint));
    ([(header::CONNECTION, "close")], problem).into_response()
}

/// Counts rejected requests, and logs those without the token once a minute.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Without the token.
    unauthorized: AtomicU64,
    /// With data rights, for what only an administrator may do.
    forbidden: AtomicU64,
    unlogged: Mutex<Seldom>,
}

impl Refusals {
    /// Requests without the token since the start.
    pub fn unauthorized(&self) -> u64 {
        self.unauthorized.load(Ordering::Relaxed)
    }

    /// Requests that only an administrator may send, of others, since the start.
    pub fn forbidden(&self) -> u64 {
        self.forbidden.load(Ordering::Relaxed)
    }

    fn note(&self, origin: Origin) {
        self.unauthorized.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner).note() {
            tracing::warn!(%origin, count, "requests to the API without a valid token, the last one from here");
        }
    }
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
    given.is_some_and(|given| equal(given, token.as_bytes()))
}

/// Compares two byte strings in constant time.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
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
    fn a_token_must_match_entirely() {
        for (given, allowed) in
            [("Bearer abc", true), ("Bearer abd", false), ("Bearer ab", false), ("abc", false)]
        {
            let headers = headers(&[(header::AUTHORIZATION, given)]);
            assert_eq!(bears(&headers, "abc"), allowed, "{given}");
        }
        assert!(!bears(&HeaderMap::new(), "abc"));
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
