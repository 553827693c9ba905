//! Application of the writes and transactions of one entry.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use starling_kv::Engine;

use super::Machine;
use super::check::SEQUENTIAL_DIGITS;
use super::limits::{ANSWER_BYTES_MAX, DELETE_KEYS_MAX, LEASE_KEYS_MAX};
use super::range::{Budget, answer_bytes, range};
use super::rows::Record;
use super::source::{Last, Source, Staged, Visited};
use super::stage::{Stage, Stop};
use crate::api::{
    Body, Compare, Delete, Keys, LeaseId, Operand, Put, Range, Read, Refusal, Relation, Revision, Txn, TxnOp,
};

/// Puts one key.
pub(super) fn put<E: Engine>(stage: &mut Stage<'_, E>, put: Put) -> Result<Body, Stop> {
    let old = stage.source().get(&put.key)?;
    let before = old.as_deref().map(Record::decode).transpose()?;
    let found = || before.ok_or(Refusal::KeyNotFound);
    let lease = match put.lease {
        Some(lease) => lease,
        None => found()?.lease,
    };
    check_lease(&stage.machine.leases, lease, &put.key)?;
    let prev = if put.prev { before.map(|before| before.key_value(&put.key)) } else { None };
    let value = match put.value {
        Some(value) => value,
        None => found()?.value.to_vec(),
    };
    stage.put(put.key, old, &value, lease)?;
    Ok(Body::Put { prev })
}

/// Rejects a lease that does not exist, or that already holds [`LEASE_KEYS_MAX`] keys without this one.
fn check_lease(leases: &super::leases::Leases, lease: LeaseId, key: &[u8]) -> Result<(), Refusal> {
    if lease == 0 {
        return Ok(());
    }
    let held = leases.get(lease).ok_or(Refusal::LeaseNotFound(lease))?;
    if held.keys.len() >= LEASE_KEYS_MAX && !held.keys.contains(key) {
        return Err(Refusal::TooMany { what: "keys of one lease".into(), max: LEASE_KEYS_MAX as u64 });
    }
    Ok(())
}

/// Puts a key that ends in the revision of this write.
pub(super) fn put_sequential<E: Engine>(
    stage: &mut Stage<'_, E>,
    prefix: Vec<u8>,
    value: &[u8],
    lease: LeaseId,
) -> Result<Body, Stop> {
    let mut key = prefix;
    key.extend(format!("{:0SEQUENTIAL_DIGITS$}", stage.next_revision()).into_bytes());
    check_lease(&stage.machine.leases, lease, &key)?;
    let old = stage.source().get(&key)?;
    stage.put(key.clone(), old, value, lease)?;
    Ok(Body::Sequential { key })
}

/// Deletes a range.
pub(super) fn delete<E: Engine>(
    stage: &mut Stage<'_, E>,
    delete: &Delete,
    budget: &mut Budget,
) -> Result<Body, Stop> {
    let Some(rows) = stage.rows(&delete.keys, DELETE_KEYS_MAX)? else {
        let max = DELETE_KEYS_MAX as u64;
        return Err(Refusal::TooMany { what: "keys to delete at once".into(), max }.into());
    };
    budget.look_at(rows.len())?;
    let deleted = rows.len() as u64;
    let mut prev = Vec::new();
    for (key, row) in rows {
        if delete.prev {
            let kv = Record::decode(&row)?.key_value(&key);
            budget.bytes = budget.bytes.checked_sub(answer_bytes(&kv)).ok_or_else(|| too_large("answer"))?;
            prev.push(kv);
        }
        stage.delete(key, row)?;
    }
    Ok(Body::Delete { deleted, prev })
}

fn too_large(what: &str) -> Refusal {
    let max = ANSWER_BYTES_MAX as u64;
    Refusal::TooLarge { what: what.into(), bytes: max + 1, max }
}

/// Deletes the first key of a range and returns it.
pub(super) fn pop_first<E: Engine>(stage: &mut Stage<'_, E>, keys: &Keys) -> Result<Body, Stop> {
    let mut first = None;
    let rest = stage.machine.pops.rest(keys);
    stage.source().scan(&rest, &mut |key, row| {
        first = Some((key.to_vec(), row.to_vec()));
        Ok(ControlFlow::Break(()))
    })?;
    let Some((key, row)) = first else { return Ok(Body::Popped { first: None }) };
    let kv = Record::decode(&row)?.key_value(&key);
    stage.machine.pops.popped(keys, &key);
    stage.delete(key, row)?;
    Ok(Body::Popped { first: Some(kv) })
}

/// Applies a transaction. As in etcd, the conditions of all nested transactions are evaluated first, so that none
/// depends on what the transaction itself writes.
pub(super) fn txn<E: Engine>(stage: &mut Stage<'_, E>, txn: Txn) -> Result<Body, Stop> {
    let (mut verdicts, mut budget) = (VecDeque::new(), Budget::new());
    judge(&stage.source(), &txn, &mut verdicts, &mut budget)?;
    txn_within(stage, txn, &mut verdicts, &mut budget)
}

/// Evaluates the conditions of a transaction and of the nested ones in the chosen branches, in the order of their
/// execution.
fn judge<E: Engine>(
    source: &Source<'_, E>,
    txn: &Txn,
    verdicts: &mut VecDeque<bool>,
    budget: &mut Budget,
) -> Result<(), Stop> {
    let succeeds = holds(source, &txn.compare, budget)?;
    verdicts.push_back(succeeds);
    for op in if succeeds { &txn.then } else { &txn.otherwise } {
        if let TxnOp::Txn(txn) = op {
            judge(source, txn, verdicts, budget)?;
        }
    }
    Ok(())
}

fn txn_within<E: Engine>(
    stage: &mut Stage<'_, E>,
    txn: Txn,
    verdicts: &mut VecDeque<bool>,
    budget: &mut Budget,
) -> Result<Body, Stop> {
    let succeeded = verdicts.pop_front().expect("one verdict for each executed transaction");
    let ops = if succeeded { txn.then } else { txn.otherwise };
    let mut bodies = Vec::with_capacity(ops.len());
    for op in ops {
        bodies.push(match op {
            TxnOp::Range(read) => {
                stage.machine.check_revision(read.revision)?;
                // The transaction's own writes are at the next revision.
                let shown = stage.machine.revision() + u64::from(stage.has_changed());
                Body::Range(range(&stage.source(), &read, shown, budget)?)
            }
            TxnOp::Put(put) => {
                let body = self::put(stage, put)?;
                if let Body::Put { prev: Some(prev) } = &body {
                    let left = budget.bytes.checked_sub(answer_bytes(prev));
                    budget.bytes = left.ok_or_else(|| too_large("answer"))?;
                }
                body
            }
            TxnOp::Delete(delete) => self::delete(stage, &delete, budget)?,
            TxnOp::Txn(txn) => txn_within(stage, txn, verdicts, budget)?,
        });
    }
    Ok(Body::Txn { succeeded, bodies })
}

/// Whether all conditions hold.
fn holds<E: Engine>(source: &Source<'_, E>, compare: &[Compare], budget: &mut Budget) -> Result<bool, Stop> {
    for one in compare {
        if !compare_holds(source, one, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn compare_holds<E: Engine>(
    source: &Source<'_, E>,
    compare: &Compare,
    budget: &mut Budget,
) -> Result<bool, Stop> {
    let (mut holding, mut seen) = (Holding::default(), 0);
    source.scan(&compare.keys, &mut |_, row| {
        seen += 1;
        let goes_on = holding.see(compare, &Record::decode(row)?);
        Ok(if goes_on.is_break() { goes_on } else { budget.has_room(seen) })
    })?;
    budget.look_at(seen)?;
    Ok(holding.verdict(compare))
}

/// Whether a condition holds for the keys seen so far.
#[derive(Default)]
pub(super) struct Holding {
    has_seen: bool,
    fails: bool,
}

impl Holding {
    /// Evaluates the condition for the next key. Returns whether further keys have to be seen.
    pub fn see(&mut self, compare: &Compare, record: &Record<'_>) -> ControlFlow<()> {
        self.has_seen = true;
        self.fails = !relates(compare, record);
        if self.fails { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub fn verdict(&self, compare: &Compare) -> bool {
        if self.has_seen {
            return !self.fails;
        }
        // As in etcd, an absent key has no value to compare with, and zero for everything else.
        let absent = Record { create: 0, modified: 0, version: 0, lease: 0, value: &[] };
        !matches!(compare.to, Operand::Value(_)) && relates(compare, &absent)
    }
}

fn relates(compare: &Compare, record: &Record<'_>) -> bool {
    let order = match &compare.to {
        Operand::Version(version) => record.version.cmp(version),
        Operand::CreateRevision(revision) => record.create.cmp(revision),
        Operand::ModRevision(revision) => record.modified.cmp(revision),
        Operand::Value(value) => record.value.cmp(value),
        Operand::Lease(lease) => record.lease.cmp(lease),
    };
    match compare.is {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
    }
}

/// Conditions and reads of a transaction that is evaluated before it is proposed, at most. A guess.
const LOST_OPS_MAX: usize = 16;

impl<E: Engine> Machine<E> {
    /// The read that answers a transaction whose conditions do not hold in the current state, and that then only
    /// reads: it needs no entry in the log. `None` if the conditions hold, if the transaction is large or on ranges, or
    /// if the engine fails.
    pub fn lost(&self, txn: &Txn) -> Option<Read> {
        let is_small = |range: &Range| matches!(range.keys, Keys::One(_)) && range.revision == 0;
        let reads = txn.otherwise.iter().all(|op| matches!(op, TxnOp::Range(range) if is_small(range)));
        let on_keys = txn.compare.iter().all(|one| matches!(one.keys, Keys::One(_)));
        if !reads || !on_keys || txn.compare.len() + txn.otherwise.len() > LOST_OPS_MAX {
            return None;
        }
        let (staged, last, visited) = (Staged::new(), Last::default(), Visited::default());
        let source = self.source(&staged, &last, &visited);
        let holds = holds(&source, &txn.compare, &mut Budget::new()).unwrap_or(true);
        (!holds).then(|| {
            let Txn { compare, otherwise, .. } = txn.clone();
            Read::Txn(Txn { compare, then: Vec::new(), otherwise })
        })
    }

    /// Rejects a revision that cannot be read; 0 is the latest.
    pub(super) fn check_revision(&self, revision: Revision) -> Result<(), Refusal> {
        if revision > self.state.revision {
            return Err(Refusal::FutureRevision { asked: revision, now: self.state.revision });
        }
        if revision != 0 && revision < self.state.compacted {
            return Err(Refusal::Compacted { asked: revision, oldest: self.state.compacted });
        }
        Ok(())
    }
}
