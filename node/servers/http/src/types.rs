//! Counters, sets, maps and flags.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use starling_api::{
    Count, Counter, Error, FlagState, Increment, MapPage, MapUpdate, Members, Outcome, Register, SetPage,
};
use starling_kv::{Op, Write};

use super::Node;
use super::problem::Problem;
use super::request::{KeyPath, Query, read_json};
use super::write::{blobs, json_bytes_max};

/// Largest JSON body of an increment or a flag.
const SMALL_BODY_BYTES_MAX: usize = 1024;

/// The sum of a counter.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/counters/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = Counter), (status = "4XX", body = Error)))]
pub async fn counter(node: Node, path: KeyPath, query: Query) -> Result<Json<Counter>, Problem> {
    query.finish()?;
    let sum = node.eventual(path.keyspace)?.counter(&path.key).await?.ok_or_else(Problem::no_key)?;
    Ok(Json(Counter { value: Count(sum) }))
}

/// Adds to a counter.
#[utoipa::path(post, path = "/v1/keyspaces/{keyspace}/counters/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path)), request_body = Increment,
    responses((status = 200, body = Outcome), (status = "4XX", body = Error)))]
pub async fn increment(
    node: Node,
    path: KeyPath,
    query: Query,
    body: Body,
) -> Result<Json<Outcome>, Problem> {
    query.finish()?;
    let increment: Increment = read_json(body, SMALL_BODY_BYTES_MAX).await?;
    node.write_one(path, Op::Incr { by: increment.by }, None, None).await.map(Json)
}

/// Members of a set in order, a page at a time.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/sets/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path),
        ("after" = Option<String>, Query, description = "the cursor of the page before"),
        ("limit" = Option<u64>, Query, description = "1 to 10000, default 1000")),
    responses((status = 200, body = SetPage), (status = "4XX", body = Error)))]
pub async fn members(node: Node, path: KeyPath, mut query: Query) -> Result<Json<SetPage>, Problem> {
    let (after, limit) = (query.bytes("after"), query.limit()?);
    query.finish()?;
    let found = node.eventual(path.keyspace)?.members(&path.key, after.as_deref(), limit).await?;
    Ok(Json(found.ok_or_else(Problem::no_key)?))
}

/// Adds and removes members of a set.
#[utoipa::path(post, path = "/v1/keyspaces/{keyspace}/sets/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path),
        ("ttl_ms" = Option<u64>, Query, description = "how long added members live")),
    request_body = Members,
    responses((status = 200, body = Outcome), (status = "4XX", body = Error)))]
pub async fn update_set(
    node: Node,
    path: KeyPath,
    query: Query,
    body: Body,
) -> Result<Json<Outcome>, Problem> {
    let ttl_ms = query.only_ttl_ms()?;
    let members: Members = read_json(body, json_bytes_max(node.limits())).await?;
    let ops = [
        (!members.remove.is_empty()).then(|| Op::SetRemove { members: blobs(members.remove) }),
        (!members.add.is_empty()).then(|| Op::SetAdd { members: blobs(members.add) }),
    ];
    node.update(&path, ops, ttl_ms).await.map(Json)
}

/// Fields of a map in order, a page at a time; with `field`, that one alone.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/maps/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path),
        ("field" = Option<String>, Query, description = "answer with this field alone"),
        ("after" = Option<String>, Query, description = "the cursor of the page before"),
        ("limit" = Option<u64>, Query, description = "1 to 10000, default 1000")),
    responses((status = 200, body = MapPage), (status = 200, body = Register, description = "with `field`"),
        (status = "4XX", body = Error)))]
pub async fn fields(node: Node, path: KeyPath, mut query: Query) -> Result<Response, Problem> {
    if let Some(name) = query.bytes("field") {
        query.finish()?;
        let found = node.eventual(path.keyspace)?.field(&path.key, &name).await?;
        return Ok(Json(found.ok_or_else(Problem::no_key)?).into_response());
    }
    let (after, limit) = (query.bytes("after"), query.limit()?);
    query.finish()?;
    let found = node.eventual(path.keyspace)?.fields(&path.key, after.as_deref(), limit).await?;
    Ok(Json(found.ok_or_else(Problem::no_key)?).into_response())
}

/// Sets and deletes fields of a map.
#[utoipa::path(post, path = "/v1/keyspaces/{keyspace}/maps/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path),
        ("ttl_ms" = Option<u64>, Query, description = "how long the fields set live")),
    request_body = MapUpdate,
    responses((status = 200, body = Outcome), (status = "4XX", body = Error)))]
pub async fn update_map(
    node: Node,
    path: KeyPath,
    query: Query,
    body: Body,
) -> Result<Json<Outcome>, Problem> {
    let ttl_ms = query.only_ttl_ms()?;
    let update: MapUpdate = read_json(body, json_bytes_max(node.limits())).await?;
    let ops = [
        (!update.delete.is_empty()).then(|| Op::MapDelete { names: blobs(update.delete) }),
        (!update.put.is_empty()).then_some(Op::MapPut { fields: update.put }),
    ];
    node.update(&path, ops, ttl_ms).await.map(Json)
}

/// Whether a flag is on.
#[utoipa::path(get, path = "/v1/keyspaces/{keyspace}/flags/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = FlagState), (status = "4XX", body = Error)))]
pub async fn flag(node: Node, path: KeyPath, query: Query) -> Result<Json<FlagState>, Problem> {
    query.finish()?;
    let enabled = node.eventual(path.keyspace)?.flag(&path.key).await?;
    Ok(Json(FlagState { enabled }))
}

/// Turns a flag on or off.
#[utoipa::path(put, path = "/v1/keyspaces/{keyspace}/flags/{key}", tag = "types",
    params(("keyspace" = String, Path), ("key" = String, Path),
        ("ttl_ms" = Option<u64>, Query, description = "how long it stays so")),
    request_body = FlagState,
    responses((status = 200, body = Outcome), (status = "4XX", body = Error)))]
pub async fn set_flag(node: Node, path: KeyPath, query: Query, body: Body) -> Result<Json<Outcome>, Problem> {
    let ttl_ms = query.only_ttl_ms()?;
    let state: FlagState = read_json(body, SMALL_BODY_BYTES_MAX).await?;
    node.write_one(path, Op::Flag { enabled: state.enabled }, ttl_ms, None).await.map(Json)
}

impl Node {
    /// Removals, then additions, as one batch.
    async fn update(
        &self,
        path: &KeyPath,
        ops: [Option<Op>; 2],
        ttl_ms: Option<u64>,
    ) -> Result<Outcome, Problem> {
        let write =
            |op| Write { keyspace: path.keyspace.clone(), key: path.key.clone(), op, ttl_ms, check: None };
        let writes: Vec<_> = ops.into_iter().flatten().map(write).collect();
        if writes.is_empty() {
            return Err(Problem::invalid(
                "the body asks for nothing",
                "name what to add, set, remove or delete",
            ));
        }
        let changed = |result: Outcome| match result {
            Outcome::Changed { fields } => fields,
            _ => 0,
        };
        Ok(Outcome::Changed { fields: self.write_all(writes).await?.into_iter().map(changed).sum() })
    }
}
