//! Tokens of clients: making, listing and revoking them.
//!
//! The issuers of a network record each token that they make, and every administrator each one that is revoked, in an eventual
//! keyspace of Starling's own, until it has expired. A member of the network could change the records: it could also answer
//! any client by itself.

use data_encoding::HEXLOWER;
use starling_access::{CAPABILITY_MS_MAX, Capability, GRANTS_MAX, Grant, NAME_BYTES_MAX, Operation};
use starling_api::token::{MadeToken, NewToken, TokenInfo, Tokens};
use starling_api::{Error, ErrorCode, PAGE_KEYS_MAX, escaped};
use starling_kv::{Batch, Op, Range, Write};

use crate::admin::Admin;
use crate::error::{stopping, store_error};
use crate::handle::Handle;
use crate::report::hex;
use crate::wall_ms;

/// The keyspace of the records.
const TOKENS: &str = ".tokens";
/// What keys of tokens that were made begin with, before the id in hexadecimal.
const MADE: &str = "made/";
/// What keys of tokens that were revoked begin with.
const REVOKED: &str = "revoked/";
/// How long a revocation is kept after the token has expired, milliseconds: clocks of nodes may be wrong by that. A guess.
const REVOKED_LONGER_MS: u64 = 24 * 60 * 60 * 1000;
/// Digits of an id that may stand for it, at least.
const DIGITS_MIN: usize = 8;

/// The id of a token in hexadecimal.
pub fn digits(token: &Capability) -> String {
    HEXLOWER.encode(&token.id)
}

/// Whether the token with this id in hexadecimal was revoked, as far as this node knows.
pub fn is_revoked(node: &Handle, id: &str) -> Result<bool, Error> {
    let key = format!("{REVOKED}{id}");
    let found = node.reader()?.register(wall_ms(), TOKENS, key.as_bytes()).map_err(store_error)?;
    Ok(found.is_some())
}

impl Admin {
    /// Makes a token for a client. This node must be an issuer of the network's authority.
    ///
    /// # Errors
    /// `invalid`: a name, grant or time is out of bounds. `conflict`: the network has no authority, or this node is no issuer.
    pub async fn add_token(&self, new: NewToken) -> Result<MadeToken, Error> {
        let target = format!("{}: {}", new.name, new.grants.join(" "));
        self.administer("token add", &target, self.make_token(new)).await
    }

    async fn make_token(&self, new: NewToken) -> Result<MadeToken, Error> {
        let now_ms = wall_ms();
        let NewToken { name, grants, expires_ms, requests_s, bytes_s } = new;
        let hint = "starling token add --help has examples";
        let invalid = |message: String| Error::invalid(message, hint);
        if !Capability::is_name(&name) {
            return Err(invalid(format!("a name is 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 _ . @ -")));
        }
        if grants.is_empty() || grants.len() > GRANTS_MAX {
            return Err(invalid(format!("a token has 1 to {GRANTS_MAX} grants")));
        }
        if expires_ms == 0 || expires_ms > CAPABILITY_MS_MAX {
            return Err(invalid("a token is valid for 1 ms to ten years".into()));
        }
        let read = |text: &String| {
            text.parse::<Grant>().map_err(|error| invalid(format!("{}: {error}", escaped(text.as_bytes()))))
        };
        let grants: Vec<Grant> = grants.iter().map(read).collect::<Result<_, _>>()?;
        let unsigned = Capability {
            id: rand::random(),
            name,
            grants,
            issued_ms: now_ms,
            not_after_ms: now_ms.saturating_add(expires_ms),
            requests_s,
            bytes_s,
            issuer: self.0.parts.node,
            signature: Vec::new(),
        };
        let signed = self.0.parts.gossip.sign_token(unsigned).await.ok_or_else(stopping)??;
        let made = MadeToken { token: signed.to_text(), info: info(&signed) };
        let record = serde_json::to_vec(&made.info).expect("the API's types serialize");
        self.record(format!("{MADE}{}", made.info.id), record, expires_ms).await?;
        Ok(made)
    }

    async fn record(&self, key: String, value: Vec<u8>, ttl_ms: u64) -> Result<(), Error> {
        let op = Op::Put { value: value.into() };
        let write = Write { ttl_ms: Some(ttl_ms), ..Write::new(TOKENS, key, op) };
        self.0.parts.write_unchecked(Batch { writes: vec![write] }).await.map(drop)
    }

    /// The tokens that the issuers of the network have recorded and that have not expired.
    pub async fn tokens(&self) -> Result<Tokens, Error> {
        self.administer("token ls", "", async { self.list_tokens() }).await
    }

    fn list_tokens(&self) -> Result<Tokens, Error> {
        let range = Range { prefix: MADE.into(), ..Range::default() };
        let page = self.0.reader()?.list(wall_ms(), TOKENS, &range, PAGE_KEYS_MAX, 0).map_err(store_error)?;
        let mut tokens = Vec::with_capacity(page.items.len());
        for (key, contents) in &page.items {
            let value = contents.data.first().and_then(starling_api::Data::raw);
            // A record that cannot be read is of a newer version, or a member's invention.
            let Some(mut info) = value.and_then(|value| serde_json::from_slice::<TokenInfo>(&value.0).ok())
            else {
                continue;
            };
            if format!("{MADE}{}", info.id).as_bytes() != key {
                continue;
            }
            info.revoked = is_revoked(&self.0, &info.id)?;
            tokens.push(info);
        }
        tokens.sort_by(|a, b| (&a.name, a.issued_ms).cmp(&(&b.name, b.issued_ms)));
        Ok(Tokens { tokens, more: page.next.is_some() })
    }

    /// Revokes a token: every node refuses it when it learns that. `id` is its id, or the first digits of it if it is recorded.
    ///
    /// # Errors
    /// `not_found`: no token or more than one has an id that begins so. Nothing was changed.
    pub async fn revoke_token(&self, id: &str) -> Result<TokenInfo, Error> {
        self.administer("token revoke", id, self.revoke(id)).await
    }

    async fn revoke(&self, id: &str) -> Result<TokenInfo, Error> {
        let now_ms = wall_ms();
        let listed = self.list_tokens()?.tokens;
        let mut found = listed.into_iter().filter(|info| id.len() >= DIGITS_MIN && info.id.starts_with(id));
        let info = match (found.next(), found.next()) {
            (Some(info), None) => info,
            (None, None) if HEXLOWER.decode(id.as_bytes()).is_ok_and(|id| id.len() == 16) => {
                let not_after_ms = now_ms.saturating_add(CAPABILITY_MS_MAX);
                TokenInfo { id: id.into(), not_after_ms, ..TokenInfo::default() }
            }
            (first, _) => {
                let count = if first.is_some() { "more than one token" } else { "no token" };
                let message = format!("{count} has an id that begins with {:?}", escaped(id.as_bytes()));
                let hint = format!("starling token ls lists them; write {DIGITS_MIN} digits or more");
                return Err(Error::new(ErrorCode::NotFound, message, hint));
            }
        };
        let left_ms = info.not_after_ms.saturating_sub(now_ms);
        let ttl_ms = left_ms.saturating_add(REVOKED_LONGER_MS);
        self.record(format!("{REVOKED}{}", info.id), Vec::new(), ttl_ms).await?;
        Ok(TokenInfo { revoked: true, ..info })
    }

    /// Administers the node, and records it.
    pub(crate) async fn administer<T>(
        &self,
        action: &str,
        target: &str,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.0.caller().audited(&Operation::Administer, action, target, run).await
    }
}

/// What is recorded of a token.
pub fn info(token: &Capability) -> TokenInfo {
    TokenInfo {
        id: digits(token),
        name: token.name.clone(),
        grants: token.grants.iter().map(ToString::to_string).collect(),
        issued_ms: token.issued_ms,
        not_after_ms: token.not_after_ms,
        requests_s: token.requests_s,
        bytes_s: token.bytes_s,
        issuer: hex(&token.issuer.0),
        revoked: false,
    }
}
