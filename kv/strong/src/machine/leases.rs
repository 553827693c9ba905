//! Leases. The log determines which leases exist and which keys they hold. Only the leader knows when they
//! expire: a new leader gives each lease its whole time again, so that none expires early.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::LeaseId;

/// One lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    pub ttl_ms: u64,
    pub keys: BTreeSet<Vec<u8>>,
    /// When the lease expires, on the leader, milliseconds.
    deadline_ms: Option<u64>,
}

/// All leases of a keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    table: BTreeMap<LeaseId, Lease>,
    /// On the leader, the leases in the order in which they expire.
    deadlines: BTreeSet<(u64, LeaseId)>,
    leading: bool,
}

impl Leases {
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.table.get(&id)
    }

    /// All leases: on the leader in the order in which they expire, elsewhere in the order of their ids.
    pub fn ids(&self) -> Vec<LeaseId> {
        if self.leading {
            self.deadlines.iter().map(|(_, id)| *id).collect()
        } else {
            self.table.keys().copied().collect()
        }
    }

    /// All leases with their whole times, milliseconds.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, u64)> {
        self.table.iter().map(|(id, lease)| (*id, lease.ttl_ms))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Adds a lease, whose time begins now.
    pub fn grant(&mut self, now_ms: u64, id: LeaseId, ttl_ms: u64) {
        self.table.insert(id, Lease { ttl_ms, ..Lease::default() });
        if self.leading {
            self.renew(now_ms, id);
        }
    }

    /// Removes a lease and returns it with the keys that it held.
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

    /// Starts the times of all leases from the beginning: this replica leads now.
    pub fn lead(&mut self, now_ms: u64) {
        self.leading = true;
        self.deadlines.clear();
        for (id, lease) in &mut self.table {
            let deadline = now_ms.saturating_add(lease.ttl_ms);
            lease.deadline_ms = Some(deadline);
            self.deadlines.insert((deadline, *id));
        }
    }

    /// Removes the times of all leases: another replica leads now.
    pub fn follow(&mut self) {
        self.leading = false;
        self.deadlines.clear();
        for lease in self.table.values_mut() {
            lease.deadline_ms = None;
        }
    }

    /// Starts a lease's time from the beginning, and returns it. `None` for a lease that does not exist or has
    /// expired: its revocation may have been proposed already.
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

    /// Lets a lease expire now, on the leader.
    pub fn expire(&mut self, now_ms: u64, id: LeaseId) {
        let Some(lease) = self.table.get_mut(&id) else { return };
        if let Some(before) = lease.deadline_ms.filter(|deadline| *deadline > now_ms) {
            lease.deadline_ms = Some(now_ms);
            self.deadlines.remove(&(before, id));
            self.deadlines.insert((now_ms, id));
        }
    }

    /// Time that a lease has left, milliseconds; on a follower its whole time.
    pub fn left_ms(&self, now_ms: u64, id: LeaseId) -> Option<u64> {
        let lease = self.table.get(&id)?;
        Some(lease.deadline_ms.map_or(lease.ttl_ms, |deadline| deadline.saturating_sub(now_ms)))
    }

    /// When the next lease expires, milliseconds.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Up to `max` leases that have expired, oldest first.
    pub fn over(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let over = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now_ms);
        over.take(max).map(|(_, id)| *id).collect()
    }
}
