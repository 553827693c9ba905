//! The client of the HTTP API: addresses, connections, retries and errors. What it requests is in the modules below.

mod admin;
mod eventual;
mod socket;
mod strong;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::{Method, Request, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use starling_api::{Error, ErrorCode, NEW_KEYSPACE_HEADER};

use tokio::time::{sleep, timeout};

use crate::retry::{Attempts, Retries};
use crate::tls::{self, ClientTls};

pub use eventual::RawValue;
use socket::{HTTPS, Http, UNIX};
pub use strong::MANAGE_TIMEOUT;

/// Characters that are not escaped in a path segment: the unreserved ones of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// How long a node may be silent by default. Programs that retry for as long as their own deadlines allow are not cut
/// short; commands set a shorter time.
const SILENCE: Duration = Duration::from_secs(120);
/// How long a node may work on a request that takes long, as long as it answers others: a full check of a large store
/// is slow.
pub const WORK: Duration = Duration::from_secs(120);
/// Body from which a request counts as one that takes long, bytes: the link may be narrow. An estimate.
const LARGE_BODY_BYTES: usize = 64 << 10;

/// What to do about a unix socket that this process may not open.
const OTHER_USER_HINT: &str = "only the user that runs the node may open its socket: run the command as that user, or name the \
                               node's address by TCP: --api HOST:PORT";

/// A client of the API of one node, or of several that stand in for each other. Cheap to clone; clones share
/// connections, which are kept open and reused.
#[derive(Clone, Debug)]
pub struct Client {
    /// `http://host:port` or `https://host:port` of each node, or `unix:PATH` of the only one.
    nodes: Arc<[String]>,
    /// Index of the node that gets the next request: the last one that answered.
    current: Arc<AtomicUsize>,
    retries: Retries,
    token: Option<String>,
    http: Http,
    if_strong: bool,
    /// How long the node may be silent; `None`: [`SILENCE`].
    timeout: Option<Duration>,
    /// Whether a write has made an eventual keyspace; `None`: nodes are not asked.
    made_keyspace: Option<Arc<AtomicBool>>,
}

/// Why a request has no answer.
struct Unanswered {
    error: Error,
    /// Whether the request may have reached the node.
    sent: bool,
}

/// The URL of an address: `http://host:port`, `https://host:port`, or of a unix socket `unix:PATH`.
fn base(api: &str) -> Result<String, Error> {
    if let Some(path) = api.strip_prefix(UNIX) {
        if path.is_empty() {
            let hint = "write unix:PATH: the socket is api.sock in the node's data directory";
            return Err(Error::new(ErrorCode::Unsendable, "unix: names no socket", hint));
        }
        return Ok(api.to_owned());
    }
    let base = if api.contains("://") { api.to_owned() } else { format!("http://{api}") };
    let base = base.trim_end_matches('/').to_owned();
    if !["http://", HTTPS].iter().any(|scheme| base.starts_with(scheme)) {
        return Err(Error::unsendable(format!("{api} is not an address like http://127.0.0.1:7401")));
    }
    Ok(base)
}

impl Client {
    /// A client of the node at `api`: `host:port`, a URL, or `unix:PATH` for a node of this machine and user. Connects
    /// at the first call, and sends each request once.
    pub fn new(api: &str, token: Option<String>) -> Result<Self, Error> {
        Self::of_nodes([api], token).map(|client| client.with_retries(Retries::NONE))
    }

    /// A client of several nodes that stand in for each other. It keeps to one of them while that answers,
    /// and sends again what is safe to send again.
    pub fn of_nodes<'a>(
        nodes: impl IntoIterator<Item = &'a str>,
        token: Option<String>,
    ) -> Result<Self, Error> {
        let nodes: Arc<[String]> = nodes.into_iter().map(base).collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            return Err(Error::unsendable("a client needs the address of a node"));
        }
        let http = match nodes.iter().find_map(|node| node.strip_prefix(UNIX)) {
            Some(path) if nodes.len() == 1 => Http::over_socket(Path::new(path))?,
            Some(_) => return Err(Error::unsendable("a unix socket is the only address of its client")),
            None => Http::over_tcp()?,
        };
        Ok(Self {
            nodes,
            current: Arc::default(),
            retries: Retries::default(),
            token,
            http,
            if_strong: false,
            timeout: None,
            made_keyspace: None,
        })
    }

    /// A client whose requests to strong keyspaces fail at once, with [`ErrorCode::OtherKeyspace`], where the
    /// node knows no strong keyspace of the name. So a client that has only a name needs no request to find out
    /// of which kind its keyspace is. A keyspace that was created a moment ago may not be known yet.
    #[must_use]
    pub fn if_strong(&self) -> Self {
        Self { if_strong: true, ..self.clone() }
    }

    /// This client with what it trusts where a node's address begins with https://. Without it no such node is trusted.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn with_tls(self, tls: &ClientTls) -> Result<Self, Error> {
        let is_needed = self.nodes.iter().any(|node| node.starts_with(HTTPS));
        let http = if is_needed { Http::over_tls(tls)? } else { self.http };
        Ok(Self { http, ..self })
    }

    /// This client with another policy of retries.
    #[must_use]
    pub fn with_retries(self, retries: Retries) -> Self {
        Self { retries, ..self }
    }

    /// This client with a limit on silence: a node that sends nothing for this long counts as unreachable. Where a node
    /// is expected to work for long, it has to answer other requests meanwhile. A request to a strong keyspace may take
    /// five sixths of it, so that the node's own answer, which gives the reason, is in time.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// This client with the question to nodes whether writes make their eventual keyspaces
    /// ([`Client::has_made_keyspace`]).
    #[must_use]
    pub fn noting_new_keyspaces(self) -> Self {
        Self { made_keyspace: Some(Arc::default()), ..self }
    }

    /// Whether a write has made an eventual keyspace, as far as the client was to note it.
    pub fn has_made_keyspace(&self) -> bool {
        self.made_keyspace.as_ref().is_some_and(|made| made.load(Ordering::Relaxed))
    }

    /// The address of the node that gets the next request, `http://host:port` or `unix:PATH`.
    pub fn url(&self) -> &str {
        &self.nodes[self.current.load(Ordering::Relaxed) % self.nodes.len()]
    }

    /// The URL of a request. The host in that of one over a unix socket has no meaning.
    fn url_of(&self, path: &str) -> String {
        let base = if self.url().starts_with(UNIX) { "http://localhost" } else { self.url() };
        format!("{base}{path}")
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.authorized(self.http.client().request(method, self.url_of(path)));
        if self.made_keyspace.is_some() { request.header(NEW_KEYSPACE_HEADER, "?") } else { request }
    }

    /// A request on which the node may work for long.
    fn long_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).timeout(WORK)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    async fn fetch<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request).await?;
        self.json(response).await
    }

    async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        match found(self.send(self.get(path)).await)? {
            Some(response) => self.json(response).await.map(Some),
            None => Ok(None),
        }
    }

    /// Sends a request. One that only reads has the same effect twice.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let request = request.build().map_err(|e| self.broken(&e))?;
        let idempotent = request.method() == Method::GET;
        let response = self.send_built(request, idempotent).await.map_err(|unanswered| unanswered.error)?;
        if let Some(made) = &self.made_keyspace
            && response.headers().contains_key(NEW_KEYSPACE_HEADER)
        {
            made.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }

    /// Sends a request, and again to the next node where that is safe.
    async fn send_built(&self, mut request: Request, idempotent: bool) -> Result<Response, Unanswered> {
        let mut attempts = Attempts::new(self.retries);
        let mut sent = false;
        loop {
            let again = request.try_clone();
            let unanswered = match self.attempt(request).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => Unanswered { error: self.refusal(response).await, sent: true },
                Err(unanswered) => unanswered,
            };
            let Unanswered { error, sent: now_sent } = unanswered;
            sent |= now_sent;
            let pause = attempts.after(&error, now_sent, idempotent);
            let (Some(pause), Some(again)) = (pause, again) else { return Err(Unanswered { error, sent }) };
            request = self.to_next_node(again).map_err(|error| Unanswered { error, sent })?;
            sleep(pause).await;
        }
    }

    /// Sends a request once; again over the node's unix socket if it serves such a request only there.
    async fn attempt(&self, request: Request) -> Result<Response, Unanswered> {
        let again = request.try_clone();
        let response = self.attempt_over(&self.http, request).await?;
        match (self.http.socket_of(&response), again) {
            (Some(socket), Some(mut again)) => {
                // The socket has no TLS.
                let _ = again.url_mut().set_scheme("http");
                self.attempt_over(&socket, again).await
            }
            _ => Ok(response),
        }
    }

    /// Sends a request once, and waits until its answer begins: for as long as the node may be silent, or for the time
    /// that the request has, as long as the node answers others.
    async fn attempt_over(&self, http: &Http, mut request: Request) -> Result<Response, Unanswered> {
        let body = request.body().and_then(|body| body.as_bytes()).map_or(0, <[u8]>::len);
        let longest = request.timeout_mut().take().or((body > LARGE_BODY_BYTES).then_some(WORK));
        let answer = http.client().execute(request);
        let answer = match longest {
            None => timeout(self.silence(), answer).await.ok(),
            Some(longest) => tokio::select! {
                answer = timeout(longest, answer) => answer.ok(),
                () = self.fallen_silent() => None,
            },
        };
        match answer {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(Unanswered { error: self.broken(&error), sent: !error.is_connect() }),
            None => Err(Unanswered { error: self.silent(), sent: true }),
        }
    }

    /// Completes once the node does not answer a question for its liveness in time.
    async fn fallen_silent(&self) {
        loop {
            sleep(self.silence()).await;
            let question = self.get("/healthz").send();
            if !matches!(timeout(self.silence(), question).await, Ok(Ok(_))) {
                return;
            }
        }
    }

    fn silence(&self) -> Duration {
        self.timeout.unwrap_or(SILENCE)
    }

    fn silent(&self) -> Error {
        Error::unreachable(self.url(), format!("no answer for {:?}", self.silence()))
    }

    /// Redirects a request, and those after it, to the next node.
    fn to_next_node(&self, mut request: Request) -> Result<Request, Error> {
        if self.nodes.len() == 1 {
            return Ok(request);
        }
        self.current.fetch_add(1, Ordering::Relaxed);
        let node = Url::parse(self.url()).map_err(|e| Error::unsendable(e.to_string()))?;
        let url = request.url_mut();
        let moved = url.set_host(node.host_str()).is_ok() && url.set_port(node.port()).is_ok();
        if moved { Ok(request) } else { Err(Error::unsendable("an address of a node has no host")) }
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        match self.body(response).await {
            // A body that is none of ours is an answer of something else than a Starling node.
            Ok(bytes) => serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Error::not_understood(self.url(), format!("HTTP status {status}"))),
            Err(error) => error,
        }
    }

    /// The body of an answer, which may take any time, as long as some of it arrives.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            match timeout(self.silence(), response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(self.broken(&error)),
                Err(_) => return Err(self.silent()),
            }
        }
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let bytes = self.body(response).await?;
        serde_json::from_slice(&bytes).map_err(|e| Error::not_understood(self.url(), e))
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        let mut reason: &(dyn std::error::Error + 'static) = error;
        let mut hint = None;
        while let Some(source) = reason.source() {
            reason = source;
            hint = hint.or_else(|| tls::hint(reason));
        }
        if let Some(hint) = hint {
            return Error { hint: hint.into(), ..Error::unreachable(self.url(), reason) };
        }
        let kind = reason.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::PermissionDenied) && self.url().starts_with(UNIX) {
            return Error { hint: OTHER_USER_HINT.into(), ..Error::unreachable(self.url(), reason) };
        }
        let reason = if error.is_timeout() { "no connection in time".into() } else { reason.to_string() };
        if error.is_builder() { Error::unsendable(reason) } else { Error::unreachable(self.url(), reason) }
    }
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, SEGMENT).to_string()
}

fn found(result: Result<Response, Error>) -> Result<Option<Response>, Error> {
    match result {
        Ok(response) => Ok(Some(response)),
        Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::NoSuchKeyspace) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_scheme_and_no_other_scheme_is_taken() {
        assert_eq!(Client::new("127.0.0.1:1", None).expect("valid").url(), "http://127.0.0.1:1");
        assert_eq!(Client::new("unix:/run/api.sock", None).expect("valid").url(), "unix:/run/api.sock");
        assert!(Client::of_nodes(["127.0.0.1:1", "unix:/run/api.sock"], None).is_err());
        assert_eq!(Client::new("https://example.org", None).expect("valid").url(), "https://example.org");
        assert!(Client::new("ftp://example.org", None).is_err());
        assert!(Client::of_nodes([], None).is_err());
        let no_path = Client::new("unix:", None).expect_err("no path");
        assert!(no_path.hint.contains("api.sock"), "{no_path:?}");
    }
}
