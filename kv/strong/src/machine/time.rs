//! The leader's part: when leases end.

use starling_kv::Engine;

use super::Machine;
use crate::api::{Answer, Body, LeaseId, Refusal};

impl<E: Engine> Machine<E> {
    /// This replica leads from now on, and keeps the time of leases: each has its whole time again, so
    /// none ends early because its time was kept elsewhere before.
    pub fn lead(&mut self, now_ms: u64) {
        self.leases.lead(now_ms);
    }

    /// Another replica leads.
    pub fn follow(&mut self) {
        self.leases.follow();
    }

    /// Gives a lease its whole time again; one whose time is over has ended, though it may not be revoked
    /// yet. To be told to the client only after this replica has made
    /// sure that it still leads.
    pub fn keep_alive(&mut self, now_ms: u64, id: LeaseId) -> Result<Answer, Refusal> {
        let ttl_ms = self.leases.renew(now_ms, id).ok_or(Refusal::LeaseNotFound(id))?;
        Ok(Answer { revision: self.state.revision, body: Body::KeptAlive { id, ttl_ms } })
    }

    /// What is left of a lease, and its keys if asked for (those of at most an answer's size).
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

    /// When the first lease ends, if this replica keeps their time.
    pub fn next_expiry(&self) -> Option<u64> {
        self.leases.next_deadline_ms()
    }

    /// Up to `max` leases whose time is over. The leader proposes to revoke them; they are named again
    /// until that is applied.
    pub fn expired(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        self.leases.over(now_ms, max)
    }
}
