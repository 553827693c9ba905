//! From bytes to types, once: paths, queries, bodies and conditions of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use starling_api::{Error, ErrorCode, PAGE_KEYS_DEFAULT, PAGE_KEYS_MAX};
use starling_kv::Check;
use tokio::time::Instant;

use super::problem::Problem;

/// Bytes of JSON for one byte of a value, at most (`\u00XX`), without the names of fields.
pub const JSON_EXPANSION: usize = 6;

/// Bytes of a body beyond its limit that are read and dropped. A guess at what users send by mistake.
const DROPPED_BYTES_MAX: usize = 64 << 20;

/// How long a body may take: this, and a second more for each so many bytes that have arrived. Estimates: a client that sends
/// less is stuck, or holds a connection on purpose.
const BODY_MAX: Duration = Duration::from_secs(30);
const BODY_RATE: u64 = 1 << 10;

/// The keyspace and the key of a path. Keys are any bytes, percent-encoded.
pub struct KeyPath {
    /// The keyspace.
    pub keyspace: String,
    /// The key; empty where the path has none.
    pub key: Vec<u8>,
}

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Nesting cuts the path short; the framework's own parameters must be UTF-8.
        let original = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
        Self::parse(original.path())
    }
}

impl KeyPath {
    /// From `/v1/keyspaces/{keyspace}/{what}/{key}`.
    fn parse(path: &str) -> Result<Self, Problem> {
        let mut segments = path.splitn(6, '/').skip(3);
        let mut segment = || percent_decode_str(segments.next().unwrap_or_default()).collect::<Vec<u8>>();
        let (keyspace, _what, key) = (segment(), segment(), segment());
        let keyspace = String::from_utf8(keyspace).map_err(|_| {
            Problem::invalid("the keyspace's name is not text", "use 1 to 64 characters of a-z 0-9 _ . -")
        })?;
        Ok(Self { keyspace, key })
    }
}

/// The parameters of a query: any bytes, percent-encoded, `+` for a space. A handler takes those it
/// knows and calls [`Query::finish`], so that a misspelled one is an error.
#[derive(Debug, Default)]
pub struct Query(BTreeMap<String, Vec<u8>>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn parse(text: &str) -> Self {
        let decode = |raw: &str| percent_decode_str(&raw.replace('+', " ")).collect::<Vec<u8>>();
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (String::from_utf8_lossy(&decode(name)).into_owned(), decode(value))
        });
        Self(pairs.collect())
    }

    /// A parameter's bytes.
    pub fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        self.0.remove(name)
    }

    /// A parameter that is a number.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(raw) = self.0.remove(name) else { return Ok(None) };
        let number = std::str::from_utf8(&raw).ok().and_then(|text| text.parse().ok());
        let wrong =
            || Problem::invalid(format!("{name} is not a number"), format!("write for example {name}=1000"));
        number.map(Some).ok_or_else(wrong)
    }

    /// How long what is written lives, of a write with no other parameter.
    pub fn only_ttl_ms(mut self) -> Result<Option<u64>, Problem> {
        let ttl_ms = self.number("ttl_ms")?;
        self.finish()?;
        Ok(ttl_ms)
    }

    /// A parameter that is a switch: absent is off.
    pub fn switch(&mut self, name: &str) -> Result<bool, Problem> {
        match self.0.remove(name).as_deref() {
            None | Some(b"false" | b"0") => Ok(false),
            Some(b"" | b"true" | b"1") => Ok(true),
            Some(_) => Err(Problem::invalid(
                format!("{name} is neither true nor false"),
                format!("write {name}=true"),
            )),
        }
    }

    /// How many keys, members or fields a page shall hold.
    pub fn limit(&mut self) -> Result<usize, Problem> {
        match self.number("limit")? {
            None => Ok(PAGE_KEYS_DEFAULT),
            Some(limit) if (1..=PAGE_KEYS_MAX as u64).contains(&limit) => Ok(limit as usize),
            Some(_) => Err(Problem::invalid(
                "limit is out of bounds",
                format!("1 to {PAGE_KEYS_MAX}; follow `next` for more"),
            )),
        }
    }

    /// Fails if a parameter is left.
    pub fn finish(self) -> Result<(), Problem> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(Problem::invalid(format!("there is no parameter {name:?} here"), "see /openapi.json"))
            }
        }
    }
}

/// Reads a body of at most `bytes_max`. The rest of a larger one is read and dropped, within bounds: a client whose
/// connection is closed while it sends does not see the error.
pub async fn read_body(body: Body, bytes_max: usize) -> Result<bytes::Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let (mut kept, mut received) = (Vec::new(), 0);
    let began = Instant::now();
    loop {
        let due = began + BODY_MAX + Duration::from_secs(received as u64 / BODY_RATE);
        let next = tokio::time::timeout_at(due, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| slow_body())? else { break };
        let broken = |e| Problem::invalid(format!("the body broke off: {e}"), "send the request again");
        let chunk = chunk.map_err(broken)?;
        received += chunk.len();
        if received <= bytes_max {
            kept.extend_from_slice(&chunk);
        } else if received > bytes_max + DROPPED_BYTES_MAX {
            break;
        }
    }
    if received <= bytes_max {
        return Ok(kept.into());
    }
    let hint = "send less at a time; see limits in `starling config`";
    Err(Error::new(ErrorCode::TooLarge, format!("the body is above {bytes_max} bytes"), hint).into())
}

fn slow_body() -> Problem {
    let message = format!("the body takes longer than {} s", BODY_MAX.as_secs());
    Error::new(ErrorCode::Timeout, message, "send less at a time, or over a faster link").into()
}

/// A JSON body of at most `bytes_max`.
pub async fn read_json<T: DeserializeOwned>(body: Body, bytes_max: usize) -> Result<T, Problem> {
    let bytes = read_body(body, bytes_max).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Problem::invalid(format!("the body: {e}"), "see /openapi.json"))
}

/// The condition in `If-Match` or `If-None-Match` (RFC 9110, section 13.1).
pub fn condition(headers: &HeaderMap) -> Result<Option<Check>, Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (Some(version), None) => check(version.trim_matches('"')).map(Some),
        (None, Some("*")) => Ok(Some(Check::Absent)),
        _ => Err(Problem::invalid(
            "this condition is not supported",
            "If-Match: \"VERSION\", or If-None-Match: *",
        )),
    }
}

fn check(version: &str) -> Result<Check, Problem> {
    let hint = "read the key again; \"none\" means that it holds nothing";
    version.parse().map_err(|_| Problem::invalid(format!("{version:?} is not a version"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use futures::stream;

    /// A body whose parts of so many bytes come with a pause before each.
    fn body(parts: u32, bytes: usize, pause: Duration) -> Body {
        let part = move |n: u32| async move {
            tokio::time::sleep(pause).await;
            (n > 0).then(|| (Ok::<_, std::io::Error>(vec![0; bytes]), n - 1))
        };
        Body::from_stream(stream::unfold(parts, part))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up_and_a_slow_one_is_not() {
        // 80 s at 4 KiB/s, and a byte every second.
        let slow = read_body(body(80, 4 << 10, Duration::from_secs(1)), 1 << 20).await;
        assert_eq!(slow.expect("it arrives").len(), 80 * (4 << 10));
        let began = Instant::now();
        let dripping = read_body(body(1000, 1, Duration::from_secs(1)), 1 << 20).await;
        assert!(dripping.is_err() && began.elapsed() <= BODY_MAX);
    }

    #[test]
    fn parameters_are_bytes_and_misspelled_ones_are_refused() {
        let mut query = Query::parse("prefix=a%2F%FF+b&limit=10&values&end=");
        assert_eq!(query.bytes("prefix").as_deref(), Some(&b"a/\xff b"[..]));
        assert_eq!(query.bytes("end").as_deref(), Some(&b""[..]));
        assert_eq!(query.limit().expect("in bounds"), 10);
        assert!(query.switch("values").expect("a switch"));
        assert!(query.finish().is_ok());
        assert!(Query::parse("limti=10").finish().is_err());
        for wrong in ["limit=0", "limit=10001", "limit=x", "limit=-1"] {
            assert!(Query::parse(wrong).limit().is_err(), "{wrong}");
        }
        assert!(Query::parse("values=maybe").switch("values").is_err());
        assert_eq!(Query::parse("ttl_ms=7").only_ttl_ms().expect("a number"), Some(7));
        assert!(Query::parse("ttl_ms=7&limit=1").only_ttl_ms().is_err());
    }

    #[test]
    fn keys_in_paths_are_any_bytes() {
        let path = KeyPath::parse("/v1/keyspaces/a.b/keys/x/%FF%2F/+").expect("valid");
        assert_eq!((path.keyspace.as_str(), &path.key[..]), ("a.b", &b"x/\xff//+"[..]));
        let path = KeyPath::parse("/v1/keyspaces/a/keys").expect("valid");
        assert!(path.key.is_empty());
        assert!(KeyPath::parse("/v1/keyspaces/%FF/keys/x").is_err());
    }

    #[test]
    fn conditions() {
        let headers =
            |name, value: &'static str| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        assert_eq!(condition(&HeaderMap::new()).expect("none"), None);
        assert_eq!(condition(&headers(header::IF_NONE_MATCH, "*")).expect("absent"), Some(Check::Absent));
        let found = condition(&headers(header::IF_MATCH, "\"0123456789abcdef\"")).expect("a version");
        assert!(matches!(found, Some(Check::Version(version)) if version.to_string() == "0123456789abcdef"));
        for (name, value) in
            [(header::IF_MATCH, "\"zz\""), (header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "\"x\"")]
        {
            assert!(condition(&headers(name, value)).is_err(), "{value}");
        }
    }
}
