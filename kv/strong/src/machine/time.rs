//! The times of leases, which only the leader has.

use starling_kv::Engine;

use super::Machine;
use crate::api::{Answer, Body, LeaseId, Refusal};

impl<E: Engine> Machine<E> {
    /// Starts the times of leases, because this replica leads now. Each lease gets its whole time again, because this
    /// replica does not know how much of it has passed.
    pub fn lead(&mut self, now_ms: u64) {
        self.leases.lead(now_ms);
    }

    /// Stops the times of leases, because this replica does not lead any more.
    pub fn follow(&mut self) {
        self.leases.follow();
    }

    /// Starts a lease's time from the beginning. A lease that has expired is not found, even if it is not revoked yet.
    /// The caller answers the client only after a majority has confirmed that this replica leads.
    pub fn keep_alive(&mut self, now_ms: u64, id: LeaseId) -> Result<Answer, Refusal> {
        let ttl_ms = self.leases.renew(now_ms, id).ok_or(Refusal::LeaseNotFound(id))?;
        Ok(Answer { revision: self.state.revision, body: Body::KeptAlive { id, ttl_ms } })
    }

    /// The time that a lease has left, and, if `keys` is set, its keys, as many as fit into an answer.
    pub fn time_to_live(&self, now_ms: u64, id: LeaseId, keys: bool) -> Result<Answer, Refusal> {
        let (Some(lease), Some(left_ms)) = (self.leases.get(id), self.leases.left_ms(now_ms, id)) else {
            return Err(Refusal::LeaseNotFound(id));
        };
        let mut room = super::limits::ANSWER_BYTES_MAX;
        let fits = |key: &&Vec<u8>| {
            room = room.saturating_sub(key.len() + 8);
            room > 0
        };
        let keys = if keys { lease.keys.iter().take_while(fits).cloned().collect() } else { Vec::new() };
        let body = Body::TimeToLive { id, granted_ms: lease.ttl_ms, left_ms, keys };
        Ok(Answer { revision: self.state.revision, body })
    }

    /// When the next lease expires, milliseconds; `None` on a follower or without leases.
    pub fn next_expiry(&self) -> Option<u64> {
        self.leases.next_deadline_ms()
    }

    /// Up to `max` leases that have expired. The leader proposes to revoke them; further calls return them until the
    /// revocations are applied.
    pub fn expired(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        self.leases.over(now_ms, max)
    }
}
