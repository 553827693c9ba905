//! The HTTP server of a node: JSON, described by `/openapi.json`.
//!
//! It parses requests into calls of [`Handle`] and renders the answers; all decisions are made there.

mod admin;
mod guard;
mod keys;
mod metrics;
mod openapi;
mod problem;
mod request;
mod serve;
mod strong;
mod types;
mod watch;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use starling_api::admin::Setting;
use starling_api::{Error, ErrorCode};

use guard::Node;
use problem::Problem;
pub use serve::serve;
use starling_listener::{Refusals, Tls};
use starling_service::{Access, Anonymous, Handle, Rights};

/// The state that all handlers share.
pub struct App {
    /// The node with all rights. Handlers use the `Node` of their caller.
    unrestricted: Handle,
    /// The way in for callers.
    access: Arc<Access>,
    /// The effective configuration.
    settings: Vec<Setting>,
    /// TLS of the sockets other than the unix one.
    tls: Option<Tls>,
    /// The unix socket of the node's own user, who is an administrator.
    socket: PathBuf,
    /// Callers without a token, where they need none.
    anonymous: Anonymous,
    /// Requests without a token that counts.
    pub refusals: Arc<Refusals>,
    /// Requests for which the caller's rights did not suffice.
    forbidden: AtomicU64,
}

impl App {
    /// The state of a server that has answered nothing yet.
    pub fn new(
        unrestricted: Handle,
        access: Arc<Access>,
        settings: Vec<Setting>,
        tls: Option<Tls>,
        socket: PathBuf,
    ) -> Self {
        let hint = format!(
            "as the user that runs the node:  starling --api unix:{} ...;  or send a token that grants it",
            socket.display()
        );
        let anonymous = access.anonymous(Rights::data(), hint);
        let (refusals, forbidden) = (Arc::default(), AtomicU64::new(0));
        Self { unrestricted, access, settings, tls, socket, anonymous, refusals, forbidden }
    }
}

/// The routes. What a caller may do is decided by the [`Node`] that a handler is given.
fn router(app: Arc<App>) -> Router {
    let keyspace = Router::new()
        .route("/keys", get(keys::list).delete(keys::delete_prefix))
        .route("/keys/{*key}", get(keys::get).put(keys::put).post(keys::apply).delete(keys::delete))
        .route("/counters/{*key}", get(types::counter).post(types::increment))
        .route("/sets/{*key}", get(types::members).post(types::update_set))
        .route("/maps/{*key}", get(types::fields).post(types::update_map))
        .route("/flags/{*key}", get(types::flag).put(types::set_flag))
        .route("/watch", get(watch::watch))
        .route_layer(from_fn_with_state(Arc::clone(&app), write::note_new_keyspace));
    let strong = Router::new()
        .route("/", get(strong::info).delete(strong::remove))
        .route("/voters", put(strong::set_voters))
        .route("/leader", put(strong::set_leader))
        .route("/recover", post(strong::recover))
        .route("/kept", delete(strong::discard))
        .route("/replicas", get(strong::replicas))
        .route("/call", post(strong::call))
        .route("/queue", post(strong::queue))
        .route("/watch", get(strong::watch));
    Router::new()
        .nest("/v1/keyspaces/{keyspace}", keyspace)
        .nest("/v1/strong/{keyspace}", strong)
        .route("/v1/strong", post(strong::create))
        .route("/v1/keyspaces", get(keys::keyspaces))
        .route("/v1/batch", post(write::batch))
        .route("/v1/status", get(admin::status))
        .route("/v1/peers", get(admin::peers))
        .route("/v1/nodes", get(admin::nodes))
        .route("/v1/upgrade", get(admin::upgrade))
        .route("/v1/trust", get(admin::trust))
        .route("/v1/tokens", get(admin::tokens).post(admin::add_token))
        .route("/v1/tokens/{id}", delete(admin::revoke_token))
        .route("/v1/ticket", get(admin::ticket))
        .route("/v1/trust/statements", get(admin::statements).post(admin::add_statements))
        .route("/v1/config", get(admin::config))
        .route("/v1/doctor", get(admin::doctor))
        .route("/v1/leave", post(admin::leave))
        .route("/v1/upgrade/finalize", post(admin::finalize_upgrade))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .route("/openapi.json", get(openapi::document))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        // Each handler that takes a body bounds it by what it is for.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn no_such_path() -> Response {
    Problem::from(Error::new(ErrorCode::NotFound, "there is no such path", "GET /openapi.json lists them"))
        .into_response()
}

async fn no_such_method() -> Response {
    let message = "this path does not take this method";
    Problem::from(Error::new(ErrorCode::MethodNotAllowed, message, "GET /openapi.json lists them"))
        .into_response()
}
