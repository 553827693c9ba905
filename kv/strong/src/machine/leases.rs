//! Leases. Which exist and what they hold comes from the log; when they end is the leader's alone, and
//! forgotten with its leadership: the next leader gives each its whole time again, so that none ends
//! early.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::LeaseId;

/// A lease, as the log made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    pub ttl_ms: u64,
    pub keys: BTreeSet<Vec<u8>>,
    /// When it ends; only on the leader.
    deadline_ms: Option<u64>,
}

/// All leases of a keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    table: BTreeMap<LeaseId, Lease>,
    /// On the leader: when each ends.
    deadlines: BTreeSet<(u64, LeaseId)>,
    leading: bool,
}

impl Leases {
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.table.get(&id)
    }

    pub fn ids(&self) -> impl Iterator<Item = LeaseId> {
        self.table.keys().copied()
    }

    /// Each with its whole time.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, u64)> {
        self.table.iter().map(|(id, lease)| (*id, lease.ttl_ms))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// A new lease; its time begins now.
    pub fn grant(&mut self, now_ms: u64, id: LeaseId, ttl_ms: u64) {
        self.table.insert(id, Lease { ttl_ms, ..Lease::default() });
        if self.leading {
            self.renew(now_ms, id);
        }
    }

    /// Ends a lease; answers what it held.
    pub fn revoke(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.table.remove(&id)?;
        if let Some(deadline) = lease.deadline_ms {
            self.deadlines.remove(&(deadline, id));
        }
        Some(lease)
    }

    pub fn attach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.table.get_mut(&id) {
            lease.keys.insert(key.to_vec());
        }
    }

    pub fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.table.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// From now on this replica keeps time: every lease has its whole time again.
    pub fn lead(&mut self, now_ms: u64) {
        self.leading = true;
        self.deadlines.clear();
        for (id, lease) in &mut self.table {
            let deadline = now_ms.saturating_add(lease.ttl_ms);
            lease.deadline_ms = Some(deadline);
            self.deadlines.insert((deadline, *id));
        }
    }

    /// Somebody else keeps time.
    pub fn follow(&mut self) {
        self.leading = false;
        self.deadlines.clear();
        for lease in self.table.values_mut() {
            lease.deadline_ms = None;
        }
    }

    /// Gives a lease its whole time again; answers it. Not one whose time is over: it may be about to be
    /// revoked.
    pub fn renew(&mut self, now_ms: u64, id: LeaseId) -> Option<u64> {
        let lease = self.table.get_mut(&id)?;
        if lease.deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
            return None;
        }
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::LeaseEndsEarly) {
            return Some(lease.ttl_ms);
        }
        if self.leading {
            let deadline = now_ms.saturating_add(lease.ttl_ms);
            if let Some(before) = lease.deadline_ms.replace(deadline) {
                self.deadlines.remove(&(before, id));
            }
            self.deadlines.insert((deadline, id));
        }
        Some(lease.ttl_ms)
    }

    /// Time that a lease has left; the whole on a replica that does not keep time.
    pub fn left_ms(&self, now_ms: u64, id: LeaseId) -> Option<u64> {
        let lease = self.table.get(&id)?;
        Some(lease.deadline_ms.map_or(lease.ttl_ms, |deadline| deadline.saturating_sub(now_ms)))
    }

    /// When the first one ends.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The first `max` leases whose time is over.
    pub fn over(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let over = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now_ms);
        over.take(max).map(|(_, id)| *id).collect()
    }
}
