//! Measures what a write would visit, before it is proposed: a write is applied at once, on every replica, so that
//! the bytes of its rows are bounded. The leader measures in portions, and replicas apply what is in the log.

use std::ops::ControlFlow;

use starling_kv::engine::Family;
use starling_kv::{Engine, Error};

use super::Machine;
use super::limits::WRITE_VISITED_BYTES_MAX;
use super::reading::scan_latest;
use super::room::Room;
use super::source::{Last, Staged, Visited};
use crate::api::{Compare, Delete, Keys, LeaseId, Operand, Refusal, Relation, Txn, TxnOp, Write};

/// Single keys of a write that are not measured. A guess: with the largest values they are far below the bound.
const UNMEASURED_MAX: usize = 16;
/// Keys that one entry of a revocation in pieces deletes, at most: operations in one list of a transaction.
const PIECE_KEYS: usize = super::limits::TXN_OPS_MAX;

/// A measurement under way.
pub struct Measuring {
    /// The keys that were not visited yet, the next ones last.
    rest: Vec<Keys>,
    bytes: u64,
}

impl<E: Engine> Machine<E> {
    /// Begins to measure a write; `None` for one of few keys.
    pub fn begin_measuring(&self, write: &Write) -> Option<Measuring> {
        let mut rest = Vec::new();
        match write {
            Write::Delete(delete) => rest.push(delete.keys.clone()),
            Write::Txn(txn) => visited_by(txn, &mut rest),
            Write::Put(_)
            | Write::PutSequential { .. }
            | Write::PopFirst { .. }
            | Write::LeaseGrant { .. }
            | Write::LeaseRevoke { .. }
            | Write::Compact { .. } => {}
        }
        let is_small = rest.len() <= UNMEASURED_MAX && rest.iter().all(|keys| matches!(keys, Keys::One(_)));
        (!is_small).then_some(Measuring { rest, bytes: 0 })
    }

    /// Continues a measurement as far as `room` allows. `None` if there is more to do; an error rejects the write.
    ///
    /// # Errors
    /// Fails with an error of the engine.
    pub fn measure(
        &self,
        measuring: &mut Measuring,
        room: &mut Room,
    ) -> Result<Option<Result<(), Refusal>>, Error> {
        self.check_sound()?;
        let (staged, last, visited) = (Staged::new(), Last::default(), Visited::default());
        let source = self.source(&staged, &last, &visited);
        while let Some(keys) = measuring.rest.pop() {
            let rest = scan_latest(&source, keys, room, &mut |_, row| {
                measuring.bytes += row.len() as u64;
                Ok(ControlFlow::Continue(()))
            })?;
            if measuring.bytes > WRITE_VISITED_BYTES_MAX {
                let what = "values that one write visits".into();
                let (bytes, max) = (measuring.bytes, WRITE_VISITED_BYTES_MAX);
                return Ok(Some(Err(Refusal::TooLarge { what, bytes, max })));
            }
            if let Some(rest) = rest {
                measuring.rest.push(rest);
                return Ok(None);
            }
        }
        Ok(Some(Ok(())))
    }

    /// The writes that revoke a lease. One whose keys exceed `room` is revoked in pieces: these are the writes that
    /// delete its first keys, as far as it still holds them. Reduces `room` by the rows of the keys.
    ///
    /// # Errors
    /// Fails with an error of the engine.
    pub fn revocation(&self, id: LeaseId, room: &mut Room) -> Result<Revocation, Error> {
        let keys = self.leases.get(id).map(|lease| &lease.keys).into_iter().flatten();
        let (mut pieces, mut piece) = (Vec::new(), Vec::new());
        let mut is_whole = room.take(0);
        for key in keys {
            let row = self.engine.get(Family::StrongNow, &self.rows.now(key))?;
            // A piece names each key twice.
            if !room.take(2 * key.len() + row.map_or(0, |row| row.len())) {
                is_whole = false;
                break;
            }
            piece.push(key);
            if piece.len() == PIECE_KEYS {
                pieces.push(delete_held(id, &std::mem::take(&mut piece)));
            }
        }
        if is_whole {
            return Ok(Revocation::Whole(Write::LeaseRevoke { id }));
        }
        if !piece.is_empty() {
            pieces.push(delete_held(id, &piece));
        }
        Ok(Revocation::Pieces(pieces))
    }

    /// Keys that a lease holds.
    pub fn keys_held(&self, id: LeaseId) -> usize {
        self.leases.get(id).map_or(0, |lease| lease.keys.len())
    }

    /// Lets a lease expire now, on the leader.
    pub fn expire(&mut self, now_ms: u64, id: LeaseId) {
        self.leases.expire(now_ms, id);
    }
}

/// How a lease is revoked.
pub enum Revocation {
    /// In one write.
    Whole(Write),
    /// In pieces, of which these are the first.
    Pieces(Vec<Write>),
}

/// Deletes the keys that a lease still holds.
fn delete_held(id: LeaseId, keys: &[&Vec<u8>]) -> Write {
    let one = |key: &&Vec<u8>| {
        let keys = || Keys::One((*key).clone());
        TxnOp::Txn(Txn {
            compare: vec![Compare { keys: keys(), is: Relation::Equal, to: Operand::Lease(id) }],
            then: vec![TxnOp::Delete(Delete { keys: keys(), prev: false })],
            otherwise: Vec::new(),
        })
    };
    Write::Txn(Txn { then: keys.iter().map(one).collect(), ..Txn::default() })
}

/// Adds the keys that a transaction may visit, in both branches.
fn visited_by(txn: &Txn, visited: &mut Vec<Keys>) {
    visited.extend(txn.compare.iter().map(|compare| compare.keys.clone()));
    for op in txn.then.iter().chain(&txn.otherwise) {
        match op {
            TxnOp::Range(range) => visited.push(range.keys.clone()),
            TxnOp::Put(put) => visited.push(Keys::One(put.key.clone())),
            TxnOp::Delete(delete) => visited.push(delete.keys.clone()),
            TxnOp::Txn(txn) => visited_by(txn, visited),
        }
    }
}
