//! The rights of clients: what an operation needs, what a caller was granted, and tokens that carry grants.
//!
//! ```text
//! issuer (a node)   signs   Capability: its bearer may do this with these keys of these keyspaces until then
//! any node          checks  the signature, the expiry, the revoked ids, and then each operation by authorize()
//! ```
//!
//! [`authorize()`] is the one function that decides. It looks at the whole of an operation: the conditions and the nested
//! transactions of a transaction, the values that a write returns, the lease that a key is attached to, and the end of every
//! range. Nothing here does I/O, reads a clock or verifies a signature.

mod authorize;
mod capability;
mod grant;
mod lease;
mod operation;
mod quota;
mod verbs;

pub use authorize::{Denied, authorize};
pub use capability::{CAPABILITY_MS_MAX, Capability, CapabilityError, NAME_BYTES_MAX};
pub use grant::{GRANTS_MAX, Grant, GrantError};
pub use operation::Operation;
pub use quota::Quota;
pub use verbs::{Verb, Verbs};

use starling_types::strong::{LeaseId, Request, Write};

/// What a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Grants; an operation may need several of them.
    pub grants: Vec<Grant>,
    /// The owner of the leases that the caller grants: it can use no others. `None`: it can use every lease.
    pub owner: Option<String>,
}

impl Rights {
    /// Everything.
    pub fn everything() -> Self {
        Self { grants: vec![Grant::all(Verbs::EVERYTHING)], owner: None }
    }

    /// Everything with data, and nothing with keyspaces or the node.
    pub fn data() -> Self {
        Self { grants: vec![Grant::all(Verbs::DATA)], owner: None }
    }

    /// Everything with one keyspace.
    pub fn on_keyspace(keyspace: &str) -> Self {
        let grant = Grant::new(Verbs::EVERYTHING, keyspace, b"");
        Self { grants: grant.into_iter().collect(), owner: None }
    }

    /// Whether the caller may use this lease.
    fn has_lease(&self, id: LeaseId) -> bool {
        self.owner.as_ref().is_none_or(|owner| lease::is_of(owner, id))
    }

    /// Chooses the id of a lease that the request leaves to the server, so that it is one of the caller's, if it may use no
    /// others.
    pub fn choose_lease(&self, request: &mut Request, random: impl FnOnce() -> u64) {
        if let (Some(owner), Request::Write(Write::LeaseGrant { id: id @ 0, .. })) = (&self.owner, request) {
            *id = lease::draw(owner, random());
        }
    }
}
