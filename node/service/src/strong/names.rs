//! The names of the strong keyspaces that this node knows: an eventual keyspace may not have one of them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use starling_core::strong::LOCATIONS;
use starling_kv::{Change, Error, Range, Reader};
use starling_rocks::RocksEngine;
use starling_strong::group::GroupId;

use crate::wall_ms;

/// Names read from the store at a time: a page in memory. A guess.
const PAGE: usize = 1000;
/// Groups of one name that are read, at most. A guess: more than one is an operator's error.
const GROUPS_MAX: usize = 16;

/// The names with the groups that are published under each, which the gossip thread keeps current and the handle reads.
#[derive(Clone, Default)]
pub struct Names(Arc<RwLock<BTreeMap<String, Vec<GroupId>>>>);

impl Names {
    /// Loads the names from the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(reader: &Reader<RocksEngine>) -> Result<Self, Error> {
        let mut names = BTreeMap::new();
        let mut range = Range::default();
        loop {
            let page = reader.list(wall_ms(), LOCATIONS, &range, PAGE, 0)?;
            for (key, _) in page.items {
                let Ok(name) = String::from_utf8(key) else { continue };
                let groups = groups(reader, name.as_bytes())?;
                names.insert(name, groups);
            }
            range.after = page.next;
            if range.after.is_none() {
                return Ok(Self(Arc::new(RwLock::new(names))));
            }
        }
    }

    /// Whether this node knows a strong keyspace of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// All names, with the groups that are published under each.
    pub fn all(&self) -> BTreeMap<String, Vec<GroupId>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Updates the names whose locations have changed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn follow(&self, reader: &Reader<RocksEngine>, changes: &[Change]) -> Result<(), Error> {
        for change in changes.iter().filter(|change| change.keyspace == LOCATIONS) {
            let Ok(name) = std::str::from_utf8(&change.key) else { continue };
            let groups = groups(reader, &change.key)?;
            let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if groups.is_empty() {
                names.remove(name)
            } else {
                names.insert(name.to_owned(), groups)
            };
        }
        Ok(())
    }
}

/// The groups that are published under a name.
fn groups(reader: &Reader<RocksEngine>, name: &[u8]) -> Result<Vec<GroupId>, Error> {
    let fields = reader.map_entries(wall_ms(), LOCATIONS, name, None, GROUPS_MAX)?.items;
    Ok(fields.into_iter().filter_map(|(field, _)| GroupId::try_from(&field[..]).ok()).collect())
}
