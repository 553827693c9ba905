//! Removal of expired entries. Reads hide an entry as soon as it expires; it is removed later, in steps
//! that every replica takes at the same time, so that they stay equal. No dot is created: the entry's
//! own dot has been seen, so that its removal is the same restriction on every replica.

use std::ops::ControlFlow;

use super::Store;
use super::transaction::Transaction;
use crate::cell::parse_ttl_key;
use crate::engine::{Family, View};
use crate::{Change, Engine, Error};

/// Time between the expiry and the removal of an entry, milliseconds, by which clocks may differ. A guess; far above
/// the error of NTP.
pub const EXPIRY_GRACE_MS: u64 = 60_000;
/// Interval at whose multiples entries are removed, milliseconds, so that replicas differ only for moments. A guess.
pub const EXPIRY_STEP_MS: u64 = 10_000;
/// Entries that one call removes, at most: about 50 ms of work.
const ENTRIES_MAX: usize = 10_000;

impl<E: Engine> Store<E> {
    /// Removes entries that expired a grace ago, up to a bound; the next call removes the rest.
    /// Must not be called while this node's clock differs from its peers'.
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
