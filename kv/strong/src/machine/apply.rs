//! Applying entries of the log.

use starling_kv::{Engine, Error};

use super::check;
use super::command::Command;
use super::fences::Queue;
use super::limits::LEASES_MAX;
use super::range::Budget;
use super::room::Room;
use super::sessions::{DATED, Fingerprint, Known, Remembered};
use super::stage::{Stage, Stop};
use super::{Machine, txn};
use crate::api::{Answer, Body, Fence, Keys, LeaseId, Refusal, RequestId, Revision, Write};
use crate::codec;

/// The answer to an entry's write; `None` for an entry without one.
pub type Applied = Option<Result<Answer, Refusal>>;

impl<E: Engine> Machine<E> {
    /// Applies entries of the log (index and command) in order; indices increase by one. `now_ms` is only used for
    /// the times of leases. Entries that are applied already are skipped.
    ///
    /// All of them are one write of the engine, together with the applied index. Before an entry that reads old
    /// revisions, the earlier ones are written separately. After a crash the log is applied again from
    /// [`Machine::applied`] on, so that no entry is applied twice.
    ///
    /// # Errors
    /// Fails with an error of the engine, or on a gap in the indices. Then every later call fails too. The rows are
    /// consistent, and can be opened again.
    pub fn apply(
        &mut self,
        now_ms: u64,
        entries: Vec<(u64, Option<Command>)>,
    ) -> Result<Vec<Applied>, Error> {
        self.apply_within(now_ms, entries, &mut { Room::ALL })
    }

    /// Does the same with the first of the entries, as many as `room` allows rows to be read and written for, and at
    /// least one. Reduces `room` by these rows. There are as many answers as entries were applied.
    ///
    /// # Errors
    /// As [`Machine::apply`].
    pub fn apply_within(
        &mut self,
        now_ms: u64,
        entries: Vec<(u64, Option<Command>)>,
        room: &mut Room,
    ) -> Result<Vec<Applied>, Error> {
        self.check_sound()?;
        self.has_failed = true;
        let mut stage = Stage::new(self, now_ms);
        let mut answers = Vec::with_capacity(entries.len());
        for (index, command) in entries {
            answers.push(stage.entry(index, command)?);
            if !room.has_room_for(stage.visited()) {
                break;
            }
        }
        room.use_up(stage.visited());
        stage.write()?;
        self.has_failed = false;
        Ok(answers)
    }
}

/// The fingerprint of a write and its fence.
fn fingerprint(fence: Option<&Fence>, write: &Write) -> Fingerprint {
    let hash = blake3::hash(&codec::encode(&(fence, write)));
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

impl<E: Engine> Stage<'_, E> {
    fn entry(&mut self, index: u64, command: Option<Command>) -> Result<Applied, Error> {
        let applied = self.machine.state.applied;
        if index <= applied {
            return Ok(None);
        }
        if index != applied + 1 {
            let reason = format!("entry {index} of a strong keyspace's log follows entry {applied}");
            return Err(Error::Corrupt { reason });
        }
        let applied = match command {
            // The group ends.
            None | Some(Command::Drop) => None,
            // The group sends the hash.
            Some(Command::SendHash) => {
                self.machine.hashes.keep(applied);
                None
            }
            Some(Command::CheckHash { index: at, hash }) => {
                self.check_hash(at, hash);
                None
            }
            Some(Command::Adopt { version }) => {
                self.adopt(version);
                None
            }
            Some(Command::Refuse { id, refusal }) => {
                Some(self.named(index, Some(id), None, |_| Err(Stop::Refused(refusal)))?)
            }
            Some(Command::Write { id, fence, write }) => {
                let is_checked = id.is_some() && self.machine.sessions.is_dated();
                let fingerprint = is_checked.then(|| fingerprint(fence.as_ref(), &write));
                let apply = |stage: &mut Self| stage.fenced(index, fence.as_ref(), write);
                Some(self.named(index, id, fingerprint, apply)?)
            }
        };
        self.end(index);
        Ok(applied)
    }

    fn check_hash(&mut self, at: u64, hash: [u8; 32]) {
        let is_other = self.machine.hashes.at(at).is_some_and(|own| own != hash);
        if is_other && self.machine.state.diverged == 0 {
            self.machine.state.diverged = at;
        }
    }

    fn adopt(&mut self, version: u16) {
        let before = self.machine.state.version;
        if version <= before {
            return;
        }
        self.machine.state.version = version;
        self.fold(version.into());
        if before < DATED && version >= DATED {
            let evicted = self.machine.sessions.adopt_dates();
            self.forget(evicted);
        }
    }

    /// Applies a write once: a repetition of it with the same request id gets the remembered answer. Another write with
    /// that id is rejected.
    fn named(
        &mut self,
        index: u64,
        id: Option<RequestId>,
        fingerprint: Option<Fingerprint>,
        write: impl FnOnce(&mut Self) -> Result<Body, Stop>,
    ) -> Result<Result<Answer, Refusal>, Error> {
        if let Some(id) = &id {
            match self.machine.sessions.look(id) {
                Known::New => {}
                Known::Forgotten => return Ok(Err(Refusal::Forgotten)),
                Known::Answered { slot } => return self.remembered(id, slot, fingerprint),
            }
        }
        let answer = match write(self) {
            Ok(body) => {
                self.keep()?;
                Ok(Answer { revision: self.machine.state.revision, body })
            }
            Err(Stop::Refused(refusal)) => {
                self.undo();
                Err(refusal)
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
        if let Some(id) = &id {
            let kept = self.machine.sessions.remember(id, index, &answer, fingerprint);
            let row_key = self.machine.rows.answer(id.client, kept.slot);
            if self.machine.sessions.is_dated() {
                // It may be among the evicted ones.
                self.put_state(row_key, kept.row);
                self.forget(kept.evicted);
            } else {
                self.forget(kept.evicted);
                self.put_state(row_key, kept.row);
            }
        }
        Ok(answer)
    }

    fn remembered(
        &self,
        id: &RequestId,
        slot: u16,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Result<Answer, Refusal>, Error> {
        let row = self.state_row(&self.machine.rows.answer(id.client, slot))?;
        let row = row.ok_or_else(|| super::rows::corrupt("a remembered answer"))?;
        let remembered = Remembered::decode(&row)?;
        let is_other = fingerprint.zip(remembered.fingerprint).is_some_and(|(one, other)| one != other);
        Ok(if is_other { Err(Refusal::RequestIdReused) } else { remembered.answer })
    }

    /// Removes remembered answers, which belong to these clients and slots.
    fn forget(&mut self, evicted: Vec<(u128, u16)>) {
        let rows = self.machine.rows;
        for (client, slot) in evicted {
            self.delete_state(rows.answer(client, slot));
        }
        self.machine.state.forgotten_ms = self.machine.sessions.forgotten_ms();
    }

    fn fenced(&mut self, index: u64, fence: Option<&Fence>, write: Write) -> Result<Body, Stop> {
        check::write(self.machine.state.version, &write)?;
        if let Some(Fence { lock, token }) = fence
            && self.lock_token(lock)? != Some(*token)
        {
            return Err(Refusal::StaleFence { token: *token }.into());
        }
        match write {
            Write::Put(put) => txn::put(self, put),
            Write::PutSequential { prefix, value, lease } => txn::put_sequential(self, prefix, &value, lease),
            Write::Delete(delete) => txn::delete(self, &delete, &mut Budget::new()),
            Write::PopFirst { keys } => txn::pop_first(self, &keys),
            Write::Txn(txn) => {
                if txn.oldest_revision().is_some() {
                    self.write()?;
                }
                txn::txn(self, txn)
            }
            Write::Compact { revision } => self.compact(revision),
            Write::LeaseGrant { id, ttl_ms } => self.grant(index, id, ttl_ms),
            Write::LeaseRevoke { id } => self.revoke(id),
        }
    }

    /// The fencing token of a lock's holder: the create revision of the oldest key in its queue.
    fn lock_token(&mut self, lock: &[u8]) -> Result<Option<Revision>, Error> {
        let prefix = [lock, b"/"].concat();
        if let Some(queue) = self.machine.fences.get(&prefix) {
            return Ok(queue.token());
        }
        let mut queue = Queue::default();
        let to = starling_kv::engine::prefix_end(&prefix);
        self.source().scan(&Keys::Range { from: prefix.clone(), to }, &mut |key, row| {
            queue.add(super::rows::Record::decode(row)?.create, key);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        let token = queue.token();
        self.machine.fences.remember(prefix, queue);
        Ok(token)
    }

    fn compact(&mut self, revision: Revision) -> Result<Body, Stop> {
        let state = &mut self.machine.state;
        if revision > state.revision {
            return Err(Refusal::FutureRevision { asked: revision, now: state.revision }.into());
        }
        if revision <= state.compacted {
            return Err(Refusal::Compacted { asked: revision, oldest: state.compacted }.into());
        }
        state.compacted = revision;
        let latest = state.revision;
        self.machine.watches.compacted(revision, latest);
        self.fold(revision);
        Ok(Body::Compacted)
    }

    fn grant(&mut self, index: u64, id: LeaseId, ttl_ms: u64) -> Result<Body, Stop> {
        let id = if id == 0 { self.draw_lease(index) } else { id };
        if self.machine.leases.get(id).is_some() {
            return Err(Refusal::LeaseExists(id).into());
        }
        if self.machine.leases.len() >= LEASES_MAX {
            return Err(Refusal::TooMany { what: "leases".into(), max: LEASES_MAX as u64 }.into());
        }
        self.machine.leases.grant(self.now_ms, id, ttl_ms);
        let row_key = self.machine.rows.lease(id);
        self.put_state(row_key, super::lease_row(ttl_ms));
        Ok(Body::LeaseGranted { id, ttl_ms })
    }

    /// An id that no lease has, from the state hash and the entry's index: every replica draws the same one, and
    /// clients cannot predict it.
    fn draw_lease(&self, index: u64) -> LeaseId {
        let mut seed = self.machine.state.hash.to_vec();
        seed.extend_from_slice(&index.to_be_bytes());
        loop {
            let drawn = *blake3::hash(&seed).as_bytes();
            let id = i64::from_be_bytes(*drawn.first_chunk().expect("a hash has 32 bytes")) & i64::MAX;
            if id != 0 && self.machine.leases.get(id).is_none() {
                return id;
            }
            seed = drawn.to_vec();
        }
    }

    fn revoke(&mut self, id: LeaseId) -> Result<Body, Stop> {
        let Some(lease) = self.machine.leases.revoke(id) else {
            return Err(Refusal::LeaseNotFound(id).into());
        };
        for key in lease.keys {
            if let Some(row) = self.source().get(&key)? {
                self.delete(key, row)?;
            }
        }
        let row_key = self.machine.rows.lease(id);
        self.delete_state(row_key);
        Ok(Body::LeaseRevoked)
    }
}
