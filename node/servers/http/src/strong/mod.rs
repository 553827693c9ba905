//! Strong keyspaces: made, changed, asked and watched.

mod watch;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use starling_api::strong::{CreateKeyspace, Leader, StrongAnswer, StrongCall, StrongInfo, Voters};
use starling_api::{Error, ErrorCode, Strong};
use starling_strong::machine::limits::WRITE_BYTES_MAX;

use super::App;
use super::problem::Problem;
use super::request::{JSON_EXPANSION, Query, read_json};
pub use watch::{__path_watch, watch};

/// Largest JSON body of a request: the largest write, its keys and values in base64 or escaped.
const CALL_BYTES_MAX: usize = WRITE_BYTES_MAX * JSON_EXPANSION;
/// Largest JSON body of what is done to a keyspace itself.
const MANAGE_BYTES_MAX: usize = 64 << 10;

/// Makes a strong keyspace. Its first leader may not have been elected when this answers; requests wait for it.
#[utoipa::path(post, path = "/v1/strong", tag = "strong", request_body = CreateKeyspace,
    responses((status = 200, body = StrongInfo), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn create(State(app): State<Arc<App>>, body: Body) -> Result<Json<StrongInfo>, Problem> {
    let create: CreateKeyspace = read_json(body, MANAGE_BYTES_MAX).await?;
    Ok(Json(app.node.admin().create_keyspace(create).await?))
}

/// How a strong keyspace stands.
#[utoipa::path(get, path = "/v1/strong/{keyspace}", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 200, body = StrongInfo), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn info(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
) -> Result<Json<StrongInfo>, Problem> {
    Ok(Json(app.node.admin().keyspace_info(&keyspace).await?))
}

/// Removes a strong keyspace with all it holds.
#[utoipa::path(delete, path = "/v1/strong/{keyspace}", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 204, description = "it is gone"), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
) -> Result<StatusCode, Problem> {
    app.node.admin().drop_keyspace(&keyspace).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes these nodes the voters, one careful step after the other; the keyspace stays available.
#[utoipa::path(put, path = "/v1/strong/{keyspace}/voters", tag = "strong", params(("keyspace" = String, Path)),
    request_body = Voters,
    responses((status = 200, body = StrongInfo), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn set_voters(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
    body: Body,
) -> Result<Json<StrongInfo>, Problem> {
    let voters: Voters = read_json(body, MANAGE_BYTES_MAX).await?;
    Ok(Json(app.node.admin().set_voters(&keyspace, voters.nodes).await?))
}

/// Lets a node lead.
#[utoipa::path(put, path = "/v1/strong/{keyspace}/leader", tag = "strong", params(("keyspace" = String, Path)),
    request_body = Leader,
    responses((status = 200, body = StrongInfo), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn set_leader(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
    body: Body,
) -> Result<Json<StrongInfo>, Problem> {
    let leader: Leader = read_json(body, MANAGE_BYTES_MAX).await?;
    Ok(Json(app.node.admin().transfer_leader(&keyspace, leader.node).await?))
}

/// The disaster: this node goes on alone with its replica. What the others had acknowledged and it has
/// not is lost.
#[utoipa::path(post, path = "/v1/strong/{keyspace}/recover", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 204, description = "it goes on alone"), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn recover(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
) -> Result<StatusCode, Problem> {
    app.node.admin().recover_keyspace(&keyspace).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a strong keyspace: reads, writes, transactions, leases.
#[utoipa::path(post, path = "/v1/strong/{keyspace}/call", tag = "strong",
    params(("keyspace" = String, Path),
        ("if_strong" = Option<bool>, Query,
            description = "answer `other_keyspace` at once where this node knows no strong keyspace of the name")),
    request_body = StrongCall,
    responses((status = 200, body = StrongAnswer), (status = "4XX", body = Error), (status = "5XX", body = Error)))]
pub async fn call(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
    mut query: Query,
    body: Body,
) -> Result<Json<StrongAnswer>, Problem> {
    let call: StrongCall = read_json(body, CALL_BYTES_MAX).await?;
    app.check_if_strong(&mut query, &keyspace)?;
    query.finish()?;
    Ok(Json(app.node.call(&keyspace, call).await?))
}

impl App {
    /// Refuses names of which no strong keyspace is known, where the request says so.
    fn check_if_strong(&self, query: &mut Query, keyspace: &str) -> Result<(), Problem> {
        if query.switch("if_strong")? && !self.node.knows_strong(keyspace) {
            let hint = "leave out if_strong to wait until the node hears of a new one";
            let message = format!("this node knows no strong keyspace {keyspace:?}");
            return Err(Error::new(ErrorCode::OtherKeyspace, message, hint).into());
        }
        Ok(())
    }
}
