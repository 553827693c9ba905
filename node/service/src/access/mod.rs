//! Access of clients: their tokens, what they may do, and the record of it.

mod audit;
mod caller;
mod tokens;

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use starling_access::{Capability, CapabilityError, Rights};
use starling_api::{Error, ErrorCode};
use starling_p2p::verify_signed;

pub use audit::Audit;
pub use caller::{Caller, TOKEN_OVER, TOKEN_WATCHES_MAX, WatchPlace};
use caller::{Session, Who};
pub use tokens::info as token_info;

use crate::handle::Handle;
use crate::wall_ms;

/// Tokens whose signatures are remembered as verified, at most. A guess: each takes less than a kilobyte.
const BEARERS_MAX: usize = 4_096;

/// What to do where a token does not suffice.
const TOKEN_HINT: &str =
    "use a token that grants it: starling token add NAME --grant VERBS:KEYSPACE[:PREFIX]";

/// The way in for the callers of a node's servers.
pub struct Access {
    node: Handle,
    /// The token of an administrator.
    token: Option<String>,
    anonymous: bool,
    /// Bearers of tokens, by the hash of their text.
    bearers: Mutex<HashMap<[u8; 32], Arc<Who>>>,
    own_user: Arc<Who>,
    administrator: Arc<Who>,
    throttled: AtomicU64,
}

impl Access {
    /// The way in to a node: with `token` a caller is an administrator, and `anonymous` are callers without one.
    pub fn new(node: &Handle, token: Option<String>, anonymous: bool) -> Arc<Self> {
        let administrator = |name| Arc::new(Who::administrator(name, Some(Arc::clone(node.audit()))));
        Arc::new(Self {
            node: node.clone(),
            token,
            anonymous,
            bearers: Mutex::default(),
            own_user: administrator("the user that runs the node"),
            administrator: administrator("the bearer of api.token"),
            throttled: AtomicU64::new(0),
        })
    }

    /// Whether callers of the etcd server need a token.
    pub fn needs_token(&self) -> bool {
        !self.anonymous
    }

    /// Whether callers of the API need a token: also where there is an administrator's.
    pub fn needs_token_for_api(&self) -> bool {
        self.needs_token() || self.token.is_some()
    }

    /// Requests that were refused because a token had used up its quota, since the start.
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// The user that runs the node, on this machine.
    pub fn own_user(&self) -> Caller {
        Caller::new(Arc::clone(&self.own_user), "the unix socket")
    }

    /// Callers without a token. `hint` says what to do where these rights do not suffice.
    pub fn anonymous(&self, rights: Rights, hint: String) -> Anonymous {
        let (name, audit) = ("a caller without a token".into(), Some(Arc::clone(self.node.audit())));
        Anonymous(Arc::new(Who { rights, name, is_anonymous: true, hint, session: None, audit }))
    }

    /// The bearer of a token.
    ///
    /// # Errors
    /// `unauthorized`: the token does not count; `too_many_requests`: it has used up its quota.
    pub fn bearer(self: &Arc<Self>, token: &str, from: impl Display) -> Result<Caller, Error> {
        let who = self.counting(token)?;
        if let Some((session, _)) = &who.session {
            session.admit(wall_ms()).inspect_err(|_| _ = self.throttled.fetch_add(1, Ordering::Relaxed))?;
        }
        Ok(Caller::new(who, from))
    }

    /// Whether a token counts, and whether it is an administrator's or one with this name.
    pub fn is_named(self: &Arc<Self>, token: &str, name: &str) -> bool {
        let is_named =
            |who: Arc<Who>| who.session.as_ref().is_none_or(|(session, _)| session.capability.name == name);
        self.counting(token).is_ok_and(is_named)
    }

    /// The bearer of a token that counts now.
    fn counting(self: &Arc<Self>, token: &str) -> Result<Arc<Who>, Error> {
        if self.token.as_ref().is_some_and(|known| equal(known.as_bytes(), token.as_bytes())) {
            return Ok(Arc::clone(&self.administrator));
        }
        let now_ms = wall_ms();
        let checked = self.verified(token, now_ms).and_then(|who| {
            who.session.iter().try_for_each(|(session, _)| self.check(&session.capability, now_ms))?;
            Ok(who)
        });
        checked.map_err(|error| {
            let hint = "starling token add makes a token, on an issuer of the network; starling token show reads one";
            Error::new(ErrorCode::Unauthorized, format!("the token does not count: {error}"), hint)
        })
    }

    /// The bearer of a token with a valid signature.
    fn verified(self: &Arc<Self>, token: &str, now_ms: u64) -> Result<Arc<Who>, CapabilityError> {
        let hash = *blake3::hash(token.as_bytes()).as_bytes();
        let lock = || self.bearers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&hash) {
            return Ok(Arc::clone(known));
        }
        let capability = Capability::from_text(token)?;
        if !verify_signed(&capability) {
            return Err(CapabilityError::Forged);
        }
        let who = Arc::new(Who {
            rights: capability.rights(),
            name: format!("token {}", capability.name),
            is_anonymous: false,
            hint: TOKEN_HINT.into(),
            session: Some((Session::new(capability, now_ms), Arc::downgrade(self))),
            audit: Some(Arc::clone(self.node.audit())),
        });
        let mut bearers = lock();
        // Signatures are verified again, and quotas are full again.
        if bearers.len() >= BEARERS_MAX {
            bearers.clear();
        }
        bearers.insert(hash, Arc::clone(&who));
        Ok(who)
    }

    /// Whether a token with a valid signature counts now.
    fn check(&self, capability: &Capability, now_ms: u64) -> Result<(), CapabilityError> {
        capability.check(&self.node.trusted(), now_ms)?;
        match tokens::is_revoked(&self.node, &tokens::digits(capability)) {
            Ok(false) => Ok(()),
            Ok(true) => Err(CapabilityError::Revoked),
            Err(_) => Err(CapabilityError::Unchecked),
        }
    }
}

/// Callers without a token of one server, who all may do the same.
#[derive(Clone)]
pub struct Anonymous(Arc<Who>);

impl Anonymous {
    /// One of them.
    pub fn caller(&self, from: impl Display) -> Caller {
        Caller::new(Arc::clone(&self.0), from)
    }
}

/// Compares two byte strings in constant time.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::equal;

    #[test]
    fn a_token_must_match_entirely() {
        assert!(equal(b"abc", b"abc") && equal(b"", b""));
        assert!(!equal(b"abc", b"abd") && !equal(b"abc", b"ab") && !equal(b"", b"a"));
    }
}
