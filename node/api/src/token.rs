//! Types of the API about tokens of clients.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Whom it is for, 1 to 64 of `A-Z a-z 0-9 _ . @ -`: the owner of its leases, and its name in lists and in the audit log. Tokens of one name
    /// share their leases, so that a new one can follow an old one.
    pub name: String,
    /// What it grants, 1 to 16 times `VERBS:KEYSPACE[:PREFIX]`, as `read,watch:orders:eu/`. The verbs are read, write, delete,
    /// watch, lock and admin, and `data` for all but admin. A keyspace may end with `*`.
    pub grants: Vec<String>,
    /// How long it is valid, milliseconds; ten years at most.
    pub expires_ms: u64,
    /// Requests a second that each node takes, at most; 0: any number.
    #[serde(default)]
    pub requests_s: u32,
    /// Bytes a second of requests and answers on each node, at most; 0: any number.
    #[serde(default)]
    pub bytes_s: u64,
}

/// A new token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    /// The token: treat it as a password. No node keeps it.
    pub token: String,
    /// What is recorded of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// What is recorded of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Whom it is for.
    pub name: String,
    /// What it grants.
    pub grants: Vec<String>,
    /// When it was made, milliseconds since the Unix epoch.
    pub issued_ms: u64,
    /// Time after which it is not valid, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// Requests a second that each node takes, at most; 0: any number.
    #[serde(default)]
    pub requests_s: u32,
    /// Bytes a second of requests and answers on each node, at most; 0: any number.
    #[serde(default)]
    pub bytes_s: u64,
    /// Id of the node that signed it.
    pub issuer: String,
    /// Whether it was revoked, as far as this node knows.
    #[serde(default)]
    pub revoked: bool,
}

/// The tokens that the issuers of the network have recorded and that have not expired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// In the order of their names and of the times when they were made.
    pub tokens: Vec<TokenInfo>,
    /// Whether there are more than the 10,000 here.
    #[serde(default)]
    pub more: bool,
}
