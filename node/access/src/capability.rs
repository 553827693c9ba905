//! Tokens: grants that an issuer of the network has signed, so that every node can check them by itself.

use std::fmt;

use bincode::{Decode, Encode};
use data_encoding::BASE64URL_NOPAD;
use starling_proto::NodeId;
use starling_proto::trust::{Signed, Trust, signing_bytes};
use thiserror::Error;

use crate::{GRANTS_MAX, Grant, Rights};

/// Longest name, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest life of a token, milliseconds: ten years.
pub const CAPABILITY_MS_MAX: u64 = 10 * 366 * 24 * 60 * 60 * 1000;
/// The beginning of its text.
const PREFIX: &str = "starling-token1-";
/// Longest text that is read, bytes: more than the largest token has.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// A token: its bearer may do what it grants, on every node of the network, until it expires or is revoked.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Capability {
    /// Drawn at random; it is revoked by this.
    pub id: [u8; 16],
    /// Whom it is for: the owner of its leases, and its name in lists and in the audit log.
    pub name: String,
    /// What it grants.
    pub grants: Vec<Grant>,
    /// When it was signed, milliseconds since the Unix epoch.
    pub issued_ms: u64,
    /// Time after which it is not valid, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// Requests a second that each node takes, at most; 0: any number.
    pub requests_s: u32,
    /// Bytes a second of requests and answers on each node, at most; 0: any number.
    pub bytes_s: u64,
    /// The node whose key signed it.
    pub issuer: NodeId,
    /// Ed25519 over the other fields.
    pub signature: Vec<u8>,
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CapabilityError {
    /// The text is no token.
    #[error("it is no token, or is damaged: copy all of it")]
    Malformed,
    /// The signature is not the issuer's.
    #[error("its signature is wrong")]
    Forged,
    /// The node that signed it is no issuer here.
    #[error(
        "the node that signed it is no issuer of this network, or was revoked: make a new one with `starling token add`"
    )]
    NoIssuer,
    /// It has expired.
    #[error("it has expired: make a new one with `starling token add`")]
    Expired,
    /// It was revoked.
    #[error("it was revoked")]
    Revoked,
    /// The node cannot look up whether it was revoked: it keeps no data, or its store fails.
    #[error(
        "this node cannot read which tokens were revoked: use another node, or as its user the unix socket"
    )]
    Unchecked,
}

impl fmt::Debug for Capability {
    /// Does not print the signature, without which it grants nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capability")
            .field("name", &self.name)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl Signed for Capability {
    fn signer(&self) -> &NodeId {
        &self.issuer
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let Self { id, name, grants, issued_ms, not_after_ms, requests_s, bytes_s, issuer, signature: _ } =
            self;
        let limits = (requests_s, bytes_s);
        signing_bytes("starling token v1\0", (id, name, grants, issued_ms, not_after_ms, limits, issuer))
    }

    fn is_bounded(&self) -> bool {
        self.name.len() <= NAME_BYTES_MAX
            && self.grants.len() <= GRANTS_MAX
            && self.grants.iter().all(Grant::is_bounded)
            && self.has_bounded_signature()
    }
}

impl Capability {
    /// Whether a name is 1 to [`NAME_BYTES_MAX`] of `A-Z a-z 0-9 _ . @ -`: etcd's clients end it at a colon, and people read it.
    pub fn is_name(name: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
        (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed)
    }

    /// Whether a text looks like a token.
    pub fn is_text(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The token as text, for its bearer.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&self.encoded()))
    }

    /// The token of a text. Its signature is not verified.
    pub fn from_text(text: &str) -> Result<Self, CapabilityError> {
        let bytes = text.strip_prefix(PREFIX).filter(|rest| rest.len() <= TEXT_BYTES_MAX);
        let bytes = bytes.and_then(|rest| BASE64URL_NOPAD.decode(rest.as_bytes()).ok());
        bytes.and_then(|bytes| Self::decoded(&bytes)).ok_or(CapabilityError::Malformed)
    }

    /// Whether it counts now, by what the authority has stated; its signature must be verified, and its id not be revoked.
    pub fn check(&self, trust: &Trust, wall_ms: u64) -> Result<(), CapabilityError> {
        if !trust.was_issuer(&self.issuer) {
            return Err(CapabilityError::NoIssuer);
        }
        if self.not_after_ms < wall_ms { Err(CapabilityError::Expired) } else { Ok(()) }
    }

    /// What its bearer may do.
    pub fn rights(&self) -> Rights {
        Rights { grants: self.grants.clone(), owner: Some(self.name.clone()) }
    }
}
