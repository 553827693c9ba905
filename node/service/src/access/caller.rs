//! Callers: who sends requests, what they may do, and what is noted of it.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use starling_access::{Capability, Operation, Quota, Rights, authorize};
use starling_api::{Error, ErrorCode};
use starling_strong::api::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::audit::Record;
use super::{Access, Audit};
use crate::wall_ms;

/// How often a token is checked again while a watch of its bearer is open.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Watches that the bearers of one token may have at a node at a time. A guess: 64 tokens exhaust the node's 65,536.
pub const TOKEN_WATCHES_MAX: usize = 1_024;
/// Why a watch ended whose caller's token counts no more.
pub const TOKEN_OVER: &str = "the token has expired or was revoked: watch again with another one";

/// Who sends requests to a node, what it may do, and where it sends them from. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    who: Arc<Who>,
    from: Arc<str>,
}

/// What a caller has shown, and what follows from it: one for all requests of a token.
pub(super) struct Who {
    pub rights: Rights,
    /// For errors and the audit log.
    pub name: String,
    pub is_anonymous: bool,
    /// What to do where the rights do not suffice.
    pub hint: String,
    /// The token, and what checks it.
    pub session: Option<(Session, Weak<Access>)>,
    pub audit: Option<Arc<Audit>>,
}

impl Who {
    /// One that may do everything.
    pub fn administrator(name: &str, audit: Option<Arc<Audit>>) -> Self {
        let (rights, name, hint) = (Rights::everything(), name.to_owned(), String::new());
        Self { rights, name, is_anonymous: false, hint, session: None, audit }
    }
}

/// A token whose signature was verified, and what is left of its quotas here.
pub(super) struct Session {
    pub capability: Capability,
    quotas: Mutex<Quotas>,
    /// Places of watches that are free.
    watches: Arc<Semaphore>,
}

/// The place of a watch among those of its caller's token, which is free again when it is dropped.
#[derive(Debug, Default)]
pub struct WatchPlace {
    _permit: Option<OwnedSemaphorePermit>,
}

struct Quotas {
    requests: Option<Quota>,
    bytes: Option<Quota>,
}

impl Session {
    pub fn new(capability: Capability, now_ms: u64) -> Self {
        let requests = Quota::new(capability.requests_s.into(), now_ms);
        let bytes = Quota::new(capability.bytes_s, now_ms);
        let watches = Arc::new(Semaphore::new(TOKEN_WATCHES_MAX));
        Self { capability, quotas: Mutex::new(Quotas { requests, bytes }), watches }
    }

    /// Counts a request.
    pub fn admit(&self, now_ms: u64) -> Result<(), Error> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let Quotas { requests, bytes } = &mut *quotas;
        for (quota, of) in [(&mut *bytes, "bytes"), (&mut *requests, "requests")] {
            if let Some(Err(wait_ms)) = quota.as_mut().map(|quota| quota.check(now_ms)) {
                let message = format!("the token {} has used up its {of} of a second", self.capability.name);
                let hint = format!("send the request again after {wait_ms} ms, or use another node");
                return Err(Error::new(ErrorCode::TooManyRequests, message, hint));
            }
        }
        if let Some(quota) = requests {
            quota.charge(1);
        }
        Ok(())
    }

    fn charge(&self, bytes: u64) {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quota) = &mut quotas.bytes {
            quota.charge(bytes);
        }
    }
}

impl Caller {
    pub(super) fn new(who: Arc<Who>, from: impl Display) -> Self {
        Self { who, from: from.to_string().into() }
    }

    /// The program that runs the node: it may do everything.
    pub(crate) fn program(audit: Option<Arc<Audit>>) -> Self {
        Self::new(Arc::new(Who::administrator("the program that runs the node", audit)), "this process")
    }

    /// Whether the caller has shown nothing that tells who it is.
    pub fn is_anonymous(&self) -> bool {
        self.who.is_anonymous
    }

    /// Whether the caller may know that a keyspace exists.
    pub(crate) fn knows(&self, keyspace: &str) -> bool {
        authorize(&self.who.rights, &Operation::Discover { keyspace }).is_ok()
    }

    /// Fails unless the caller may do all of an operation, and records that.
    pub(crate) fn check(&self, operation: &Operation) -> Result<(), Error> {
        let Err(denied) = authorize(&self.who.rights, operation) else { return Ok(()) };
        if let Some(audit) = &self.who.audit {
            audit.data(&self.recorded("request", "", &format!("refused: {denied}")));
        }
        let message = format!("{} may not do this: {denied}", self.who.name);
        Err(Error::new(ErrorCode::Forbidden, message, self.who.hint.clone()))
    }

    /// Fails unless the caller administers the node.
    pub fn check_administrator(&self) -> Result<(), Error> {
        self.check(&Operation::Administer)
    }

    /// Fails unless the caller manages a keyspace.
    pub fn check_manager(&self, keyspace: &str) -> Result<(), Error> {
        self.check(&Operation::Manage { keyspace })
    }

    /// Fails unless the caller may know whether a keyspace exists.
    pub fn check_known(&self, keyspace: &str) -> Result<(), Error> {
        self.check(&Operation::Discover { keyspace })
    }

    /// Does what the caller may do, and records it with its outcome.
    pub(crate) async fn audited<T>(
        &self,
        operation: &Operation<'_>,
        action: &str,
        target: &str,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.check(operation)?;
        let outcome = run.await;
        if let Some(audit) = &self.who.audit {
            audit.administered(&self.recorded(action, target, shown(outcome.as_ref().map(drop))));
        }
        outcome
    }

    /// Records a deletion of a prefix or range with its outcome.
    pub(crate) fn record_swept(&self, action: &str, target: &str, outcome: Result<(), &Error>) {
        if let Some(audit) = &self.who.audit {
            audit.data(&self.recorded(action, target, shown(outcome)));
        }
    }

    fn recorded<'a>(&'a self, action: &'a str, target: &'a str, outcome: &'a str) -> Record<'a> {
        Record { who: &self.who.name, from: &self.from, action, target, outcome }
    }

    /// Chooses the id of a lease, if the caller may use none but its own.
    pub(crate) fn choose_lease(&self, request: &mut Request) {
        self.who.rights.choose_lease(request, rand::random);
    }

    /// Takes a place for a watch.
    ///
    /// # Errors
    /// `too_many_requests`: the bearers of the caller's token have [`TOKEN_WATCHES_MAX`] watches at this node.
    pub fn watch_place(&self) -> Result<WatchPlace, Error> {
        let Some((session, _)) = &self.who.session else { return Ok(WatchPlace::default()) };
        let permit = Arc::clone(&session.watches).try_acquire_owned().map_err(|_| {
            let message = format!("{} has {TOKEN_WATCHES_MAX} watches at this node", self.who.name);
            Error::new(
                ErrorCode::TooManyRequests,
                message,
                "end some, or watch one prefix instead of its keys",
            )
        })?;
        Ok(WatchPlace { _permit: Some(permit) })
    }

    /// Takes bytes of a request or an answer from the caller's quota.
    pub fn charge(&self, bytes: usize) {
        if let Some((session, _)) = &self.who.session {
            session.charge(bytes as u64);
        }
    }

    /// Completes when the caller's token has expired or was revoked, a moment later; otherwise never.
    pub fn over(&self) -> BoxFuture<'static, ()> {
        if self.who.session.is_none() {
            return std::future::pending().boxed();
        }
        let who = Arc::clone(&self.who);
        let over = async move {
            while who.counts() {
                tokio::time::sleep(CHECK_EVERY).await;
            }
        };
        over.boxed()
    }
}

impl Who {
    /// Whether the token counts now, if there is one.
    fn counts(&self) -> bool {
        self.session.as_ref().is_none_or(|(session, access)| {
            access.upgrade().is_some_and(|access| access.check(&session.capability, wall_ms()).is_ok())
        })
    }
}

/// An outcome in the audit log.
fn shown(outcome: Result<(), &Error>) -> &str {
    outcome.map_or_else(|error| error.message.as_str(), |()| "done")
}
