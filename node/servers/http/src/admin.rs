//! Endpoints about the node: its status, the network, upgrades, the configuration.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use starling_api::Error;
use starling_api::admin::{Configuration, Doctor, Finalize, Finding, Nodes, Peers, Status, Ticket, Upgrade};
use starling_api::trust::{Statements, TicketSpec, Trust};

use starling_listener::Tls;
use starling_service::wall_ms;

use super::App;
use super::problem::Problem;
use super::request::{Query, read_json};

/// Largest JSON body with statements: 80 of the largest, or 900 revocations.
const STATEMENTS_BYTES_MAX: usize = 256 << 10;
/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// The doctor finds a certificate of TLS that expires within this, seconds: ten days. A guess: programs renew certificates of
/// 90 days 30 days before, and one of a few days is expected to be short.
const TLS_WARNED_S: i64 = 10 * DAY_S;
/// Largest JSON body of a finalization.
const FINALIZE_BYTES_MAX: usize = 1024;

/// The status of the node.
#[utoipa::path(get, path = "/v1/status", tag = "node", responses((status = 200, body = Status)))]
pub async fn status(State(app): State<Arc<App>>) -> Result<Json<Status>, Problem> {
    Ok(Json(app.node.admin().status().await?))
}

/// The peers it knows.
#[utoipa::path(get, path = "/v1/peers", tag = "node", responses((status = 200, body = Peers)))]
pub async fn peers(State(app): State<Arc<App>>) -> Result<Json<Peers>, Problem> {
    Ok(Json(app.node.admin().peers().await?))
}

/// The whole overlay, by asking every node. Takes seconds where nodes do not answer.
#[utoipa::path(get, path = "/v1/nodes", tag = "node", responses((status = 200, body = Nodes)))]
pub async fn nodes(State(app): State<Arc<App>>) -> Result<Json<Nodes>, Problem> {
    Ok(Json(app.node.admin().nodes().await?))
}

/// How far the network is in an upgrade, by asking every node. Takes seconds where nodes do not answer.
#[utoipa::path(get, path = "/v1/upgrade", tag = "node", responses((status = 200, body = Upgrade)))]
pub async fn upgrade(State(app): State<Arc<App>>) -> Result<Json<Upgrade>, Problem> {
    Ok(Json(app.node.admin().upgrade().await?))
}

/// Switches the newest version of data on, permanently. Rejected while a node cannot read it or does not
/// answer.
#[utoipa::path(post, path = "/v1/upgrade/finalize", tag = "node", request_body = Finalize,
    responses((status = 403, body = Error), (status = 200, body = Upgrade), (status = 409, body = Error)))]
pub async fn finalize_upgrade(State(app): State<Arc<App>>, body: Body) -> Result<Json<Upgrade>, Problem> {
    let Finalize { force } = read_json(body, FINALIZE_BYTES_MAX).await?;
    Ok(Json(app.node.admin().finalize_upgrade(force).await?))
}

/// Checks the whole store, on a snapshot. Takes minutes on a large one.
#[utoipa::path(get, path = "/v1/doctor", tag = "node",
    responses((status = 403, body = Error), (status = 200, body = Doctor), (status = "5XX", body = Error)))]
pub async fn doctor(State(app): State<Arc<App>>) -> Result<Json<Doctor>, Problem> {
    let mut doctor = app.node.admin().doctor().await?;
    let now_s = i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX);
    let left_s = app.tls.as_ref().and_then(Tls::not_after_s).map(|at| at.saturating_sub(now_s));
    if let Some(left_s) = left_s.filter(|left| *left < TLS_WARNED_S) {
        doctor.healthy = false;
        doctor.findings.push(expiring(left_s));
    }
    Ok(Json(doctor))
}

/// That clients refuse the certificate of TLS, or will do so in this many seconds.
fn expiring(left_s: i64) -> Finding {
    let what = if left_s < 0 {
        "the certificate in tls.certificate has expired: clients refuse to connect".to_owned()
    } else {
        format!("the certificate in tls.certificate expires in {} days", left_s / DAY_S)
    };
    Finding { what, hint: "write a renewed one into the same files: no restart is needed".into() }
}

/// The effective configuration, secrets hidden.
#[utoipa::path(get, path = "/v1/config", tag = "node", responses((status = 403, body = Error), (status = 200, body = Configuration)))]
pub async fn config(State(app): State<Arc<App>>) -> Json<Configuration> {
    Json(Configuration { settings: app.settings.clone() })
}

/// A join ticket: any node that has it can join the network. In a network with an authority an issuer makes it, with limits.
#[utoipa::path(get, path = "/v1/ticket", tag = "node",
    params(("uses" = Option<u64>, Query, description = "nodes that each issuer lets in by it, 1 to 100000; any number by default"),
        ("expires_ms" = Option<u64>, Query, description = "how long it is valid, milliseconds, a second to ten years; a day by default"),
        ("seed" = Option<bool>, Query, description = "for a bootstrap seed")),
    responses((status = 403, body = Error), (status = 200, body = Ticket), (status = "4XX", body = Error)))]
pub async fn ticket(State(app): State<Arc<App>>, mut query: Query) -> Result<Json<Ticket>, Problem> {
    let (uses, expires_ms) = (query.number("uses")?, query.number("expires_ms")?);
    let spec = TicketSpec { uses, expires_ms, seed: query.switch("seed")? };
    query.finish()?;
    Ok(Json(Ticket { ticket: app.node.admin().ticket(spec).await? }))
}

/// The authority of the network and its statements, as far as the node has them, and the node's certificate.
#[utoipa::path(get, path = "/v1/trust", tag = "node", responses((status = 200, body = Trust)))]
pub async fn trust(State(app): State<Arc<App>>) -> Result<Json<Trust>, Problem> {
    Ok(Json(app.node.admin().trust().await?))
}

/// The statements of the network's authority that the node has.
#[utoipa::path(get, path = "/v1/trust/statements", tag = "node", responses((status = 200, body = Statements)))]
pub async fn statements(State(app): State<Arc<App>>) -> Result<Json<Statements>, Problem> {
    Ok(Json(app.node.admin().statements().await?))
}

/// Learns statements that the network's authority has signed, and passes them on to the other nodes. The first ones make the
/// network follow the authority.
#[utoipa::path(post, path = "/v1/trust/statements", tag = "node", request_body = Statements,
    responses((status = 403, body = Error), (status = 200, body = Trust), (status = "4XX", body = Error)))]
pub async fn add_statements(State(app): State<Arc<App>>, body: Body) -> Result<Json<Trust>, Problem> {
    let statements: Statements = read_json(body, STATEMENTS_BYTES_MAX).await?;
    Ok(Json(app.node.admin().add_statements(&statements).await?))
}

/// Lets other nodes vote in strong keyspaces instead of this one, notifies the neighbours, then stops the node.
#[utoipa::path(post, path = "/v1/leave", tag = "node",
    params(("force" = Option<bool>, Query, description = "leave at once, and keep the votes")),
    responses((status = 403, body = Error), (status = 202, description = "the node is stopping"), (status = "4XX", body = Error)))]
pub async fn leave(State(app): State<Arc<App>>, mut query: Query) -> Result<StatusCode, Problem> {
    let force = query.switch("force")?;
    query.finish()?;
    app.node.admin().leave(force).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "node", responses((status = 200, body = str)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The store works, replicas of strong keyspaces included, and the node knows a live peer or was configured without peers to
/// join. A strong keyspace without a majority is reported by `/v1/status`, not here: the node serves everything else.
#[utoipa::path(get, path = "/readyz", tag = "node",
    responses((status = 200, body = str), (status = 503, body = Error)))]
pub async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    app.node.admin().ready().await?;
    Ok("ready\n")
}
