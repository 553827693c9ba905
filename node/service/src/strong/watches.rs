//! Watches of clients here. A client allows updates by credit, and its channel has room for all that it allowed.

use std::collections::BTreeMap;

use crate::call::{WatchId, WatchUpdates};
use starling_core::Token;
use starling_core::strong::StrongInput;
use starling_strong::api::WatchUpdate;

struct Watch {
    id: WatchId,
    updates: WatchUpdates,
}

/// The open watches, by the core's token and by the client's id. The core bounds their number.
#[derive(Default)]
pub struct Watches {
    all: BTreeMap<Token, Watch>,
    tokens: BTreeMap<WatchId, Token>,
}

impl Watches {
    /// Adds a watch.
    pub fn begin(&mut self, token: Token, id: WatchId, updates: WatchUpdates) {
        self.tokens.insert(id, token);
        self.all.insert(token, Watch { id, updates });
    }

    /// The core's token of a watch.
    pub fn token(&self, id: WatchId) -> Option<Token> {
        self.tokens.get(&id).copied()
    }

    /// Removes a watch.
    pub fn end(&mut self, id: WatchId) -> Option<Token> {
        let token = self.tokens.remove(&id)?;
        self.all.remove(&token);
        Some(token)
    }

    /// Sends an update to its client. Returns an input for the core where that ends the watch.
    pub fn send(&mut self, token: Token, update: WatchUpdate) -> Option<StrongInput> {
        let Watch { id, updates } = self.all.get(&token)?;
        let id = *id;
        let is_last = matches!(update, WatchUpdate::Compacted { .. } | WatchUpdate::Lost { .. });
        // The client has gone, or its channel has less room than it allowed.
        let is_refused = updates.try_send((id, update)).is_err();
        let ended = if is_last || is_refused { self.end(id) } else { None };
        ended.map(|token| StrongInput::Unwatch { tokens: vec![token] })
    }
}
