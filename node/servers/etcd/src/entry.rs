//! The way in: who makes a call. etcd's clients send a token with each call (`token`, or `authorization`), which they were given
//! for a name and a password. Here the password is the token itself: one of `starling token add`, or `api.token`.

use std::sync::Arc;

use http::HeaderMap;
use starling_api::ErrorCode;
use starling_listener::{Origin, Refusals};
use starling_service::{Access, Anonymous, Rights};
use tonic::Status;

use crate::failure::{self, refusal};
use crate::keyspace::Keyspace;

/// The call by which a client is given its token.
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// What checks tokens, and counts those that do not count.
#[derive(Clone)]
pub struct Admission {
    /// What checks them.
    pub access: Arc<Access>,
    /// Calls without a token that counts.
    pub refusals: Arc<Refusals>,
}

/// The way in to a keyspace from one connection. Cheap to clone.
#[derive(Clone)]
pub struct Entry {
    /// For callers without a token.
    keyspace: Keyspace,
    admission: Option<(Admission, Anonymous)>,
    origin: Origin,
}

impl Entry {
    /// The way in for a listener.
    pub fn new(keyspace: Keyspace, admission: Option<Admission>) -> Self {
        let admission = admission.map(|admission| {
            // Without users, any client of etcd may do everything with the keyspace, compact it as well.
            let is_closed = admission.access.needs_token();
            let rights = if is_closed { Rights::default() } else { Rights::on_keyspace(keyspace.name()) };
            let anonymous = admission.access.anonymous(rights, String::new());
            (admission, anonymous)
        });
        Self { keyspace, admission, origin: Origin::OwnUser }
    }

    /// The way in for one of its connections.
    pub fn for_connection(&self, origin: Origin) -> Self {
        let keyspace = match &self.admission {
            Some((_, anonymous)) => self.keyspace.for_caller(anonymous.caller(origin)),
            None => self.keyspace.clone(),
        };
        Self { keyspace, admission: self.admission.clone(), origin }
    }

    fn access(&self) -> Option<&Arc<Access>> {
        self.admission.as_ref().map(|(admission, _)| &admission.access)
    }

    /// Whether calls need a token.
    pub fn needs_token(&self) -> bool {
        self.access().is_some_and(|access| access.needs_token())
    }

    /// The keyspace with the rights of the caller.
    pub async fn admit(&self, headers: &HeaderMap, path: &str) -> Result<Keyspace, Status> {
        let token = ["token", "authorization"].into_iter().find_map(|name| headers.get(name)?.to_str().ok());
        match (self.access(), token) {
            (Some(access), Some(token)) => {
                match access.bearer(token.strip_prefix("Bearer ").unwrap_or(token), self.origin) {
                    Ok(caller) => Ok(self.keyspace.for_caller(caller)),
                    Err(error) if error.code == ErrorCode::Unauthorized => {
                        Err(self.refused(refusal(&error)).await)
                    }
                    Err(error) => Err(refusal(&error)),
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
        match self.access() {
            Some(access) if access.is_named(&password, name) => Ok(password),
            Some(access) if access.needs_token() => {
                Err(self.refused(Status::invalid_argument(failure::AUTHENTICATION_FAILED)).await)
            }
            _ => Err(Status::failed_precondition("etcdserver: authentication is not enabled")),
        }
    }

    /// The status, when it may be answered.
    async fn refused(&self, status: Status) -> Status {
        if let Some((admission, _)) = &self.admission {
            admission.refusals.refuse(self.origin).await;
        }
        status
    }
}
