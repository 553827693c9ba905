//! Types of the API about certificates of nodes and the network's authority.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The authority of the network and its statements, as far as the node has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trust {
    /// The authority's public key in hexadecimal, of several the oldest one; null in a network without certificates.
    pub authority: Option<String>,
    /// All keys that sign for the authority: the oldest one, and those that came from it.
    #[serde(default)]
    pub keys: Vec<AuthorityKey>,
    /// Retired keys of the authority, whose tickets still lead to it.
    #[serde(default)]
    pub former_keys: Vec<String>,
    /// Whether nodes accept only peers with a valid certificate.
    pub required: bool,
    /// Nodes that give certificates.
    pub issuers: Vec<Issuer>,
    /// Ids of nodes that are cut off for good.
    pub revoked: Vec<String>,
    /// Equal on two nodes with the same statements.
    pub digest: String,
    /// The highest serial number of all statements: of two about one subject the higher one counts.
    pub serial: u64,
    /// This node's certificate.
    pub certificate: Option<Certificate>,
    /// Whether this node is an issuer.
    pub is_issuer: bool,
}

impl Trust {
    /// Whether the node with this id is an issuer.
    pub fn has_issuer(&self, id: &str) -> bool {
        self.issuers.iter().any(|issuer| issuer.id == id)
    }

    /// Whether statements of this key count.
    pub fn has_key(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Whether a node that names its authority by this key follows the same one.
    pub fn is_authority(&self, id: &str) -> bool {
        self.has_key(id) || self.former_keys.iter().any(|key| key == id)
    }

    /// Whether a key came from another one, by one step or several.
    pub fn descends(&self, id: &str, from: &str) -> bool {
        let before = |id: &&str| self.keys.iter().find(|key| key.id == *id)?.after.as_deref();
        // There are no more steps than keys.
        let steps = std::iter::successors(before(&id), before).take(self.keys.len());
        steps.into_iter().any(|step| step == from)
    }
}

/// A key that signs for the authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityKey {
    /// The public key in hexadecimal.
    pub id: String,
    /// The key that has made it one; null for the oldest one.
    pub after: Option<String>,
}

/// A node that gives certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Issuer {
    /// Its public key in hexadecimal.
    pub id: String,
    /// Its multiaddresses, as the authority stated them.
    pub addresses: Vec<String>,
}

/// A certificate of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    /// Id of the issuer.
    pub issuer: String,
    /// When it was given, milliseconds since the Unix epoch.
    pub issued_ms: u64,
    /// Time after which it is not valid, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

impl Certificate {
    /// Whether it should have been renewed for a while: nodes ask for that from two thirds of its life on.
    pub fn is_late(&self, wall_ms: u64) -> bool {
        let life_ms = self.not_after_ms.saturating_sub(self.issued_ms);
        self.not_after_ms.saturating_sub(wall_ms) < life_ms / 4
    }
}

/// Statements of an authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Statements {
    /// Each in hexadecimal, as the authority's key has signed it. The body of the request has 256 KiB at most.
    pub statements: Vec<String>,
}

/// A node's credentials in a crawl.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// The authority that it follows.
    pub authority: String,
    /// Equal on two nodes with the same statements.
    pub digest: String,
    /// Id of the issuer that has given its certificate; null without one.
    pub issuer: Option<String>,
    /// When its certificate expires, milliseconds since the Unix epoch; null without one.
    pub not_after_ms: Option<u64>,
}

/// Nodes that an issuer lets in by one ticket, at most, unless it lets in any number: it keeps a line of each.
pub const USES_MAX: u64 = 100_000;
/// How long a join ticket is valid, milliseconds: a second to ten years.
pub const EXPIRES_MS: std::ops::RangeInclusive<u64> = 1_000..=315_360_000_000;

/// The limits of a join ticket, in a network with an authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketSpec {
    /// Nodes that each issuer lets in by it, 1 to [`USES_MAX`]; any number by default.
    pub uses: Option<u64>,
    /// How long it is valid, milliseconds in [`EXPIRES_MS`]; a day by default.
    pub expires_ms: Option<u64>,
    /// Whether it is for seeds.
    pub seed: bool,
}
