//! Endpoints about the node: its status, the network, upgrades, the configuration.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use starling_api::Error;
use starling_api::admin::{Configuration, Doctor, Finalize, Finding, Nodes, Peers, Status, Ticket, Upgrade};
use starling_api::token::{MadeToken, NewToken, TokenInfo, Tokens};
use starling_api::trust::{Statements, TicketSpec, Trust};

use starling_listener::Tls;
use starling_service::wall_ms;

use super::problem::Problem;
use super::request::{Query, read_json};
use super::{App, Node};

/// Largest JSON body with statements: 80 of the largest, or 900 revocations.
const STATEMENTS_BYTES_MAX: usize = 256 << 10;
/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// The doctor finds a certificate of TLS that expires within this, seconds: ten days. A guess: programs renew certificates of
/// 90 days 30 days before, and one of a few days is expected to be short.
const TLS_WARNED_S: i64 = 10 * DAY_S;
/// Largest JSON body of a request for a token: the longest name and grants, escaped.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Largest JSON body of a finalization.
const FINALIZE_BYTES_MAX: usize = 1024;

/// The status of the node.
#[utoipa::path(get, path = "/v1/status", tag = "node", responses((status = 200, body = Status)))]
pub async fn status(node: Node) -> Result<Json<Status>, Problem> {
    Ok(Json(node.admin().status().await?))
}

/// The peers it knows.
#[utoipa::path(get, path = "/v1/peers", tag = "node", responses((status = 200, body = Peers)))]
pub async fn peers(node: Node) -> Result<Json<Peers>, Problem> {
    Ok(Json(node.admin().peers().await?))
}

/// The whole overlay, by asking every node. Takes seconds where nodes do not answer.
#[utoipa::path(get, path = "/v1/nodes", tag = "node", responses((status = 200, body = Nodes)))]
pub async fn nodes(node: Node) -> Result<Json<Nodes>, Problem> {
    Ok(Json(node.admin().nodes().await?))
}

/// How far the network is in an upgrade, by asking every node. Takes seconds where nodes do not answer.
#[utoipa::path(get, path = "/v1/upgrade", tag = "node", responses((status = 200, body = Upgrade)))]
pub async fn upgrade(node: Node) -> Result<Json<Upgrade>, Problem> {
    Ok(Json(node.admin().upgrade().await?))
}

/// Switches the newest version of data on, permanently. Rejected while a node cannot read it or does not
/// answer.
#[utoipa::path(post, path = "/v1/upgrade/finalize", tag = "node", request_body = Finalize,
    responses((status = 403, body = Error), (status = 200, body = Upgrade), (status = 409, body = Error)))]
pub async fn finalize_upgrade(node: Node, body: Body) -> Result<Json<Upgrade>, Problem> {
    node.caller().check_administrator()?;
    let Finalize { force } = read_json(body, FINALIZE_BYTES_MAX).await?;
    Ok(Json(node.admin().finalize_upgrade(force).await?))
}

/// Checks the whole store, on a snapshot. Takes minutes on a large one.
#[utoipa::path(get, path = "/v1/doctor", tag = "node",
    responses((status = 403, body = Error), (status = 200, body = Doctor), (status = "5XX", body = Error)))]
pub async fn doctor(State(app): State<Arc<App>>, node: Node) -> Result<Json<Doctor>, Problem> {
    let mut doctor = node.admin().doctor().await?;
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
pub async fn config(State(app): State<Arc<App>>, node: Node) -> Result<Json<Configuration>, Problem> {
    node.caller().check_administrator()?;
    Ok(Json(Configuration { settings: app.settings.clone() }))
}

/// A join ticket: any node that has it can join the network. In a network with an authority an issuer makes it, with limits.
#[utoipa::path(get, path = "/v1/ticket", tag = "node",
    params(("uses" = Option<u64>, Query, description = "nodes that each issuer lets in by it, 1 to 100000; any number by default"),
        ("expires_ms" = Option<u64>, Query, description = "how long it is valid, milliseconds, a second to ten years; a day by default"),
        ("seed" = Option<bool>, Query, description = "for a bootstrap seed")),
    responses((status = 403, body = Error), (status = 200, body = Ticket), (status = "4XX", body = Error)))]
pub async fn ticket(node: Node, mut query: Query) -> Result<Json<Ticket>, Problem> {
    let (uses, expires_ms) = (query.number("uses")?, query.number("expires_ms")?);
    let spec = TicketSpec { uses, expires_ms, seed: query.switch("seed")? };
    query.finish()?;
    Ok(Json(Ticket { ticket: node.admin().ticket(spec).await? }))
}

/// The authority of the network and its statements, as far as the node has them, and the node's certificate.
#[utoipa::path(get, path = "/v1/trust", tag = "node", responses((status = 200, body = Trust)))]
pub async fn trust(node: Node) -> Result<Json<Trust>, Problem> {
    Ok(Json(node.admin().trust().await?))
}

/// The statements of the network's authority that the node has.
#[utoipa::path(get, path = "/v1/trust/statements", tag = "node", responses((status = 200, body = Statements)))]
pub async fn statements(node: Node) -> Result<Json<Statements>, Problem> {
    Ok(Json(node.admin().statements().await?))
}

/// Learns statements that the network's authority has signed, and passes them on to the other nodes. The first ones make the
/// network follow the authority.
#[utoipa::path(post, path = "/v1/trust/statements", tag = "node", request_body = Statements,
    responses((status = 403, body = Error), (status = 200, body = Trust), (status = "4XX", body = Error)))]
pub async fn add_statements(node: Node, body: Body) -> Result<Json<Trust>, Problem> {
    node.caller().check_administrator()?;
    let statements: Statements = read_json(body, STATEMENTS_BYTES_MAX).await?;
    Ok(Json(node.admin().add_statements(&statements).await?))
}

/// The tokens that the issuers of the network have recorded and that have not expired.
#[utoipa::path(get, path = "/v1/tokens", tag = "node", responses((status = 403, body = Error), (status = 200, body = Tokens)))]
pub async fn tokens(node: Node) -> Result<Json<Tokens>, Problem> {
    Ok(Json(node.admin().tokens().await?))
}

/// Makes a token for a client. The node must be an issuer of the network's authority.
#[utoipa::path(post, path = "/v1/tokens", tag = "node", request_body = NewToken,
    responses((status = 403, body = Error), (status = 200, body = MadeToken), (status = "4XX", body = Error)))]
pub async fn add_token(node: Node, body: Body) -> Result<Json<MadeToken>, Problem> {
    node.caller().check_administrator()?;
    let new: NewToken = read_json(body, TOKEN_BYTES_MAX).await?;
    Ok(Json(node.admin().add_token(new).await?))
}

/// Revokes a token: every node refuses it once it has learned that.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "node",
    params(("id" = String, Path, description = "its id, or the first digits of it")),
    responses((status = 403, body = Error), (status = 200, body = TokenInfo), (status = "4XX", body = Error)))]
pub async fn revoke_token(node: Node, Path(id): Path<String>) -> Result<Json<TokenInfo>, Problem> {
    Ok(Json(node.admin().revoke_token(&id).await?))
}

/// Lets other nodes vote in strong keyspaces instead of this one, notifies the neighbours, then stops the node.
#[utoipa::path(post, path = "/v1/leave", tag = "node",
    params(("force" = Option<bool>, Query, description = "leave at once, and keep the votes")),
    responses((status = 403, body = Error), (status = 202, description = "the node is stopping"), (status = "4XX", body = Error)))]
pub async fn leave(node: Node, mut query: Query) -> Result<StatusCode, Problem> {
    let force = query.switch("force")?;
    query.finish()?;
    node.admin().leave(force).await?;
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
pub async fn readyz(node: Node) -> Result<&'static str, Problem> {
    node.admin().ready().await?;
    Ok("ready\n")
}
