//! Watches of clients here. The door asks for updates by credit and has room for all it asked for.

use std::collections::BTreeMap;

use crate::call::{WatchId, WatchUpdates};
use starling_core::Token;
use starling_core::strong::StrongInput;
use starling_strong::api::WatchUpdate;

struct Watch {
    id: WatchId,
    updates: WatchUpdates,
}

/// All of them. The core bounds them.
#[derive(Default)]
pub struct Watches {
    all: BTreeMap<Token, Watch>,
    tokens: BTreeMap<WatchId, Token>,
}

impl Watches {
    /// Notes a watch.
    pub fn begin(&mut self, token: Token, id: WatchId, updates: WatchUpdates) {
        self.tokens.insert(id, token);
        self.all.insert(token, Watch { id, updates });
    }

    /// The core's name of a watch.
    pub fn token(&self, id: WatchId) -> Option<Token> {
        self.tokens.get(&id).copied()
    }

    /// Forgets a watch.
    pub fn end(&mut self, id: WatchId) -> Option<Token> {
        let token = self.tokens.remove(&id)?;
        self.all.remove(&token);
        Some(token)
    }

    /// Sends an update to its client; what the core gets then, if anything.
    pub fn send(&mut self, token: Token, update: WatchUpdate) -> Option<StrongInput> {
        let Watch { id, updates } = self.all.get(&token)?;
        let id = *id;
        let is_last = matches!(update, WatchUpdate::Compacted { .. } | WatchUpdate::Lost { .. });
        // Nobody reads any more, or less than was asked for.
        let is_refused = updates.try_send((id, update)).is_err();
        let ended = if is_last || is_refused { self.end(id) } else { None };
        ended.map(|token| StrongInput::Unwatch { token })
    }
}
