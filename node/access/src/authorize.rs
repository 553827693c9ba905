//! The decision.

use starling_types::escaped;
use starling_types::eventual::KEYSPACE_BYTES_MAX;
use starling_types::strong::{Keys, LeaseId};
use thiserror::Error;

use crate::operation::{Need, Span};
use crate::{Grant, Operation, Rights, Verb};

/// Bytes of a key that an error shows, at most.
const SHOWN_BYTES_MAX: usize = 64;

/// The first thing that an operation needs and the caller does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// A verb on keys.
    #[error("it needs {verb} on {keys} of the keyspace {keyspace}")]
    Keys {
        /// The verb.
        verb: Verb,
        /// The keyspace.
        keyspace: String,
        /// The keys, for people.
        keys: String,
    },
    /// Any grant on a keyspace.
    #[error("it needs a grant on the keyspace {0}")]
    Keyspace(String),
    /// Administration of the node.
    #[error("it needs admin on all keyspaces")]
    Node,
    /// Another one's lease.
    #[error(
        "the lease {0:x} is another one's: use leases granted with a token of the same name, their ids left to the server"
    )]
    Lease(LeaseId),
}

/// Whether a caller may do all of an operation.
///
/// # Errors
/// What the operation needs first and the caller does not have. Nothing of it may be carried out then.
pub fn authorize(rights: &Rights, operation: &Operation) -> Result<(), Denied> {
    let Some(keyspace) = operation.keyspace() else {
        let is_granted = rights.grants.iter().any(|grant| grant.is_everywhere(Verb::Admin));
        return if is_granted { Ok(()) } else { Err(Denied::Node) };
    };
    for need in operation.needs() {
        match need {
            Need::Keys(verb, span) if !covers(&rights.grants, verb, keyspace, span) => {
                return Err(Denied::Keys { verb, keyspace: name(keyspace), keys: shown(span) });
            }
            Need::Grant if !rights.grants.iter().any(|grant| grant.is_on(keyspace)) => {
                return Err(Denied::Keyspace(name(keyspace)));
            }
            Need::Lease(id) if !rights.has_lease(id) => return Err(Denied::Lease(id)),
            Need::Keys(..) | Need::Grant | Need::Lease(_) => {}
        }
    }
    Ok(())
}

/// Whether the grants together permit this with every key of the span, and with the keyspace at all.
fn covers(grants: &[Grant], verb: Verb, keyspace: &str, span: Span) -> bool {
    let permitting = || grants.iter().filter(|grant| grant.permits(verb, keyspace)).map(Grant::prefix);
    if permitting().any(<[u8]>::is_empty) {
        return true;
    }
    let (mut from, to) = match span {
        Span::Nothing => return permitting().next().is_some(),
        Span::Key(key) => return permitting().any(|prefix| key.starts_with(prefix)),
        Span::Prefix(prefix) => bounds(prefix),
        Span::Range(from, to) => (from.to_vec(), to.map(<[u8]>::to_vec)),
    };
    // From each key on to the furthest end of a grant that has it.
    while to.as_ref().is_none_or(|to| from < *to) {
        let ends = permitting().filter(|prefix| from.starts_with(prefix)).map(|prefix| bounds(prefix).1);
        // No end is further than any.
        match ends.max_by(|a, b| (a.is_none(), a).cmp(&(b.is_none(), b))) {
            Some(Some(end)) => from = end,
            Some(None) => return true,
            None => return false,
        }
    }
    permitting().next().is_some()
}

/// The first key with a prefix, and the first one behind those with it.
fn bounds(prefix: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    match Keys::prefix(prefix.to_vec()) {
        Keys::Range { from, to } => (from, to),
        Keys::One(key) => (key, None),
    }
}

/// The name of a keyspace in an error: what a caller sends for one may be of any length.
fn name(keyspace: &str) -> String {
    keyspace.chars().take(KEYSPACE_BYTES_MAX).collect()
}

fn shown(span: Span) -> String {
    let shown = |key: &[u8]| format!("{:?}", escaped(&key[..key.len().min(SHOWN_BYTES_MAX)]));
    match span {
        Span::Nothing => "some keys".into(),
        Span::Key(key) => format!("the key {}", shown(key)),
        Span::Prefix(b"") | Span::Range(b"", None) => "all keys".into(),
        Span::Prefix(prefix) => format!("the keys that begin with {}", shown(prefix)),
        Span::Range(from, Some(to)) => format!("the keys from {} to {}", shown(from), shown(to)),
        Span::Range(from, None) => format!("the keys from {} on", shown(from)),
    }
}
