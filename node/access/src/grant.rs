//! Grants: verbs on the keys with a prefix of some keyspaces.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use starling_types::escaped;
use starling_types::eventual::{KEYSPACE_BYTES_MAX, check_keyspace};
use thiserror::Error;

use crate::{Verb, Verbs};

/// Grants of one caller, at most.
pub const GRANTS_MAX: usize = 16;
/// Longest prefix, bytes.
const PREFIX_BYTES_MAX: usize = 256;
/// The end of a name that stands for all names that begin so.
const ANY: char = '*';

/// Permission to do something with keys.
///
/// As text `VERBS:KEYSPACE[:PREFIX]`: verbs with commas between them (`data` is all but `admin`); a keyspace, or the
/// beginning of its name and `*`; and the bytes with which keys begin, all keys if there are none.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    verbs: Verbs,
    keyspace: String,
    prefix: Vec<u8>,
}

/// Why a text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GrantError {
    /// There is no colon.
    #[error("a grant is written VERBS:KEYSPACE[:PREFIX], like read,watch:orders:eu/")]
    Form,
    /// A verb that there is not.
    #[error("{0:?} is no verb: read, write, delete, watch, lock, admin, and data for all but admin")]
    Verb(String),
    /// A name that no keyspace can have.
    #[error(
        "{0:?} names no keyspace: up to 64 of a-z 0-9 _ . - and a * at its end for all names that begin so"
    )]
    Keyspace(String),
    /// The prefix is too long.
    #[error("the prefix is longer than 256 bytes")]
    Prefix,
    /// Administration of some keys.
    #[error("admin is of whole keyspaces: leave the prefix out")]
    PartlyAdmin,
}

impl Grant {
    /// Verbs on all keys of all keyspaces.
    pub fn all(verbs: Verbs) -> Self {
        Self { verbs, keyspace: ANY.into(), prefix: Vec::new() }
    }

    /// Verbs on keys of keyspaces, checked.
    pub fn new(verbs: Verbs, keyspace: &str, prefix: &[u8]) -> Result<Self, GrantError> {
        let grant = Self { verbs, keyspace: keyspace.to_owned(), prefix: prefix.to_vec() };
        let stem = keyspace.strip_suffix(ANY);
        let is_name = match stem {
            Some(stem) => stem.is_empty() || check_keyspace(stem).is_ok(),
            None => check_keyspace(keyspace).is_ok(),
        };
        if !is_name {
            return Err(GrantError::Keyspace(keyspace.chars().take(KEYSPACE_BYTES_MAX).collect()));
        }
        if prefix.len() > PREFIX_BYTES_MAX {
            return Err(GrantError::Prefix);
        }
        if verbs.contains(Verb::Admin) && !prefix.is_empty() {
            return Err(GrantError::PartlyAdmin);
        }
        Ok(grant)
    }

    /// Whether the sizes are within bounds.
    pub fn is_bounded(&self) -> bool {
        Self::new(self.verbs, &self.keyspace, &self.prefix).is_ok()
    }

    /// Whether it is about a keyspace.
    pub(crate) fn is_on(&self, keyspace: &str) -> bool {
        match self.keyspace.strip_suffix(ANY) {
            Some(stem) => keyspace.starts_with(stem),
            None => keyspace == self.keyspace,
        }
    }

    /// Whether it permits this in every keyspace, with every key.
    pub(crate) fn is_everywhere(&self, verb: Verb) -> bool {
        self.verbs.contains(verb) && self.keyspace.strip_suffix(ANY) == Some("") && self.prefix.is_empty()
    }

    /// Whether it permits this in a keyspace, with some keys.
    pub(crate) fn permits(&self, verb: Verb, keyspace: &str) -> bool {
        self.verbs.contains(verb) && self.is_on(keyspace)
    }

    /// The bytes with which its keys begin.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.verbs, self.keyspace)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, ":{}", escaped(&self.prefix)) }
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let mut parts = text.splitn(3, ':');
        let (Some(verbs), Some(keyspace)) = (parts.next(), parts.next()) else {
            return Err(GrantError::Form);
        };
        let verbs = verbs.parse().map_err(GrantError::Verb)?;
        Self::new(verbs, keyspace, parts.next().unwrap_or_default().as_bytes())
    }
}
