//! The removal of what has expired. Reads hide an entry the moment it expires; it is removed later,
//! in steps that every replica takes at the same time, so that they stay equal. No dot is minted:
//! the entry's own dot has been seen, so dropping it is the same restriction everywhere.

use std::ops::ControlFlow;

use super::Store;
use super::transaction::Transaction;
use crate::cell::parse_ttl_key;
use crate::engine::{Family, View};
use crate::{Change, Engine, Error};

/// How far clocks may differ before an entry is removed. A guess; far above what NTP leaves.
pub const EXPIRY_GRACE_MS: u64 = 60_000;
/// Removals happen at multiples of this, so that replicas differ for moments only. A guess.
pub const EXPIRY_STEP_MS: u64 = 10_000;
/// Most entries that one call removes: about 50 ms of work.
const ENTRIES_MAX: usize = 10_000;

impl<E: Engine> Store<E> {
    /// Removes entries that expired a grace ago, up to a bound; the next call takes the rest. Must
    /// not be called while this node's clock disagrees with its peers'.
    pub fn expire(&mut self, wall_ms: u64) -> Result<Vec<Change>, Error> {
        let until = wall_ms.saturating_sub(EXPIRY_GRACE_MS) / EXPIRY_STEP_MS * EXPIRY_STEP_MS;
        let mut expired = Vec::new();
        self.engine.view().scan(Family::Ttl, &[], Some(&until.to_be_bytes()), &mut |key, place| {
            let (_, dot) =
                parse_ttl_key(key).ok_or_else(|| Error::corrupt("an expiry's row has a wrong key"))?;
            expired.push((dot, place.to_vec()));
            Ok(if expired.len() < ENTRIES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if expired.is_empty() {
            return Ok(Vec::new());
        }
        let mut txn = Transaction::new(self);
        for (dot, place) in &expired {
            txn.cell(place)?.retain(|version| version.dot != *dot);
        }
        let set = txn.finish()?;
        let changes = self.apply(set)?;
        self.stats.expired += expired.len() as u64;
        Ok(changes)
    }
}
