//! The names of the strong keyspaces that this node knows: an eventual keyspace may not have one of them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use starling_core::strong::LOCATIONS;
use starling_kv::{Change, Error, Range, Reader};
use starling_rocks::RocksEngine;

use crate::wall_ms;

/// Names read from the store at a time: a page in memory. A guess.
const PAGE: usize = 1000;

/// The set of names, which the gossip thread keeps current and the handle reads.
#[derive(Clone, Default)]
pub struct Names(Arc<RwLock<BTreeSet<String>>>);

impl Names {
    /// Loads the names from the store.
    ///
    /// # Errors
    /// The store cannot be read.
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

    /// Whether this node knows a strong keyspace of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// All names, in order.
    pub fn all(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Updates the names whose locations have changed.
    ///
    /// # Errors
    /// The store cannot be read.
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
