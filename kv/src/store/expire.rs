//! Expiry, in two steps. Reads hide an entry the moment it expires, and watches are notified of its key then
//! ([`Store::expired`]). It is removed a grace later ([`Store::expire`]), at multiples of a step of the wall
//! clock, at which every replica removes the same entries. No dot is created: the entry's own dot has been
//! seen, so that its removal is the same restriction on every replica.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::Store;
use super::transaction::Transaction;
use crate::cell::parse_ttl_key;
use crate::engine::{Family, View};
use crate::place::PlaceRef;
use crate::{Change, Engine, Error};

/// Time between the expiry and the removal of an entry, milliseconds, by which clocks may differ. A guess; far above
/// the error of NTP.
pub const EXPIRY_GRACE_MS: u64 = 60_000;
/// Interval at whose multiples entries are removed, milliseconds, so that replicas differ only for moments. A guess.
pub const EXPIRY_STEP_MS: u64 = 10_000;
/// Most entries that one call handles: some 5 ms of work in [`Store::expire`].
const ENTRIES_MAX: usize = 1_000;

/// What one call did of the work that is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Keys whose visible state changed, in order, each once.
    pub changes: Vec<Change>,
    /// More is due: call again soon.
    pub more: bool,
}

impl<E: Engine> Store<E> {
    /// The keys of entries that expired since the last call, or since the first one. After a step back of the
    /// wall clock they are visible again, and returned again once they expire.
    pub fn expired(&mut self, wall_ms: u64) -> Result<Expired, Error> {
        // An entry is hidden from the millisecond of its expiry on.
        let until = wall_ms.saturating_add(1).to_be_bytes().to_vec();
        let from = self.expired_from.clone().unwrap_or_else(|| until.clone());
        let mut keys = BTreeSet::new();
        let mut rows = 0;
        let mut next = None;
        self.engine.view().scan(Family::Ttl, &from, Some(&until), &mut |key, place| {
            if rows == ENTRIES_MAX {
                next = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            rows += 1;
            let place = PlaceRef::parse(place)
                .ok_or_else(|| Error::corrupt("an expiry's row does not hold a place"))?;
            keys.insert((place.keyspace.to_owned(), place.key()));
            Ok(ControlFlow::Continue(()))
        })?;
        let more = next.is_some();
        let from = next.unwrap_or(until);
        self.next_expiry_ms = None;
        self.engine.view().scan(Family::Ttl, &from, None, &mut |key, _| {
            self.next_expiry_ms = parse_ttl_key(key).map(|(expires_ms, _)| expires_ms);
            Ok(ControlFlow::Break(()))
        })?;
        self.expired_from = Some(from);
        let changes = keys.into_iter().map(|(keyspace, key)| Change { keyspace, key }).collect();
        Ok(Expired { changes, more })
    }

    /// When to call [`Store::expired`] again, wall-clock milliseconds; `None`: nothing expires.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.next_expiry_ms
    }

    /// Removes entries that expired a grace ago, up to a bound. Must not be called while this node's clock
    /// disagrees with its peers'.
    pub fn expire(&mut self, wall_ms: u64) -> Result<Expired, Error> {
        let until = wall_ms.saturating_sub(EXPIRY_GRACE_MS) / EXPIRY_STEP_MS * EXPIRY_STEP_MS;
        let max = ENTRIES_MAX;
        #[cfg(planted)]
        let max = if starling_planted::on(starling_planted::Bug::ExpiryInOneStep) { usize::MAX } else { max };
        let mut due = Vec::new();
        self.engine.view().scan(Family::Ttl, &[], Some(&until.to_be_bytes()), &mut |key, place| {
            let (_, dot) =
                parse_ttl_key(key).ok_or_else(|| Error::corrupt("an expiry's row has a wrong key"))?;
            due.push((dot, place.to_vec()));
            Ok(if due.len() <= max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let more = due.len() > max;
        due.truncate(max);
        if due.is_empty() {
            return Ok(Expired::default());
        }
        let mut txn = Transaction::new(self);
        for (dot, place) in &due {
            txn.cell(place)?.retain(|version| version.dot != *dot);
        }
        let set = txn.finish()?;
        let changes = self.apply(set)?;
        self.stats.expired += due.len() as u64;
        Ok(Expired { changes, more })
    }

    /// Wall-clock milliseconds: what expired before this has been returned by [`Store::expired`].
    pub(super) fn expired_until_ms(&self) -> u64 {
        let bytes = self.expired_from.as_ref().and_then(|key| key.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}
