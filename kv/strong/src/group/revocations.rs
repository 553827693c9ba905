//! Revocations of leases: of expired ones, and of those that clients end. A lease with many or large keys is revoked in
//! pieces, each a revision of its own, because an entry is applied at once: the leader first lets its keys be deleted,
//! and then the lease.

use starling_kv::Engine;

use super::requests::Waiter;
use super::{Group, PROPOSE_AGAIN_MS, Stop};
use crate::api::{LeaseId, Write};
use crate::machine::{Command, Revocation, Room};

/// Leases that the leader proposes to revoke at a time, at most.
const REVOKED_MAX: usize = 4096;
/// The rows of the keys that the leader proposes to delete at a time, about. A lease within it is revoked at one
/// revision.
const ROUND: Room = Room { rows: 8192, bytes: 4 << 20 };
/// Keys of a lease that a client revokes at one revision whatever their bytes. A guess.
const SMALL_KEYS: usize = 16;

/// The revocations under way.
#[derive(Default)]
pub struct Revocations {
    /// When the leader last proposed to revoke leases, milliseconds.
    proposed_ms: u64,
    /// Clients that revoke a lease whose keys are being deleted, with the command that revokes the rest.
    waiting: Vec<(Waiter, LeaseId, Command)>,
}

impl Revocations {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Removes the clients for which `is_late` holds.
    pub fn take_if(&mut self, mut is_late: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        self.waiting.extract_if(.., |(waiter, ..)| is_late(waiter)).map(|(waiter, ..)| waiter).collect()
    }
}

impl<E: Engine> Group<E> {
    /// Lets a command that revokes a large lease wait until most of the lease's keys are deleted. Returns any other
    /// command.
    pub(super) fn revoke_in_pieces(
        &mut self,
        now_ms: u64,
        waiter: Waiter,
        command: Command,
    ) -> Option<Command> {
        let Command::Write { write: Write::LeaseRevoke { id }, .. } = command else { return Some(command) };
        if !self.leads || self.machine.keys_held(id) <= SMALL_KEYS {
            return Some(command);
        }
        match self.machine.revocation(id, &mut { ROUND }) {
            Ok(Revocation::Pieces(_)) => {
                self.machine.expire(now_ms, id);
                self.revocations.waiting.push((waiter, id, command));
                None
            }
            _ => Some(command),
        }
    }

    /// Proposes to revoke leases that have expired. Called once a tick, on the leader.
    pub(super) fn revoke_expired(&mut self, now_ms: u64) -> Result<(), Stop> {
        // Revocations that were proposed before may not be committed yet, or may have been lost.
        let is_quiet = self.raw.raft.raft_log.last_index() == self.machine.applied();
        if now_ms < self.revocations.proposed_ms + PROPOSE_AGAIN_MS && !is_quiet {
            return Ok(());
        }
        let mut room = ROUND;
        for id in self.machine.expired(now_ms, REVOKED_MAX) {
            let is_first = room == ROUND;
            match self.machine.revocation(id, &mut room)? {
                Revocation::Whole(write) => self.propose_revocation(id, write),
                Revocation::Pieces(pieces) if is_first => {
                    for write in pieces {
                        self.enqueue(Command::Write { id: None, fence: None, write });
                    }
                }
                // It may fit into the next round.
                Revocation::Pieces(_) => {}
            }
            self.revocations.proposed_ms = now_ms;
            if room.is_used_up() {
                break;
            }
        }
        Ok(())
    }

    /// Proposes the last write of a revocation: that of a client that waits for it, if there is one.
    fn propose_revocation(&mut self, id: LeaseId, write: Write) {
        let waiting = &mut self.revocations.waiting;
        let clients: Vec<_> = waiting.extract_if(.., |(_, lease, _)| *lease == id).collect();
        if clients.is_empty() {
            self.enqueue(Command::Write { id: None, fence: None, write });
        }
        for (waiter, _, command) in clients {
            self.enqueue_for(waiter, command);
        }
    }
}
