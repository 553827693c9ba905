//! The description of the API, made from the handlers and the types.

use axum::Json;
use utoipa::OpenApi;

use super::{admin, keys, metrics, strong, types, watch, write};

#[derive(OpenApi)]
#[openapi(
    info(title = "Starling", description = "A peer-to-peer key-value store. Every node takes reads and writes. Any request may \
have the answer 401, 403 or 429: a token (Authorization: Bearer) grants what its maker chose; who bears api.token, and the node's \
own user over the unix socket api.sock in the data directory, may do everything.",
        license(name = "MIT OR Apache-2.0")),
    paths(
        keys::get, keys::put, keys::apply, keys::delete, keys::delete_prefix, keys::list, keys::keyspaces,
        types::counter, types::increment, types::members, types::update_set, types::fields, types::update_map,
        types::flag, types::set_flag, watch::watch, write::batch,
        strong::create, strong::info, strong::remove, strong::set_voters, strong::set_leader, strong::recover,
        strong::replicas, strong::discard,
        strong::call, strong::queue, strong::watch,
        admin::status, admin::peers, admin::nodes, admin::upgrade, admin::finalize_upgrade, admin::doctor, admin::config, admin::ticket, admin::trust, admin::statements, admin::add_statements, admin::tokens, admin::add_token, admin::revoke_token, admin::leave,
        admin::healthz, admin::readyz, metrics::metrics,
    ),
    tags((name = "keys", description = "keys of any type"), (name = "types", description = "counters, sets, maps, flags"),
        (name = "strong", description = "strong keyspaces: one true order, linearizable"),
        (name = "node", description = "the node and its network"))
)]
struct Document;

/// The `OpenAPI` document.
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
