//! Questions about the node.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use starling_api::admin::{Configuration, Doctor, Finalize, Nodes, Peers, Status, Ticket, Upgrade};
use starling_api::{ErrorBody, ErrorCode};

use super::App;
use super::problem::Problem;
use starling_service::check_running;

/// How the node is.
#[utoipa::path(get, path = "/v1/status", tag = "node", responses((status = 200, body = Status)))]
pub async fn status(State(app): State<Arc<App>>) -> Result<Json<Status>, Problem> {
    app.gossip.status().await.map(Json).ok_or_else(Problem::stopping)
}

/// The peers it knows.
#[utoipa::path(get, path = "/v1/peers", tag = "node", responses((status = 200, body = Peers)))]
pub async fn peers(State(app): State<Arc<App>>) -> Result<Json<Peers>, Problem> {
    app.gossip.peers().await.map(Json).ok_or_else(Problem::stopping)
}

/// The whole overlay, by asking every node. Takes seconds where nodes do not answer.
#[utoipa::path(get, path = "/v1/nodes", tag = "node", responses((status = 200, body = Nodes)))]
pub async fn nodes(State(app): State<Arc<App>>) -> Result<Json<Nodes>, Problem> {
    app.gossip.crawl().await.map(Json).ok_or_else(Problem::stopping)
}

/// How far the network is in an upgrade, by asking every node. Takes seconds where nodes do not answer.
#[utoipa::path(get, path = "/v1/upgrade", tag = "node", responses((status = 200, body = Upgrade)))]
pub async fn upgrade(State(app): State<Arc<App>>) -> Result<Json<Upgrade>, Problem> {
    app.gossip.upgrade().await.map(Json).ok_or_else(Problem::stopping)
}

/// Switches the newest version of data on, for ever. Refused while a node cannot read it or does not
/// answer.
#[utoipa::path(post, path = "/v1/upgrade/finalize", tag = "node", request_body = Finalize,
    responses((status = 200, body = Upgrade), (status = 409, body = ErrorBody)))]
pub async fn finalize_upgrade(
    State(app): State<Arc<App>>,
    Json(Finalize { force }): Json<Finalize>,
) -> Result<Json<Upgrade>, Problem> {
    Ok(Json(app.gossip.finalize_upgrade(force).await?))
}

/// Checks the whole store, on a snapshot. Takes minutes on a large one.
#[utoipa::path(get, path = "/v1/doctor", tag = "node",
    responses((status = 200, body = Doctor), (status = "5XX", body = ErrorBody)))]
pub async fn doctor(State(app): State<Arc<App>>) -> Result<Json<Doctor>, Problem> {
    let reader = app.reader()?.clone();
    let checked = tokio::task::spawn_blocking(move || check_running(&reader)).await;
    let report = checked
        .map_err(|_| Problem::new(ErrorCode::Internal, "the check has failed", "see the node's log"))?;
    Ok(Json(report?))
}

/// The effective configuration, secrets hidden.
#[utoipa::path(get, path = "/v1/config", tag = "node", responses((status = 200, body = Configuration)))]
pub async fn config(State(app): State<Arc<App>>) -> Json<Configuration> {
    Json(Configuration { settings: app.settings.clone() })
}

/// The join ticket: whoever has it can join the network.
#[utoipa::path(get, path = "/v1/ticket", tag = "node", responses((status = 200, body = Ticket)))]
pub async fn ticket(State(app): State<Arc<App>>) -> Result<Json<Ticket>, Problem> {
    app.gossip.ticket().await.map(|ticket| Json(Ticket { ticket })).ok_or_else(Problem::stopping)
}

/// Leaves the network politely, then stops.
#[utoipa::path(post, path = "/v1/leave", tag = "node", responses((status = 202, description = "the node is stopping")))]
pub async fn leave(State(app): State<Arc<App>>) -> Result<StatusCode, Problem> {
    app.gossip.leave().await.map(|()| StatusCode::ACCEPTED).ok_or_else(Problem::stopping)
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "node", responses((status = 200, body = str)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The store is open, and the node knows a live peer or was told to join nobody.
#[utoipa::path(get, path = "/readyz", tag = "node",
    responses((status = 200, body = str), (status = 503, body = ErrorBody)))]
pub async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    let status = app.gossip.status().await.ok_or_else(Problem::stopping)?;
    if status.joined {
        return Ok("ready\n");
    }
    let hint = "reads and writes work; check that a node of the join list runs and can be reached";
    Err(Problem::new(ErrorCode::NotReady, "no peer has been found yet", hint))
}
