//! The way in: who makes a call. etcd's clients send a token with each call (`token`, or `authorization`), which they were given
//! for a name and a password. Here the password is the token itself: one of `starling token add`, or `api.token`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use starling_listener::Origin;
use starling_service::{Access, Rights};
use tonic::Status;

use crate::failure::{self, refusal};
use crate::keyspace::Keyspace;

/// The call by which a client is given its token.
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
/// How long a call with a token that does not count waits for its answer: bounds how many can be tried. An estimate.
const REFUSAL: Duration = Duration::from_secs(1);

/// The way in to a keyspace from one connection. Cheap to clone.
#[derive(Clone)]
pub struct Entry {
    /// For callers without a token.
    keyspace: Keyspace,
    access: Option<Arc<Access>>,
    origin: Origin,
}

impl Entry {
    /// The way in for a listener.
    pub fn new(keyspace: Keyspace, access: Option<Arc<Access>>) -> Self {
        Self { keyspace, access, origin: Origin::OwnUser }
    }

    /// The way in for one of its connections.
    pub fn for_connection(&self, origin: Origin) -> Self {
        let keyspace = match &self.access {
            // Without users, any client of etcd may do everything with the keyspace, compact it as well.
            Some(access) if access.needs_no_token() => {
                let rights = Rights::on_keyspace(self.keyspace.name());
                self.keyspace.for_caller(access.anonymous(rights, origin, ""))
            }
            Some(access) => self.keyspace.for_caller(access.anonymous(Rights::default(), origin, "")),
            None => self.keyspace.clone(),
        };
        Self { keyspace, access: self.access.clone(), origin }
    }

    /// Whether calls need a token.
    pub fn needs_token(&self) -> bool {
        self.access.as_ref().is_some_and(|access| !access.needs_no_token())
    }

    /// The keyspace with the rights of the caller.
    pub async fn admit(&self, headers: &HeaderMap, path: &str) -> Result<Keyspace, Status> {
        let token = ["token", "authorization"].into_iter().find_map(|name| headers.get(name)?.to_str().ok());
        match (&self.access, token) {
            (Some(access), Some(token)) => {
                match access.bearer(token.strip_prefix("Bearer ").unwrap_or(token), self.origin) {
                    Ok(caller) => Ok(self.keyspace.for_caller(caller)),
                    Err(error) => Err(self.refused(refusal(&error)).await),
                }
            }
            (Some(_), None) if self.needs_token() && path != AUTHENTICATE => {
                Err(Status::invalid_argument(failure::NO_USER))
            }
            _ => Ok(self.keyspace.clone()),
        }
    }

    /// The token of a name and a password.
    pub async fn authenticate(&self, name: &str, password: String) -> Result<String, Status> {
        match &self.access {
            Some(access) if access.is_named(&password, name) => Ok(password),
            Some(_) if self.needs_token() => {
                Err(self.refused(Status::invalid_argument(failure::AUTHENTICATION_FAILED)).await)
            }
            _ => Err(Status::failed_precondition("etcdserver: authentication is not enabled")),
        }
    }

    async fn refused(&self, status: Status) -> Status {
        if status.code() != tonic::Code::ResourceExhausted {
            tokio::time::sleep(REFUSAL).await;
        }
        status
    }
}
