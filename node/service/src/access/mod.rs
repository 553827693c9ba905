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
pub use caller::{Caller, TOKEN_OVER};
use caller::{Inner, Session};
pub use tokens::info as token_info;

use crate::handle::Handle;
use crate::wall_ms;

/// Tokens whose signatures are remembered as verified, at most. A guess: each takes less than a kilobyte.
const SESSIONS_MAX: usize = 4_096;

/// What to do where a token does not suffice.
const TOKEN_HINT: &str =
    "use a token that grants it: starling token add NAME --grant VERBS:KEYSPACE[:PREFIX]";

/// The way in for the callers of a node's servers.
pub struct Access {
    node: Handle,
    /// The token of an administrator.
    token: Option<String>,
    anonymous: bool,
    /// By the hash of their text.
    sessions: Mutex<HashMap<[u8; 32], Arc<Session>>>,
    throttled: AtomicU64,
}

impl Access {
    /// The way in to a node: with `token` a caller is an administrator, and `anonymous` are callers without one.
    pub fn new(node: &Handle, token: Option<String>, anonymous: bool) -> Arc<Self> {
        let (sessions, throttled) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { node: node.clone(), token, anonymous, sessions, throttled })
    }

    /// Whether callers of the etcd server need no token.
    pub fn needs_no_token(&self) -> bool {
        self.anonymous
    }

    /// Whether callers of the API need no token for data: where there is an administrator's, they do.
    pub fn is_anonymous(&self) -> bool {
        self.anonymous && self.token.is_none()
    }

    /// Requests that were refused because a token had used up its quota, since the start.
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    fn administrator(&self, name: &str, from: impl Display) -> Caller {
        Inner::administrator(name, from.to_string(), Some(Arc::clone(self.node.audit()))).into()
    }

    /// The user that runs the node, on this machine.
    pub fn own_user(&self) -> Caller {
        self.administrator("the user that runs the node", "the unix socket")
    }

    /// A caller without a token. `hint` says what to do where these rights do not suffice.
    pub fn anonymous(&self, rights: Rights, from: impl Display, hint: &str) -> Caller {
        let (name, from, hint) = ("a caller without a token".into(), from.to_string(), hint.to_owned());
        Inner {
            rights,
            name,
            from,
            is_anonymous: true,
            hint,
            session: None,
            audit: Some(Arc::clone(self.node.audit())),
        }
        .into()
    }

    /// The bearer of a token.
    ///
    /// # Errors
    /// `unauthorized`: the token does not count; `too_many_requests`: it has used up its quota.
    pub fn bearer(self: &Arc<Self>, token: &str, from: impl Display) -> Result<Caller, Error> {
        if self.token.as_ref().is_some_and(|known| equal(known.as_bytes(), token.as_bytes())) {
            return Ok(self.administrator("the bearer of api.token", from));
        }
        let session = self.counting(token)?;
        session.admit(wall_ms()).inspect_err(|_| _ = self.throttled.fetch_add(1, Ordering::Relaxed))?;
        let Capability { name, .. } = &session.capability;
        Ok(Inner {
            rights: session.capability.rights(),
            name: format!("token {name}"),
            from: from.to_string(),
            is_anonymous: false,
            hint: TOKEN_HINT.into(),
            session: Some((session, Arc::clone(self))),
            audit: Some(Arc::clone(self.node.audit())),
        }
        .into())
    }

    /// Whether a token counts, and whether it is an administrator's or one with this name.
    pub fn is_named(self: &Arc<Self>, token: &str, name: &str) -> bool {
        self.token.as_ref().is_some_and(|known| equal(known.as_bytes(), token.as_bytes()))
            || self.counting(token).is_ok_and(|session| session.capability.name == name)
    }

    /// The session of a token that counts now.
    fn counting(&self, token: &str) -> Result<Arc<Session>, Error> {
        let now_ms = wall_ms();
        let session = self.session(token, now_ms);
        let checked = session.and_then(|session| self.check(&session.capability, now_ms).map(|()| session));
        checked.map_err(|error| {
            let hint = "starling token add makes a token, on an issuer of the network; starling token show reads one";
            Error::new(ErrorCode::Unauthorized, format!("the token does not count: {error}"), hint)
        })
    }

    /// The session of a token with a valid signature.
    fn session(&self, token: &str, now_ms: u64) -> Result<Arc<Session>, CapabilityError> {
        let hash = *blake3::hash(token.as_bytes()).as_bytes();
        let lock = || self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&hash) {
            return Ok(Arc::clone(known));
        }
        let capability = Capability::from_text(token)?;
        if !verify_signed(&capability) {
            return Err(CapabilityError::Forged);
        }
        let session = Arc::new(Session::new(capability, now_ms));
        let mut sessions = lock();
        // Signatures are verified again, and quotas are full again.
        if sessions.len() >= SESSIONS_MAX {
            sessions.clear();
        }
        sessions.insert(hash, Arc::clone(&session));
        Ok(session)
    }

    /// Whether a token with a valid signature counts now.
    fn check(&self, capability: &Capability, now_ms: u64) -> Result<(), CapabilityError> {
        capability.check(&self.node.trusted(), now_ms)?;
        match tokens::is_revoked(&self.node, &capability.id) {
            Ok(false) => Ok(()),
            Ok(true) => Err(CapabilityError::Revoked),
            Err(_) => Err(CapabilityError::Unchecked),
        }
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
