//! The engine of simulations and tests: ordered maps in memory.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::{Engine, Family, RowOp, View, Visitor};
use crate::Error;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Families = [Rows; Family::ALL.len()];

/// Rows in memory. Clones share them; [`MemoryEngine::copy`] does not.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    families: Arc<RwLock<Families>>,
}

impl MemoryEngine {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An independent copy of the state at this instant, as a backup or a copied directory is.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { families: Arc::new(RwLock::new(self.read().clone())) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Families> {
        // A panic elsewhere cannot have left a half-written state: `write` only inserts and removes.
        self.families.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    type View<'a> = RwLockReadGuard<'a, Families>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.read().get(family, key)
    }

    fn view(&self) -> Self::View<'_> {
        self.read()
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        for op in ops {
            match op {
                RowOp::Put(family, key, value) => {
                    families[family as usize].insert(key, value);
                }
                RowOp::Delete(family, key) | RowOp::DeleteOnce(family, key) => {
                    families[family as usize].remove(&key);
                }
            }
        }
        Ok(())
    }
}

impl View for RwLockReadGuard<'_, Families> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self[family as usize].get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self[family as usize].range::<[u8], _>((Bound::Included(from), end)) {
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}
