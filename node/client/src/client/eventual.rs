//! Eventual keyspaces: registers, counters, sets, maps, flags and keys of any type.

use futures::StreamExt;
use percent_encoding::utf8_percent_encode;
use reqwest::header::{ACCEPT, ETAG, HeaderMap, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder};
use starling_api::{
    Batch, BatchResponse, Blob, Count, Counter, Entry, Error, ErrorCode, Events, Eventual, FlagState,
    Increment, Keyspaces, Listing, MapPage, MapUpdate, Members, Op, Outcome, Precondition, Range, Register,
    SIBLINGS_HEADER, SetPage, WatchEvent,
};

use super::{Client, SEGMENT, encoded, found};
use crate::stream::{WATCH_SILENCE, Watch};

/// A value as bytes, with its version and its siblings from the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawValue {
    /// The value.
    pub bytes: Vec<u8>,
    /// The version of exactly this set of siblings.
    pub version: String,
    /// Number of concurrent values that the key holds, this one included.
    pub siblings: u64,
}

impl Client {
    /// The value of a register; `None` if there is no such key.
    pub async fn get_raw(&self, keyspace: &str, key: &[u8]) -> Result<Option<RawValue>, Error> {
        let request = self.get(&key_path(keyspace, "keys", key)?).header(ACCEPT, "application/octet-stream");
        let Some(response) = found(self.send(request).await)? else { return Ok(None) };
        let version = version_of(response.headers());
        let siblings = header(response.headers(), SIBLINGS_HEADER).and_then(|n| n.parse().ok()).unwrap_or(1);
        let bytes = self.body(response).await?;
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

    /// Sets a register. Returns its version.
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

    /// Deletes a key of any type. Returns how many values, members and fields it held.
    pub async fn delete(
        &self,
        keyspace: &str,
        key: &[u8],
        precondition: &Precondition,
    ) -> Result<u64, Error> {
        self.delete_all(&key_path(keyspace, "keys", key)?, precondition).await
    }

    /// Deletes every key that begins with `prefix`. Returns how many values, members and fields were
    /// deleted.
    pub async fn delete_prefix(&self, keyspace: &str, prefix: &[u8]) -> Result<u64, Error> {
        let path = format!("{}?prefix={}", keyspace_path(keyspace, "keys"), encoded(prefix));
        self.delete_all(&path, &Precondition::Any).await
    }

    /// One page of keys. For the next page set `after` to the listing's `next`.
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

    /// Applies one operation of any data type to a key.
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

    /// Carries out several writes, together or not at all.
    pub async fn batch(&self, batch: &Batch) -> Result<BatchResponse, Error> {
        self.fetch(self.long_request(Method::POST, "/v1/batch").json(batch)).await
    }

    /// Changes of keys that begin with `prefix`, from now on. The first event is
    /// [`WatchEvent::Ready`].
    pub async fn watch(&self, keyspace: &str, prefix: &[u8]) -> Result<Watch, Error> {
        let path = format!("{}?prefix={}", keyspace_path(keyspace, "watch"), encoded(prefix));
        let request = self.http.client().get(self.url_of(&path)).header(ACCEPT, "text/event-stream");
        let response = self.send(self.authorized(request)).await?;
        Ok(Watch::new(self.url().to_owned(), response, WATCH_SILENCE))
    }

    // ---- counters, sets, maps, flags

    /// Adds to a counter. Returns its sum on the node.
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

    /// Adds and removes members of a set. Returns how many are new or gone.
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

    /// Sets and deletes fields of a map. Returns how many are new, changed or gone.
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

    /// Deletes until no place is left: a node deletes a bounded number at a time.
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

fn keyspace_path(keyspace: &str, what: &str) -> String {
    format!("/v1/keyspaces/{}/{what}", utf8_percent_encode(keyspace, SEGMENT))
}

/// URLs drop the path segments `.` and `..`, however they are written (RFC 3986, 5.2.4).
fn key_path(keyspace: &str, what: &str, key: &[u8]) -> Result<String, Error> {
    match key {
        b"" => {
            let hint = "name a key of at least one byte";
            Err(Error::new(ErrorCode::Unsendable, "the key is empty", hint))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_byte_by_byte() {
        assert_eq!(key_path("a", "keys", b"x/y \xff").expect("valid"), "/v1/keyspaces/a/keys/x%2Fy%20%FF");
        assert!(key_path("a", "keys", b"..").is_err());
        assert!(key_path("a", "keys", b"").is_err());
    }
}
