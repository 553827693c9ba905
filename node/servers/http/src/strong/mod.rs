//! Endpoints of strong keyspaces.

mod queue;
mod watch;

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use starling_api::strong::{CreateKeyspace, Leader, Replicas, StrongAnswer, StrongCall, StrongInfo, Voters};
use starling_api::{Error, ErrorCode, Strong};
use starling_strong::machine::limits::WRITE_BYTES_MAX;

use super::Node;
use super::problem::Problem;
use super::request::{JSON_EXPANSION, Query, read_json};
pub use queue::{__path_queue, queue};
pub use watch::{__path_watch, watch};

/// Largest JSON body of a request: the largest write, its keys and values in base64 or escaped.
const CALL_BYTES_MAX: usize = WRITE_BYTES_MAX * JSON_EXPANSION;
/// Largest JSON body of a request that creates or changes a keyspace.
const MANAGE_BYTES_MAX: usize = 64 << 10;

/// Creates a strong keyspace. Its first leader may not be elected yet when this returns; requests wait for it.
#[utoipa::path(post, path = "/v1/strong", tag = "strong", request_body = CreateKeyspace,
    responses((status = 200, body = StrongInfo), (status = 403, body = Error), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn create(node: Node, body: Body) -> Result<Json<StrongInfo>, Problem> {
    let create: CreateKeyspace = read_json(body, MANAGE_BYTES_MAX).await?;
    Ok(Json(node.admin().create_keyspace(create).await?))
}

/// The status of a strong keyspace.
#[utoipa::path(get, path = "/v1/strong/{keyspace}", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 200, body = StrongInfo), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn info(node: Node, Path(keyspace): Path<String>) -> Result<Json<StrongInfo>, Problem> {
    Ok(Json(node.admin().keyspace_info(&keyspace).await?))
}

/// Removes a strong keyspace with all its data.
#[utoipa::path(delete, path = "/v1/strong/{keyspace}", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 204, description = "it is gone"), (status = 403, body = Error), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn remove(node: Node, Path(keyspace): Path<String>) -> Result<StatusCode, Problem> {
    node.admin().drop_keyspace(&keyspace).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes these nodes the voters, in steps that keep the keyspace available.
#[utoipa::path(put, path = "/v1/strong/{keyspace}/voters", tag = "strong", params(("keyspace" = String, Path)),
    request_body = Voters,
    responses((status = 200, body = StrongInfo), (status = 403, body = Error), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn set_voters(
    node: Node,
    Path(keyspace): Path<String>,
    body: Body,
) -> Result<Json<StrongInfo>, Problem> {
    node.caller().check_manager(&keyspace)?;
    let voters: Voters = read_json(body, MANAGE_BYTES_MAX).await?;
    Ok(Json(node.admin().set_voters(&keyspace, voters.nodes).await?))
}

/// Transfers leadership to a node.
#[utoipa::path(put, path = "/v1/strong/{keyspace}/leader", tag = "strong", params(("keyspace" = String, Path)),
    request_body = Leader,
    responses((status = 200, body = StrongInfo), (status = 403, body = Error), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn set_leader(
    node: Node,
    Path(keyspace): Path<String>,
    body: Body,
) -> Result<Json<StrongInfo>, Problem> {
    node.caller().check_manager(&keyspace)?;
    let leader: Leader = read_json(body, MANAGE_BYTES_MAX).await?;
    Ok(Json(node.admin().transfer_leader(&keyspace, leader.node).await?))
}

/// The replicas of a strong keyspace on all nodes that can be reached, those that do not work included. Takes seconds
/// where nodes do not answer.
#[utoipa::path(get, path = "/v1/strong/{keyspace}/replicas", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 200, body = Replicas), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn replicas(node: Node, Path(keyspace): Path<String>) -> Result<Json<Replicas>, Problem> {
    Ok(Json(node.admin().replicas(&keyspace).await?))
}

/// Deletes the replicas of a strong keyspace that this node keeps although they were removed from it.
#[utoipa::path(delete, path = "/v1/strong/{keyspace}/kept", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 204, description = "they are deleted"), (status = 403, body = Error), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn discard(node: Node, Path(keyspace): Path<String>) -> Result<StatusCode, Problem> {
    node.admin().discard_replicas(&keyspace).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Unsafe recovery after a loss of quorum: this node's replica becomes the only member. What the other members
/// had acknowledged and this one does not have is lost.
#[utoipa::path(post, path = "/v1/strong/{keyspace}/recover", tag = "strong",
    params(("keyspace" = String, Path),
        ("accept_loss" = Option<u64>, Query,
            description = "entries of the longest log within reach that this node's replica may lack; 0 if left out")),
    responses((status = 204, description = "this node is the only member"), (status = 403, body = Error), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn recover(
    node: Node,
    Path(keyspace): Path<String>,
    mut query: Query,
) -> Result<StatusCode, Problem> {
    let accept_loss = query.number("accept_loss")?.unwrap_or(0);
    query.finish()?;
    node.admin().recover_keyspace(&keyspace, accept_loss).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a request to a strong keyspace: reads, writes, transactions, leases. `compact` needs the right to administer it.
#[utoipa::path(post, path = "/v1/strong/{keyspace}/call", tag = "strong",
    params(("keyspace" = String, Path),
        ("if_strong" = Option<bool>, Query,
            description = "answer `other_keyspace` at once where this node knows no strong keyspace of the name")),
    request_body = StrongCall,
    responses((status = 200, body = StrongAnswer), (status = 403, body = Error), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn call(
    node: Node,
    Path(keyspace): Path<String>,
    mut query: Query,
    body: Body,
) -> Result<Json<StrongAnswer>, Problem> {
    let call: StrongCall = read_json(body, CALL_BYTES_MAX).await?;
    node.check_if_strong(&mut query, &keyspace)?;
    query.finish()?;
    Ok(Json(node.call(&keyspace, call).await?))
}

impl Node {
    /// With `if_strong`, rejects a name of which no strong keyspace is known.
    fn check_if_strong(&self, query: &mut Query, keyspace: &str) -> Result<(), Problem> {
        self.caller().check_known(keyspace)?;
        if query.switch("if_strong")? && !self.knows_strong(keyspace) {
            let hint = "leave out if_strong to wait until the node knows a new one";
            let message = format!("this node knows no strong keyspace {keyspace:?}");
            return Err(Error::new(ErrorCode::OtherKeyspace, message, hint).into());
        }
        Ok(())
    }
}
