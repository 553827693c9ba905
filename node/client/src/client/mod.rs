//! The client of the HTTP API: addresses, connections, retries and errors. What it requests is in the modules below.

mod admin;
mod eventual;
mod strong;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::{Method, Request, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use starling_api::{Error, ErrorCode};

use crate::retry::{Attempts, Retries};

pub use eventual::RawValue;

/// Characters that are not escaped in a path segment: the unreserved ones of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// How long to wait for a connection: a node is on this machine or near; a guess.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait for the answer to anything but a watch: a full check of a large store is slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A client of the API of one node, or of several that stand in for each other. Cheap to clone; clones share
/// connections, which are kept open and reused.
#[derive(Clone, Debug)]
pub struct Client {
    /// `http://host:port` of each node.
    nodes: Arc<[String]>,
    /// Index of the node that gets the next request: the last one that answered.
    current: Arc<AtomicUsize>,
    retries: Retries,
    token: Option<String>,
    http: reqwest::Client,
    if_strong: bool,
}

/// `http://host:port` of an address.
fn base(api: &str) -> Result<String, Error> {
    let base = if api.contains("://") { api.to_owned() } else { format!("http://{api}") };
    let base = base.trim_end_matches('/').to_owned();
    if !base.starts_with("http://") {
        return Err(Error::unsendable(format!("{api} is not an address like http://127.0.0.1:7401")));
    }
    Ok(base)
}

impl Client {
    /// A client of the node at `api`: `host:port` or `http://host:port`. Connects at the first call, and
    /// sends each request once.
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
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|e| Error::unsendable(e.to_string()))?;
        Ok(Self {
            nodes,
            current: Arc::default(),
            retries: Retries::default(),
            token,
            http,
            if_strong: false,
        })
    }

    /// A client whose requests to strong keyspaces fail at once, with [`ErrorCode::OtherKeyspace`], where the
    /// node knows no strong keyspace of the name. So a client that has only a name needs no request to find out
    /// of which kind its keyspace is. A keyspace that was created a moment ago may not be known yet.
    #[must_use]
    pub fn if_strong(&self) -> Self {
        Self { if_strong: true, ..self.clone() }
    }

    /// This client with another policy of retries.
    #[must_use]
    pub fn with_retries(self, retries: Retries) -> Self {
        Self { retries, ..self }
    }

    /// The address of the node that gets the next request, `http://host:port`.
    pub fn url(&self) -> &str {
        &self.nodes[self.current.load(Ordering::Relaxed) % self.nodes.len()]
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.authorized(self.http.request(method, format!("{}{path}", self.url())).timeout(ANSWER_TIMEOUT))
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
        self.send_built(request, idempotent).await
    }

    /// Sends a request, and again to the next node where that is safe.
    async fn send_built(&self, mut request: Request, idempotent: bool) -> Result<Response, Error> {
        let mut attempts = Attempts::new(self.retries);
        loop {
            let again = request.try_clone();
            let (error, sent) = match self.http.execute(request).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => (self.refusal(response).await, true),
                Err(error) => (self.broken(&error), !error.is_connect()),
            };
            let pause = attempts.after(&error, sent, idempotent);
            let (Some(pause), Some(again)) = (pause, again) else { return Err(error) };
            request = self.to_next_node(again)?;
            tokio::time::sleep(pause).await;
        }
    }

    /// Redirects a request, and those after it, to the next node.
    fn to_next_node(&self, mut request: Request) -> Result<Request, Error> {
        self.current.fetch_add(1, Ordering::Relaxed);
        let node = Url::parse(self.url()).map_err(|e| Error::unsendable(e.to_string()))?;
        let url = request.url_mut();
        let moved = url.set_host(node.host_str()).is_ok() && url.set_port(node.port()).is_ok();
        if moved { Ok(request) } else { Err(Error::unsendable("an address of a node has no host")) }
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        match response.text().await {
            // A body that is none of ours is an answer of something else than a Starling node.
            Ok(text) => serde_json::from_str(&text)
                .unwrap_or_else(|_| Error::not_understood(self.url(), format!("HTTP status {status}"))),
            Err(error) => self.broken(&error),
        }
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let bytes = response.bytes().await.map_err(|e| self.broken(&e))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::not_understood(self.url(), e))
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        let reason = if error.is_timeout() { "no answer in time".into() } else { reason.to_string() };
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
        assert!(Client::new("https://example.org", None).is_err());
        assert!(Client::of_nodes([], None).is_err());
    }
}
