//! Keys of any type: get, put, delete, list.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use starling_api::{Entry, Error, Keyspaces, Listing, Op, Outcome, PAGE_KEYS_DEFAULT, SIBLINGS_HEADER};
use starling_kv::Range;
use starling_service::view;

use super::Node;
use super::problem::Problem;
use super::request::{KeyPath, Query, condition, read_body, read_json};
use super::write::json_bytes_max;

/// Members and fields shown of one key in a listing; the rest is read page by page.
const LISTED_FIELDS_MAX: usize = 100;

/// Reads a key: its value as bytes, or, if `Accept` names `application/json`, whatever it holds.
///
/// As bytes: `ETag` is the version; counters are digits, flags `true` or `false`; sets and maps have
/// no such form.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/keys/{key}", tag = "keys",
    params(("keyspace" = String, Path), ("key" = String, Path, description = "any bytes, percent-encoded")),
    responses((status = 200, content((Vec<u8> = "application/octet-stream"), (Entry = "application/json")),
        headers(("etag" = String, description = "the version"),
            ("x-starling-siblings" = u64, description = "concurrent values, this one included"))),
        (status = "4XX", body = Error)))]
pub async fn get(node: Node, path: KeyPath, query: Query, headers: HeaderMap) -> Result<Response, Problem> {
    query.finish()?;
    let keyspace = node.eventual(path.keyspace)?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") {
        let found = keyspace.read(&path.key, PAGE_KEYS_DEFAULT).await?;
        let entry = found.and_then(|found| view::entry(keyspace.keyspace(), path.key, found));
        return Ok(Json(entry.ok_or_else(Problem::no_key)?).into_response());
    }
    let raw = keyspace.plain(&path.key).await?.ok_or_else(Problem::no_key)?;
    let mut answer = raw.value.into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(version) = raw.version {
        answer.headers_mut().insert(header::ETAG, etag(&version.to_string()));
        answer.headers_mut().insert(SIBLINGS_HEADER, raw.siblings.into());
    }
    Ok(answer)
}

fn etag(version: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("a version is hexadecimal digits")
}

/// Sets a register to the body's bytes.
#[utoipa::path(put, path = "/v1/keyspaces/{keyspace}/keys/{key}", tag = "keys",
    params(("keyspace" = String, Path), ("key" = String, Path, description = "any bytes, percent-encoded"),
        ("ttl_ms" = Option<u64>, Query, description = "how long it lives"),
        ("If-Match" = Option<String>, Header, description = "only if the key has this version"),
        ("If-None-Match" = Option<String>, Header, description = "*: only if the key holds nothing")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Outcome), (status = "4XX", body = Error), (status = 503, body = Error)))]
pub async fn put(
    node: Node,
    path: KeyPath,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let ttl_ms = query.only_ttl_ms()?;
    let check = condition(&headers)?;
    let value = read_body(body, node.limits().value_bytes_max).await?;
    let result = node.write_one(path, Op::Put { value }, ttl_ms, check).await?;
    let mut answer = Json(&result).into_response();
    if let Outcome::Put { version } = &result {
        answer.headers_mut().insert(header::ETAG, etag(&version.to_string()));
    }
    Ok(answer)
}

/// Applies one operation of any data type to a key.
#[utoipa::path(post, path = "/v1/keyspaces/{keyspace}/keys/{key}", tag = "keys",
    params(("keyspace" = String, Path), ("key" = String, Path, description = "any bytes, percent-encoded"),
        ("ttl_ms" = Option<u64>, Query, description = "how long what is written lives")),
    request_body = Op,
    responses((status = 200, body = Outcome), (status = "4XX", body = Error), (status = 503, body = Error)))]
pub async fn apply(node: Node, path: KeyPath, query: Query, body: Body) -> Result<Json<Outcome>, Problem> {
    let ttl_ms = query.only_ttl_ms()?;
    let op: Op = read_json(body, json_bytes_max(node.limits())).await?;
    node.write_one(path, op, ttl_ms, None).await.map(Json)
}

/// Deletes a key, whatever it holds.
#[utoipa::path(delete, path = "/v1/keyspaces/{keyspace}/keys/{key}", tag = "keys",
    params(("keyspace" = String, Path), ("key" = String, Path, description = "any bytes, percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "only if the key has this version")),
    responses((status = 200, body = Outcome), (status = "4XX", body = Error), (status = 503, body = Error)))]
pub async fn delete(
    node: Node,
    path: KeyPath,
    query: Query,
    headers: HeaderMap,
) -> Result<Json<Outcome>, Problem> {
    query.finish()?;
    let check = condition(&headers)?;
    node.write_one(path, Op::Delete, None, check).await.map(Json)
}

/// Deletes every key that begins with `prefix`, a bounded number at a time: with `more`, repeat the request.
#[utoipa::path(delete, path = "/v1/keyspaces/{keyspace}/keys", tag = "keys",
    params(("keyspace" = String, Path), ("prefix" = String, Query, description = "may be empty: all keys")),
    responses((status = 200, body = Outcome), (status = "4XX", body = Error), (status = 503, body = Error)))]
pub async fn delete_prefix(node: Node, path: KeyPath, mut query: Query) -> Result<Json<Outcome>, Problem> {
    let Some(key) = query.bytes("prefix") else {
        return Err(Problem::invalid(
            "a prefix is wanted",
            "write ?prefix=...; an empty one deletes all keys",
        ));
    };
    query.finish()?;
    node.write_one(KeyPath { key, ..path }, Op::DeletePrefix, None, None).await.map(Json)
}

/// Lists keys in order of their bytes, a page at a time.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/keys", tag = "keys",
    params(("keyspace" = String, Path),
        ("prefix" = Option<String>, Query, description = "only keys that begin with this"),
        ("start" = Option<String>, Query, description = "only keys from this one on"),
        ("end" = Option<String>, Query, description = "only keys before this one"),
        ("after" = Option<String>, Query, description = "the cursor of the page before"),
        ("limit" = Option<u64>, Query, description = "1 to 10000, default 1000"),
        ("values" = Option<bool>, Query, description = "also what the keys hold")),
    responses((status = 200, body = Listing), (status = "4XX", body = Error)))]
pub async fn list(node: Node, path: KeyPath, mut query: Query) -> Result<Json<Listing>, Problem> {
    let range = Range {
        prefix: query.bytes("prefix").unwrap_or_default(),
        start: query.bytes("start"),
        end: query.bytes("end"),
        after: query.bytes("after"),
    };
    let (limit, values) = (query.limit()?, query.switch("values")?);
    query.finish()?;
    let fields_max = if values { LISTED_FIELDS_MAX } else { 0 };
    let page = node.eventual(path.keyspace)?.list(&range, limit, fields_max).await?;
    Ok(Json(view::listing(page, values)))
}

/// Lists the strong keyspaces, and the eventual ones that hold a key.
#[utoipa::path(get, path = "/v1/keyspaces", tag = "keys",
    responses((status = 200, body = Keyspaces), (status = "4XX", body = Error)))]
pub async fn keyspaces(node: Node) -> Result<Json<Keyspaces>, Problem> {
    Ok(Json(node.admin().keyspaces().await?))
}
