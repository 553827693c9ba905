//! Validation of requests that does not depend on the state: sizes, counts, duplicate keys.

use std::collections::BTreeSet;

use super::limits::{
    KEY_BYTES_MAX, LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN, TXN_OPS_ALL_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX,
    WRITE_BYTES_MAX,
};
use super::sessions::DATED;
use crate::api::{Delete, Keys, Operand, Put, Refusal, Txn, TxnOp, Write};
use crate::codec::{TXN_DEPTH_MAX, TXN_DEPTH_MAX_BEFORE_DATED};

/// Digits of the number at the end of a sequential key: as many as the largest `u64` has.
pub(super) const SEQUENTIAL_DIGITS: usize = 20;

/// Transactions within transactions, at most, in a group that has adopted this data version.
pub fn txn_depth_max(version: u16) -> u8 {
    if version < DATED { TXN_DEPTH_MAX_BEFORE_DATED } else { TXN_DEPTH_MAX }
}

/// Validates a write to a group that has adopted this data version.
///
/// # Errors
/// Why the keyspace would refuse it, whatever it holds.
pub fn write(version: u16, write: &Write) -> Result<(), Refusal> {
    match write {
        Write::Put(put) => self::put(put).map(drop),
        Write::PutSequential { prefix, value, .. } => {
            limit("sequential key", prefix.len() + SEQUENTIAL_DIGITS, KEY_BYTES_MAX)?;
            limit("value", value.len(), VALUE_BYTES_MAX)
        }
        Write::Delete(delete) => keys(&delete.keys),
        Write::PopFirst { keys } => self::keys(keys),
        Write::Txn(txn) => self::txn(version, txn),
        Write::LeaseGrant { ttl_ms, .. } if !(LEASE_TTL_MS_MIN..=LEASE_TTL_MS_MAX).contains(ttl_ms) => {
            Err(Refusal::LeaseTtl)
        }
        Write::LeaseGrant { .. } | Write::LeaseRevoke { .. } | Write::Compact { .. } => Ok(()),
    }
}

/// Validates a transaction and all nested ones.
pub(super) fn txn(version: u16, txn: &Txn) -> Result<(), Refusal> {
    let mut sizes = Sizes { ops: 0, bytes: 0, depth_max: txn_depth_max(version) };
    sizes.txn(txn, 1)?;
    limit("transaction", sizes.bytes, WRITE_BYTES_MAX)?;
    written(&txn.then)?;
    written(&txn.otherwise).map(drop)
}

/// Whether a write may need space, so that the quota applies to it. Deletions, compactions and revocations always
/// work.
pub(super) fn grows(write: &Write) -> bool {
    match write {
        Write::Put(_) | Write::PutSequential { .. } | Write::LeaseGrant { .. } => true,
        Write::Txn(txn) => puts(txn),
        Write::Delete(_) | Write::PopFirst { .. } | Write::Compact { .. } | Write::LeaseRevoke { .. } => {
            false
        }
    }
}

fn puts(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.otherwise).any(|op| match op {
        TxnOp::Put(_) => true,
        TxnOp::Range(_) | TxnOp::Delete(_) => false,
        TxnOp::Txn(txn) => puts(txn),
    })
}

fn put(put: &Put) -> Result<usize, Refusal> {
    key(&put.key)?;
    let value_bytes = put.value.as_ref().map_or(0, Vec::len);
    limit("value", value_bytes, VALUE_BYTES_MAX)?;
    Ok(put.key.len() + value_bytes)
}

fn key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    limit("key", key.len(), KEY_BYTES_MAX)
}

/// Validates one key or a range. A range may begin with the empty key, which is before all others.
pub(super) fn keys(keys: &Keys) -> Result<(), Refusal> {
    match keys {
        Keys::One(one) => key(one),
        Keys::Range { from, to } => {
            limit("key", from.len(), KEY_BYTES_MAX)?;
            limit("key", to.as_ref().map_or(0, Vec::len), KEY_BYTES_MAX)
        }
    }
}

fn keys_bytes(keys: &Keys) -> usize {
    match keys {
        Keys::One(key) => key.len(),
        Keys::Range { from, to } => from.len() + to.as_ref().map_or(0, Vec::len),
    }
}

fn limit(what: &str, bytes: usize, max: usize) -> Result<(), Refusal> {
    if bytes > max {
        return Err(Refusal::TooLarge { what: what.into(), bytes: bytes as u64, max: max as u64 });
    }
    Ok(())
}

/// The operations and bytes of a transaction and all nested ones.
struct Sizes {
    ops: usize,
    bytes: usize,
    depth_max: u8,
}

impl Sizes {
    fn txn(&mut self, txn: &Txn, depth: u8) -> Result<(), Refusal> {
        let too_many = |max: usize| Refusal::TooManyOps { max: max as u64 };
        if depth > self.depth_max {
            return Err(too_many(TXN_OPS_ALL_MAX));
        }
        let longest = txn.compare.len().max(txn.then.len()).max(txn.otherwise.len());
        if longest > TXN_OPS_MAX {
            return Err(too_many(TXN_OPS_MAX));
        }
        self.ops += txn.compare.len() + txn.then.len() + txn.otherwise.len();
        if self.ops > TXN_OPS_ALL_MAX {
            return Err(too_many(TXN_OPS_ALL_MAX));
        }
        for compare in &txn.compare {
            keys(&compare.keys)?;
            self.bytes += keys_bytes(&compare.keys);
            if let Operand::Value(value) = &compare.to {
                limit("value", value.len(), VALUE_BYTES_MAX)?;
                self.bytes += value.len();
            }
        }
        txn.then.iter().chain(&txn.otherwise).try_for_each(|op| self.op(op, depth))
    }

    fn op(&mut self, op: &TxnOp, depth: u8) -> Result<(), Refusal> {
        match op {
            TxnOp::Range(range) => {
                keys(&range.keys)?;
                self.bytes += keys_bytes(&range.keys);
            }
            TxnOp::Put(put) => self.bytes += self::put(put)?,
            TxnOp::Delete(Delete { keys, .. }) => {
                self::keys(keys)?;
                self.bytes += keys_bytes(keys);
            }
            TxnOp::Txn(txn) => self.txn(txn, depth + 1)?,
        }
        Ok(())
    }
}

/// The keys that a list of operations may write, in all nested branches.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a Keys>,
}

impl<'a> Written<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), Refusal> {
        if !self.puts.insert(key) {
            return Err(Refusal::DuplicateKey);
        }
        self.not_deleted(key)
    }

    fn not_deleted(&self, key: &[u8]) -> Result<(), Refusal> {
        if self.deletes.iter().any(|keys| contains(keys, key)) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }
}

/// Collects the keys that `ops` may write, and rejects a key that could be written twice.
///
/// A key has at most one record at a revision, so it may be put at most once. The two branches of a transaction
/// exclude each other, so both may put it. As in etcd, a key may not be both put and deleted.
fn written(ops: &[TxnOp]) -> Result<Written<'_>, Refusal> {
    let mut all = Written::default();
    for op in ops {
        if let TxnOp::Delete(delete) = op {
            all.deletes.push(&delete.keys);
        }
    }
    for op in ops {
        let TxnOp::Txn(txn) = op else { continue };
        let (then, otherwise) = (written(&txn.then)?, written(&txn.otherwise)?);
        let deletes: Vec<_> = then.deletes.into_iter().chain(otherwise.deletes).collect();
        if all.puts.iter().any(|key| deletes.iter().any(|keys| contains(keys, key))) {
            return Err(Refusal::DuplicateKey);
        }
        for key in &then.puts {
            all.put(key)?;
        }
        for key in &otherwise.puts {
            if then.puts.contains(key) {
                continue;
            }
            all.put(key)?;
        }
        all.deletes.extend(deletes);
    }
    for op in ops {
        if let TxnOp::Put(put) = op {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

/// Whether `keys` contains `key`.
pub(super) fn contains(keys: &Keys, key: &[u8]) -> bool {
    match keys {
        Keys::One(one) => one == key,
        Keys::Range { from, to } => {
            key >= from.as_slice() && to.as_ref().is_none_or(|to| key < to.as_slice())
        }
    }
}
