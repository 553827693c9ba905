//! A client of the API of one node, or of several that stand in for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use reqwest::header::{ACCEPT, ETAG, HeaderMap, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, Request, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;

use starling_api::admin::{Configuration, Doctor, Finalize, Nodes, Peers, Status, Ticket, Upgrade};
use starling_api::strong::{
    self, CreateKeyspace, Leader, StrongAnswer, StrongCall, StrongEvent, StrongInfo, Voters,
};
use starling_api::{
    Batch, BatchResponse, Blob, Count, Counter, Entry, Error, ErrorCode, Events, Eventual, FlagState,
    Increment, Keyspaces, Listing, MapPage, MapUpdate, Members, Op, Outcome, Precondition, Range, Register,
    SIBLINGS_HEADER, SetPage, Strong, WatchEvent,
};

use crate::retry::{Attempts, Retries};
use crate::stream::Watch;

/// What stays as it is in a path segment (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// How long to wait for a connection: a node is on this machine or near; a guess.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait for the answer to anything but a watch: a full check of a large store is slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for a change of members: a new one fetches everything first.
const MANAGE_TIMEOUT: Duration = Duration::from_secs(660);
/// How long to wait for the answer of a strong keyspace beyond the time that it may take; a guess.
const CALL_SLACK: Duration = Duration::from_secs(5);

/// Speaks to a node, or to one of several. Cheap to clone; clones share connections, which are kept open and
/// reused.
#[derive(Clone, Debug)]
pub struct Client {
    /// `http://host:port` of each node.
    nodes: Arc<[String]>,
    /// The node that is asked next: the last one that answered.
    current: Arc<AtomicUsize>,
    retries: Retries,
    token: Option<String>,
    http: reqwest::Client,
    if_strong: bool,
}

/// A value as bytes, with what its headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawValue {
    /// The value.
    pub bytes: Vec<u8>,
    /// Names exactly this set of siblings.
    pub version: String,
    /// How many concurrent values the key holds, this one included.
    pub siblings: u64,
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

    /// The same client with another policy of retries.
    #[must_use]
    pub fn with_retries(self, retries: Retries) -> Self {
        Self { retries, ..self }
    }

    /// The address of the node that is asked next, `http://host:port`.
    pub fn url(&self) -> &str {
        &self.nodes[self.current.load(Ordering::Relaxed) % self.nodes.len()]
    }

    // ---- registers and keys of any type

    /// The value of a register; `None` if there is no such key.
    pub async fn get_raw(&self, keyspace: &str, key: &[u8]) -> Result<Option<RawValue>, Error> {
        let request = self.get(&key_path(keyspace, "keys", key)?).header(ACCEPT, "application/octet-stream");
        let Some(response) = found(self.send(request).await)? else { return Ok(None) };
        let version = version_of(response.headers());
        let siblings = header(response.headers(), SIBLINGS_HEADER).and_then(|n| n.parse().ok()).unwrap_or(1);
        let bytes = response.bytes().await.map_err(|e| self.broken(&e))?.to_vec();
        Ok(Some(RawValue { bytes, version, siblings }))
    }

    /// What a key holds, whatever its type; `None` if there is no such key.
    pub async fn get_entry(&self, keyspace: &str, key: &[u8]) -> Result<Option<Entry>, Error> {
        let request = self.get(&key_path(keyspace, "keys", key)?).header(ACCEPT, "application/json");
        match found(self.send(request).await)? {
            Some(response) => self.json(response).await.map(Some),
            None => Ok(None),
        }
    }

    /// Sets a register; its version is returned.
    pub async fn put(
        &self,
        keyspace: &str,
        key: &[u8],
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        precondition: &Precondition,
    ) -> Result<String, Error> {
        let mut request = self.request(Method::PUT, &key_path(keyspace, "keys", key)?).body(value);
        if let Some(ttl_ms) = ttl_ms {
            request = request.query(&[("ttl_ms", ttl_ms)]);
        }
        match self.fetch(conditional(request, precondition)).await? {
            Outcome::Put { version } => Ok(version.to_string()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Deletes a key of any type; says how many values, members and fields it held.
    pub async fn delete(
        &self,
        keyspace: &str,
        key: &[u8],
        precondition: &Precondition,
    ) -> Result<u64, Error> {
        self.delete_all(&key_path(keyspace, "keys", key)?, precondition).await
    }

    /// Deletes every key that begins with `prefix`; says how many values, members and fields went.
    pub async fn delete_prefix(&self, keyspace: &str, prefix: &[u8]) -> Result<u64, Error> {
        let path = format!("{}?prefix={}", keyspace_path(keyspace, "keys"), encoded(prefix));
        self.delete_all(&path, &Precondition::Any).await
    }

    /// One page of keys. For the next one set `after` to the listing's `next`.
    pub async fn list(&self, keyspace: &str, range: &Range) -> Result<Listing, Error> {
        let mut path = format!("{}?prefix={}", keyspace_path(keyspace, "keys"), encoded(&range.prefix.0));
        for (name, bound) in [("start", &range.start), ("end", &range.end), ("after", &range.after)] {
            if let Some(bound) = bound {
                path.extend(["&", name, "=", &encoded(&bound.0)]);
            }
        }
        self.fetch(self.get(&path).query(range)).await
    }

    /// Every keyspace that holds a key.
    pub async fn keyspaces(&self) -> Result<Keyspaces, Error> {
        self.fetch(self.get("/v1/keyspaces")).await
    }

    /// One operation of any data type on a key.
    pub async fn apply(
        &self,
        keyspace: &str,
        key: &[u8],
        op: &Op,
        ttl_ms: Option<u64>,
    ) -> Result<Outcome, Error> {
        let mut request = self.request(Method::POST, &key_path(keyspace, "keys", key)?).json(op);
        if let Some(ttl_ms) = ttl_ms {
            request = request.query(&[("ttl_ms", ttl_ms)]);
        }
        self.fetch(request).await
    }

    /// Several writes, together or not at all.
    pub async fn batch(&self, batch: &Batch) -> Result<BatchResponse, Error> {
        self.fetch(self.request(Method::POST, "/v1/batch").json(batch)).await
    }

    /// Changes of keys that begin with `prefix`, from now on. The first event is
    /// [`WatchEvent::Ready`].
    pub async fn watch(&self, keyspace: &str, prefix: &[u8]) -> Result<Watch, Error> {
        let path = format!("{}?prefix={}", keyspace_path(keyspace, "watch"), encoded(prefix));
        let request = self.http.get(format!("{}{path}", self.url())).header(ACCEPT, "text/event-stream");
        let response = self.send(self.authorized(request)).await?;
        Ok(Watch::new(self.url().to_owned(), response))
    }

    // ---- counters, sets, maps, flags

    /// Adds to a counter; its sum on this node is returned.
    pub async fn increment(&self, keyspace: &str, key: &[u8], by: i64) -> Result<Count, Error> {
        let request =
            self.request(Method::POST, &key_path(keyspace, "counters", key)?).json(&Increment { by });
        match self.fetch(request).await? {
            Outcome::Counter { value } => Ok(Count(value)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The sum of a counter; `None` if there is no such key.
    pub async fn counter(&self, keyspace: &str, key: &[u8]) -> Result<Option<Count>, Error> {
        Ok(self.find::<Counter>(&key_path(keyspace, "counters", key)?).await?.map(|counter| counter.value))
    }

    /// Adds and removes members of a set; says how many are new or gone.
    pub async fn update_set(&self, keyspace: &str, key: &[u8], members: &Members) -> Result<u64, Error> {
        self.changed(self.request(Method::POST, &key_path(keyspace, "sets", key)?).json(members)).await
    }

    /// One page of a set's members, after a given one; `None` if there is no such key.
    pub async fn members(
        &self,
        keyspace: &str,
        key: &[u8],
        after: Option<&Blob>,
    ) -> Result<Option<SetPage>, Error> {
        self.find(&page_path(keyspace, "sets", key, after)?).await
    }

    /// Sets and deletes fields of a map; says how many are new, changed or gone.
    pub async fn update_map(&self, keyspace: &str, key: &[u8], update: &MapUpdate) -> Result<u64, Error> {
        self.changed(self.request(Method::POST, &key_path(keyspace, "maps", key)?).json(update)).await
    }

    /// One page of a map's fields, after a given one; `None` if there is no such key.
    pub async fn fields(
        &self,
        keyspace: &str,
        key: &[u8],
        after: Option<&Blob>,
    ) -> Result<Option<MapPage>, Error> {
        self.find(&page_path(keyspace, "maps", key, after)?).await
    }

    /// One field of a map; `None` if there is no such key or field.
    pub async fn field(&self, keyspace: &str, key: &[u8], name: &[u8]) -> Result<Option<Register>, Error> {
        self.find(&format!("{}?field={}", key_path(keyspace, "maps", key)?, encoded(name))).await
    }

    /// Turns a flag on or off.
    pub async fn set_flag(&self, keyspace: &str, key: &[u8], enabled: bool) -> Result<(), Error> {
        let request =
            self.request(Method::PUT, &key_path(keyspace, "flags", key)?).json(&FlagState { enabled });
        self.fetch::<Outcome>(request).await.map(drop)
    }

    /// Whether a flag is on; `None` if there is no such key.
    pub async fn flag(&self, keyspace: &str, key: &[u8]) -> Result<Option<bool>, Error> {
        Ok(self.find::<FlagState>(&key_path(keyspace, "flags", key)?).await?.map(|flag| flag.enabled))
    }

    // ---- strong keyspaces

    /// Makes a strong keyspace; says how it stands.
    pub async fn create_keyspace(&self, create: &CreateKeyspace) -> Result<StrongInfo, Error> {
        self.fetch(self.request(Method::POST, "/v1/strong").json(create)).await
    }

    /// How a strong keyspace stands; `None` if there is none of this name.
    pub async fn strong_info(&self, keyspace: &str) -> Result<Option<StrongInfo>, Error> {
        self.find(&strong_path(keyspace, "")).await
    }

    /// Removes a strong keyspace with all it holds.
    pub async fn drop_keyspace(&self, keyspace: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, &strong_path(keyspace, ""))).await.map(drop)
    }

    /// Makes these nodes the voters of a strong keyspace.
    pub async fn set_voters(&self, keyspace: &str, voters: &Voters) -> Result<StrongInfo, Error> {
        let request = self.request(Method::PUT, &strong_path(keyspace, "/voters"));
        self.fetch(request.timeout(MANAGE_TIMEOUT).json(voters)).await
    }

    /// Lets a node lead a strong keyspace.
    pub async fn transfer_leader(&self, keyspace: &str, to: &Leader) -> Result<StrongInfo, Error> {
        self.fetch(self.request(Method::PUT, &strong_path(keyspace, "/leader")).json(to)).await
    }

    /// The disaster: the node goes on alone with its replica of a strong keyspace.
    pub async fn recover_keyspace(&self, keyspace: &str) -> Result<(), Error> {
        self.send(self.request(Method::POST, &strong_path(keyspace, "/recover"))).await.map(drop)
    }

    /// Asks a strong keyspace.
    pub async fn ask(&self, keyspace: &str, call: &StrongCall) -> Result<StrongAnswer, Error> {
        let path = if self.if_strong { "/call?if_strong=true" } else { "/call" };
        let request = self.request(Method::POST, &strong_path(keyspace, path));
        let longest = Duration::from_millis(call.timeout_ms) + CALL_SLACK;
        let request = request.timeout(longest).json(call).build().map_err(|e| self.broken(&e))?;
        self.json(self.send_built(request, is_idempotent(call)).await?).await
    }

    /// Changes in a strong keyspace from a revision on, or (0) from now on. The first event is
    /// [`StrongEvent::Ready`].
    pub async fn watch_strong(
        &self,
        keyspace: &str,
        prefix: &[u8],
        from_revision: u64,
    ) -> Result<Watch<StrongEvent>, Error> {
        let path = strong_path(keyspace, "/watch");
        let mut url =
            format!("{}{path}?prefix={}&from_revision={from_revision}", self.url(), encoded(prefix));
        if self.if_strong {
            url.push_str("&if_strong=true");
        }
        let request = self.http.get(url).header(ACCEPT, "text/event-stream");
        let response = self.send(self.authorized(request)).await?;
        Ok(Watch::new(self.url().to_owned(), response))
    }

    // ---- the node

    /// How the node is.
    pub async fn status(&self) -> Result<Status, Error> {
        self.fetch(self.get("/v1/status")).await
    }

    /// The peers it knows.
    pub async fn peers(&self) -> Result<Peers, Error> {
        self.fetch(self.get("/v1/peers")).await
    }

    /// How far the network is in an upgrade, by asking every node. Takes seconds where nodes do not answer.
    pub async fn upgrade(&self) -> Result<Upgrade, Error> {
        self.fetch(self.get("/v1/upgrade")).await
    }

    /// Switches the newest version of data on, for ever.
    pub async fn finalize_upgrade(&self, finalize: &Finalize) -> Result<Upgrade, Error> {
        self.fetch(self.request(Method::POST, "/v1/upgrade/finalize").json(finalize)).await
    }

    /// The whole overlay, by asking every node. Takes seconds where nodes do not answer.
    pub async fn nodes(&self) -> Result<Nodes, Error> {
        self.fetch(self.get("/v1/nodes")).await
    }

    /// Checks the whole store. Takes minutes on a large one.
    pub async fn doctor(&self) -> Result<Doctor, Error> {
        self.fetch(self.get("/v1/doctor")).await
    }

    /// The effective configuration.
    pub async fn config(&self) -> Result<Configuration, Error> {
        self.fetch(self.get("/v1/config")).await
    }

    /// The join ticket.
    pub async fn ticket(&self) -> Result<Ticket, Error> {
        self.fetch(self.get("/v1/ticket")).await
    }

    /// Tells the node to leave the network and stop.
    pub async fn leave(&self) -> Result<(), Error> {
        self.send(self.request(Method::POST, "/v1/leave")).await.map(drop)
    }

    /// Whether the node is ready to serve.
    pub async fn is_ready(&self) -> Result<bool, Error> {
        match self.send(self.get("/readyz")).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == ErrorCode::NotReady => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The metrics in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String, Error> {
        self.send(self.get("/metrics")).await?.text().await.map_err(|e| self.broken(&e))
    }

    // ---- how

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

    /// A node deletes a bounded number of places at a time: ask until none is left.
    async fn delete_all(&self, path: &str, precondition: &Precondition) -> Result<u64, Error> {
        let mut request = conditional(self.request(Method::DELETE, path), precondition);
        let mut deleted = 0;
        loop {
            match self.fetch(request).await? {
                Outcome::Deleted { places, more } => {
                    deleted += places;
                    if !more {
                        return Ok(deleted);
                    }
                    request = self.request(Method::DELETE, path);
                }
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    async fn changed(&self, request: RequestBuilder) -> Result<u64, Error> {
        match self.fetch(request).await? {
            Outcome::Changed { fields } => Ok(fields),
            other => Err(self.unexpected(&other)),
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

    /// The same request for the next node, which is asked from now on.
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

    fn unexpected(&self, result: &Outcome) -> Error {
        Error::not_understood(self.url(), format!("unexpected {result:?}"))
    }
}

impl Eventual for Client {
    async fn entry(&self, keyspace: &str, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.get_entry(keyspace, key).await
    }

    async fn list(&self, keyspace: &str, range: &Range) -> Result<Listing, Error> {
        Client::list(self, keyspace, range).await
    }

    async fn batch(&self, batch: Batch) -> Result<BatchResponse, Error> {
        Client::batch(self, &batch).await
    }

    async fn watch(&self, keyspace: &str, prefix: &[u8]) -> Result<Events<WatchEvent>, Error> {
        Ok(Client::watch(self, keyspace, prefix).await?.boxed())
    }
}

impl Strong for Client {
    async fn call(&self, keyspace: &str, call: StrongCall) -> Result<StrongAnswer, Error> {
        self.ask(keyspace, &call).await
    }

    async fn changes(
        &self,
        keyspace: &str,
        prefix: &[u8],
        from_revision: u64,
    ) -> Result<Events<StrongEvent>, Error> {
        Ok(self.watch_strong(keyspace, prefix, from_revision).await?.boxed())
    }
}

/// Whether a request to a strong keyspace has the same effect twice: a named write is applied once.
fn is_idempotent(call: &StrongCall) -> bool {
    !matches!(call.request, strong::Request::Write(_)) || call.request_id.is_some()
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, SEGMENT).to_string()
}

fn keyspace_path(keyspace: &str, what: &str) -> String {
    format!("/v1/keyspaces/{}/{what}", utf8_percent_encode(keyspace, SEGMENT))
}

fn strong_path(keyspace: &str, what: &str) -> String {
    format!("/v1/strong/{}{what}", utf8_percent_encode(keyspace, SEGMENT))
}

/// URLs drop the path segments `.` and `..`, however they are written (RFC 3986, 5.2.4).
fn key_path(keyspace: &str, what: &str, key: &[u8]) -> Result<String, Error> {
    match key {
        b"" => Err(Error::unsendable("the key is empty")),
        b"." | b".." => {
            let name = Blob::from(key).escaped();
            Err(Error::unsendable(format!(
                "the key {name:?} cannot be part of a URL: use a batch or an import"
            )))
        }
        _ => Ok(format!("{}/{}", keyspace_path(keyspace, what), encoded(key))),
    }
}

fn page_path(keyspace: &str, what: &str, key: &[u8], after: Option<&Blob>) -> Result<String, Error> {
    let path = key_path(keyspace, what, key)?;
    Ok(after.map_or(path.clone(), |after| format!("{path}?after={}", encoded(&after.0))))
}

fn conditional(request: RequestBuilder, precondition: &Precondition) -> RequestBuilder {
    match precondition {
        Precondition::Any => request,
        Precondition::Absent => request.header(IF_NONE_MATCH, "*"),
        Precondition::Version(version) => request.header(IF_MATCH, format!("\"{version}\"")),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn version_of(headers: &HeaderMap) -> String {
    header(headers, ETAG.as_str()).unwrap_or_default().trim_matches('"').to_owned()
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
    fn paths_are_encoded_byte_by_byte() {
        assert_eq!(key_path("a", "keys", b"x/y \xff").expect("valid"), "/v1/keyspaces/a/keys/x%2Fy%20%FF");
        assert!(key_path("a", "keys", b"..").is_err());
        assert!(key_path("a", "keys", b"").is_err());
    }

    #[test]
    fn an_address_needs_no_scheme_and_no_other_scheme_is_taken() {
        assert_eq!(Client::new("127.0.0.1:1", None).expect("valid").url(), "http://127.0.0.1:1");
        assert!(Client::new("https://example.org", None).is_err());
        assert!(Client::of_nodes([], None).is_err());
    }
}
