//! Which names belong to strong keyspaces, as far as this node has heard: the HTTP door asks before it
//! touches an eventual keyspace of that name.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use starling_core::strong::LOCATIONS;
use starling_kv::{Change, Error, Range, Reader};
use starling_rocks::RocksEngine;

use crate::wall_ms;

/// Names looked up at a time.
const PAGE: usize = 1000;

/// Shared by the gossip thread, which keeps it up to date, and the door.
#[derive(Clone, Default)]
pub struct Names(Arc<RwLock<BTreeSet<String>>>);

impl Names {
    /// What the store says.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(reader: &Reader<RocksEngine>) -> Result<Self, Error> {
        let mut names = BTreeSet::new();
        let mut range = Range::default();
        loop {
            let page = reader.list(wall_ms(), LOCATIONS, &range, PAGE, 0)?;
            names.extend(page.items.into_iter().filter_map(|(key, _)| String::from_utf8(key).ok()));
            range.after = page.next;
            if range.after.is_none() {
                return Ok(Self(Arc::new(RwLock::new(names))));
            }
        }
    }

    /// Whether a strong keyspace has this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// All of them, in order.
    pub fn all(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Looks up again what has changed.
    ///
    /// # Errors
    /// The engine's.
    pub fn follow(&self, reader: &Reader<RocksEngine>, changes: &[Change]) -> Result<(), Error> {
        for change in changes.iter().filter(|change| change.keyspace == LOCATIONS) {
            let Ok(name) = std::str::from_utf8(&change.key) else { continue };
            let is_there = !reader.map_entries(wall_ms(), LOCATIONS, &change.key, None, 1)?.items.is_empty();
            let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if is_there {
                names.insert(name.to_owned())
            } else {
                names.remove(name)
            };
        }
        Ok(())
    }
}
