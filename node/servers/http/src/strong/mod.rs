//! Strong keyspaces: made, changed, asked and watched.

mod convert;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use starling_api::strong::{
    CreateKeyspace, Leader, Staleness, StrongAnswer, StrongCall, StrongInfo, StrongMember, TIMEOUT_MS_MAX,
    Voters,
};
use starling_api::{ErrorBody, ErrorCode};
use starling_strong::api::{self, Member, Options, Status};
use starling_strong::machine::limits::WRITE_BYTES_MAX;

use super::App;
use super::problem::Problem;
use super::request::{JSON_EXPANSION, KeyPath, Query, read_json};
use starling_service::{Manage, hex};
pub use watch::{__path_watch, watch};

/// Largest JSON body of a request: the largest write, its keys and values in base64 or escaped.
const CALL_BYTES_MAX: usize = WRITE_BYTES_MAX * JSON_EXPANSION;
/// Largest JSON body of what is done to a keyspace itself.
const MANAGE_BYTES_MAX: usize = 64 << 10;

/// Makes a strong keyspace. Its first leader may not have been elected when this answers; requests wait for it.
#[utoipa::path(post, path = "/v1/strong", tag = "strong", request_body = CreateKeyspace,
    responses((status = 200, body = StrongInfo), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn create(State(app): State<Arc<App>>, body: Body) -> Result<Json<StrongInfo>, Problem> {
    let CreateKeyspace { name, voters, on, manual } = read_json(body, MANAGE_BYTES_MAX).await?;
    if name.starts_with('.') {
        return Err(own_name());
    }
    if app.reader()?.keyspaces()?.contains(&name) {
        let hint = "delete its keys first, or choose another name";
        return Err(Problem::new(
            ErrorCode::OtherKeyspace,
            format!("{name} is an eventual keyspace that holds keys"),
            hint,
        ));
    }
    app.manage(&name, Manage::Create { voters, on, manual }).await?;
    app.info(name).await.map(Json)
}

/// How a strong keyspace stands.
#[utoipa::path(get, path = "/v1/strong/{keyspace}", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 200, body = StrongInfo), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn info(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
) -> Result<Json<StrongInfo>, Problem> {
    app.info(keyspace).await.map(Json)
}

/// Removes a strong keyspace with all it holds.
#[utoipa::path(delete, path = "/v1/strong/{keyspace}", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 204, description = "it is gone"), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
) -> Result<StatusCode, Problem> {
    app.manage(&keyspace, Manage::Drop).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes these nodes the voters, one careful step after the other; the keyspace stays available.
#[utoipa::path(put, path = "/v1/strong/{keyspace}/voters", tag = "strong", params(("keyspace" = String, Path)),
    request_body = Voters,
    responses((status = 200, body = StrongInfo), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn set_voters(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
    body: Body,
) -> Result<Json<StrongInfo>, Problem> {
    let voters: Voters = read_json(body, MANAGE_BYTES_MAX).await?;
    app.manage(&keyspace, Manage::Voters(voters.nodes)).await?;
    app.info(keyspace).await.map(Json)
}

/// Lets a node lead.
#[utoipa::path(put, path = "/v1/strong/{keyspace}/leader", tag = "strong", params(("keyspace" = String, Path)),
    request_body = Leader,
    responses((status = 200, body = StrongInfo), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn set_leader(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
    body: Body,
) -> Result<Json<StrongInfo>, Problem> {
    let leader: Leader = read_json(body, MANAGE_BYTES_MAX).await?;
    app.manage(&keyspace, Manage::Transfer(leader.node)).await?;
    app.info(keyspace).await.map(Json)
}

/// The disaster: this node goes on alone with its replica. What the others had acknowledged and it has
/// not is lost.
#[utoipa::path(post, path = "/v1/strong/{keyspace}/recover", tag = "strong", params(("keyspace" = String, Path)),
    responses((status = 204, description = "it goes on alone"), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn recover(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
) -> Result<StatusCode, Problem> {
    app.manage(&keyspace, Manage::Recover).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a strong keyspace: reads, writes, transactions, leases.
#[utoipa::path(post, path = "/v1/strong/{keyspace}/call", tag = "strong",
    params(("keyspace" = String, Path),
        ("if_strong" = Option<bool>, Query,
            description = "answer `other_keyspace` at once where this node knows no strong keyspace of the name")),
    request_body = StrongCall,
    responses((status = 200, body = StrongAnswer), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn call(
    State(app): State<Arc<App>>,
    Path(keyspace): Path<String>,
    mut query: Query,
    body: Body,
) -> Result<Json<StrongAnswer>, Problem> {
    app.reader()?;
    let call: StrongCall = read_json(body, CALL_BYTES_MAX).await?;
    app.check_if_strong(&mut query, &keyspace)?;
    query.finish()?;
    let options = Options {
        timeout_ms: call.timeout_ms.min(TIMEOUT_MS_MAX),
        stale: call.stale,
        id: call.request_id.as_ref().map(convert::request_id).transpose()?,
        fence: call.fence.map(convert::fence),
    };
    let request = convert::request(call.request);
    if call.stale {
        return app.ask_stale(&keyspace, request, options).await.map(Json);
    }
    let answer = app.gossip.request(&keyspace, request, options).await.ok_or_else(Problem::stopping)??;
    Ok(Json(convert::answer(answer, None)))
}

/// Whether a path under an eventual keyspace's name is one.
pub async fn only_eventual(
    State(app): State<Arc<App>>,
    path: KeyPath,
    request: Request,
    next: Next,
) -> Response {
    match app.check_eventual(&path.keyspace) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl App {
    /// Refuses names of strong keyspaces, and Starling's own.
    pub fn check_eventual(&self, keyspace: &str) -> Result<(), Problem> {
        if keyspace.starts_with('.') {
            return Err(own_name());
        }
        if self.names.contains(keyspace) {
            let hint = format!("POST /v1/strong/{keyspace}/call (`starling` does so by itself)");
            return Err(Problem::new(
                ErrorCode::OtherKeyspace,
                format!("{keyspace} is a strong keyspace"),
                hint,
            ));
        }
        Ok(())
    }

    /// Refuses names of which no strong keyspace is known, where the request says so.
    fn check_if_strong(&self, query: &mut Query, keyspace: &str) -> Result<(), Problem> {
        if query.switch("if_strong")? && !self.names.contains(keyspace) {
            let hint = "leave out if_strong to wait until the node hears of a new one";
            let message = format!("this node knows no strong keyspace {keyspace:?}");
            return Err(Problem::new(ErrorCode::OtherKeyspace, message, hint));
        }
        Ok(())
    }

    async fn manage(&self, keyspace: &str, what: Manage) -> Result<(), Problem> {
        self.reader()?;
        Ok(self.gossip.manage(keyspace.to_owned(), what).await.ok_or_else(Problem::stopping)??)
    }

    /// Reads the replica here, and says how old that is. How it stands is asked first: what is read then is
    /// no older.
    async fn ask_stale(
        &self,
        keyspace: &str,
        request: api::Request,
        options: Options,
    ) -> Result<StrongAnswer, Problem> {
        let began = Instant::now();
        let standing = self.gossip.group(keyspace, false);
        let (status, answer) = tokio::join!(standing, self.gossip.request(keyspace, request, options));
        let answer = answer.ok_or_else(Problem::stopping)??;
        let status = status.ok_or_else(Problem::stopping)??;
        let since_ms = began.elapsed().as_millis() as u64;
        let stale = Staleness {
            heard_ms: status.heard_ms.map(|ms| ms.saturating_add(since_ms)),
            applied_index: status.applied_index,
            commit_index: status.commit_index,
        };
        Ok(convert::answer(answer, Some(stale)))
    }

    async fn info(&self, name: String) -> Result<StrongInfo, Problem> {
        self.reader()?;
        let status = self.gossip.group(&name, true).await.ok_or_else(Problem::stopping)??;
        Ok(describe(name, &status))
    }
}

fn own_name() -> Problem {
    let hint = "choose a name that begins with a letter or a digit";
    Problem::invalid("names that begin with a dot are Starling's own", hint)
}

fn describe(name: String, status: &Status) -> StrongInfo {
    let called = |id: u64| status.members.iter().find(|member| member.id == id).map(|it| it.name.clone());
    let member = |member: &Member| StrongMember {
        id: hex(&member.node),
        name: member.name.clone(),
        role: if member.learner { "learner" } else { "voter" }.into(),
        addresses: member.peer_urls.clone(),
        behind: member.behind,
        restoring: member.restoring,
        silent_ms: member.silent_ms,
    };
    StrongInfo {
        name,
        group: hex(&status.group),
        answered_by: called(status.member).unwrap_or_default(),
        leader: status.leader.and_then(called),
        term: status.term,
        members: status.members.iter().map(member).collect(),
        revision: status.revision,
        log_index: status.log_index,
        applied_index: status.applied_index,
        commit_index: status.commit_index,
        log_entries: status.log_entries,
        log_bytes: status.log_bytes,
        bytes: status.bytes,
        heard_ms: status.heard_ms,
        manual: status.manual,
    }
}
