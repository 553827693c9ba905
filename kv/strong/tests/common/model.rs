//! The reference model of the state machine, written as simply as possible: it keeps every revision whole.

use std::collections::{BTreeMap, BTreeSet};

use starling_strong::api::*;

type Rows = BTreeMap<Vec<u8>, KeyValue>;

/// A keyspace.
#[derive(Clone, Debug)]
pub struct Model {
    /// The keyspace at each revision, from 1.
    history: Vec<Rows>,
    /// Events of each revision, in order.
    pub events: BTreeMap<Revision, Vec<Event>>,
    pub compacted: Revision,
    pub leases: BTreeMap<LeaseId, BTreeSet<Vec<u8>>>,
    answers: BTreeMap<(u128, u64), Result<Answer, Refusal>>,
    floors: BTreeMap<u128, u64>,
}

/// What the write in progress has done.
struct Draft {
    rows: Rows,
    events: Vec<Event>,
    leases: BTreeMap<LeaseId, BTreeSet<Vec<u8>>>,
}

pub fn contains(keys: &Keys, key: &[u8]) -> bool {
    match keys {
        Keys::One(one) => one == key,
        Keys::Range { from, to } => key >= &from[..] && to.as_ref().is_none_or(|to| key < &to[..]),
    }
}

impl Model {
    pub fn new() -> Self {
        Self {
            history: vec![Rows::new(), Rows::new()],
            events: BTreeMap::new(),
            compacted: 0,
            leases: BTreeMap::new(),
            answers: BTreeMap::new(),
            floors: BTreeMap::new(),
        }
    }

    pub fn revision(&self) -> Revision {
        self.history.len() as u64 - 1
    }

    fn now(&self) -> &Rows {
        self.history.last().expect("there is a first revision")
    }

    /// Applies a write once.
    pub fn write(
        &mut self,
        id: Option<RequestId>,
        fence: Option<&Fence>,
        write: &Write,
    ) -> Result<Answer, Refusal> {
        if let Some(id) = &id {
            if id.seq < self.floors.get(&id.client).copied().unwrap_or(0) {
                return Err(Refusal::Forgotten);
            }
            if let Some(answer) = self.answers.get(&(id.client, id.seq)) {
                return answer.clone();
            }
            if id.answered_below > 1 && !self.floors.contains_key(&id.client) {
                return Err(Refusal::Forgotten);
            }
        }
        let answer = self.write_unnamed(fence, write);
        if let Some(id) = id {
            self.answers.insert((id.client, id.seq), answer.clone());
            let floor = self.floors.entry(id.client).or_default();
            *floor = (*floor).max(id.answered_below.min(id.seq));
        }
        answer
    }

    fn write_unnamed(&mut self, fence: Option<&Fence>, write: &Write) -> Result<Answer, Refusal> {
        if let Write::Txn(txn) = write {
            written_once(&txn.then)?;
            written_once(&txn.otherwise)?;
        }
        if let Some(Fence { lock, token }) = fence {
            let prefix = [&lock[..], b"/"].concat();
            let holders = self.now().values().filter(|kv| kv.key.starts_with(&prefix));
            if holders.map(|kv| kv.create_revision).min() != Some(*token) {
                return Err(Refusal::StaleFence { token: *token });
            }
        }
        let mut draft = Draft { rows: self.now().clone(), events: Vec::new(), leases: self.leases.clone() };
        let body = self.draft(&mut draft, write)?;
        self.leases = draft.leases;
        if !draft.events.is_empty() {
            self.history.push(draft.rows);
            self.events.insert(self.revision(), draft.events);
        }
        Ok(Answer { revision: self.revision(), body })
    }

    fn draft(&mut self, draft: &mut Draft, write: &Write) -> Result<Body, Refusal> {
        let now = self.revision();
        Ok(match write {
            Write::Put(put) => self.put(draft, put)?,
            Write::PutSequential { prefix, value, lease } => {
                let key = [prefix.clone(), format!("{:020}", now + 1).into_bytes()].concat();
                let (value, lease) = (Some(value.clone()), Some(*lease));
                self.put(draft, &Put { key: key.clone(), value, lease, prev: false })?;
                Body::Sequential { key }
            }
            Write::Delete(delete) => self.delete(draft, delete),
            Write::PopFirst { keys } => {
                let first = draft.rows.values().find(|kv| contains(keys, &kv.key)).cloned();
                if let Some(kv) = &first {
                    self.delete(draft, &Delete { keys: Keys::One(kv.key.clone()), prev: false });
                }
                Body::Popped { first }
            }
            Write::Txn(txn) => self.txn(draft, txn)?,
            Write::Compact { revision } => {
                if *revision > now {
                    return Err(Refusal::FutureRevision { asked: *revision, now });
                }
                if *revision <= self.compacted {
                    return Err(Refusal::Compacted { asked: *revision, oldest: self.compacted });
                }
                self.compacted = *revision;
                Body::Compacted
            }
            Write::LeaseGrant { id, ttl_ms } => {
                if draft.leases.insert(*id, BTreeSet::new()).is_some() {
                    return Err(Refusal::LeaseExists(*id));
                }
                Body::LeaseGranted { id: *id, ttl_ms: *ttl_ms }
            }
            Write::LeaseRevoke { id } => {
                let Some(keys) = draft.leases.remove(id) else { return Err(Refusal::LeaseNotFound(*id)) };
                for key in keys {
                    self.delete(draft, &Delete { keys: Keys::One(key), prev: false });
                }
                Body::LeaseRevoked
            }
        })
    }

    fn put(&self, draft: &mut Draft, put: &Put) -> Result<Body, Refusal> {
        let before = draft.rows.get(&put.key).cloned();
        if before.is_none() && put.lease.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let old = before.clone().unwrap_or_default();
        let lease = put.lease.unwrap_or(old.lease);
        if lease != 0 && !draft.leases.contains_key(&lease) {
            return Err(Refusal::LeaseNotFound(lease));
        }
        if before.is_none() && put.value.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let revision = self.revision() + 1;
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone().unwrap_or(old.value),
            create_revision: if before.is_some() { old.create_revision } else { revision },
            mod_revision: revision,
            version: old.version + 1,
            lease,
        };
        if let Some(keys) = draft.leases.get_mut(&old.lease) {
            keys.remove(&put.key);
        }
        if let Some(keys) = draft.leases.get_mut(&lease) {
            keys.insert(put.key.clone());
        }
        draft.rows.insert(put.key.clone(), kv.clone());
        draft.events.push(Event { kv, kind: EventKind::Put, prev: before.clone() });
        Ok(Body::Put { prev: before.filter(|_| put.prev) })
    }

    fn delete(&self, draft: &mut Draft, delete: &Delete) -> Body {
        let mut prev = Vec::new();
        let gone: Vec<KeyValue> =
            draft.rows.values().filter(|kv| contains(&delete.keys, &kv.key)).cloned().collect();
        for kv in gone {
            draft.rows.remove(&kv.key);
            if let Some(keys) = draft.leases.get_mut(&kv.lease) {
                keys.remove(&kv.key);
            }
            let now =
                KeyValue { key: kv.key.clone(), mod_revision: self.revision() + 1, ..KeyValue::default() };
            draft.events.push(Event { kv: now, kind: EventKind::Delete, prev: Some(kv.clone()) });
            prev.push(kv);
        }
        Body::Delete { deleted: prev.len() as u64, prev: if delete.prev { prev } else { Vec::new() } }
    }

    /// Conditions are about what was there before the whole transaction.
    fn txn(&self, draft: &mut Draft, txn: &Txn) -> Result<Body, Refusal> {
        let succeeded = txn.compare.iter().all(|compare| holds(self.now(), compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let bodies: Result<Vec<Body>, Refusal> = ops
            .iter()
            .map(|op| {
                Ok(match op {
                    TxnOp::Range(range) => Body::Range(self.range_of(&draft.rows, range)?),
                    TxnOp::Put(put) => self.put(draft, put)?,
                    TxnOp::Delete(delete) => self.delete(draft, delete),
                    TxnOp::Txn(txn) => self.txn(draft, txn)?,
                })
            })
            .collect();
        Ok(Body::Txn { succeeded, bodies: bodies? })
    }

    pub fn range(&self, range: &Range) -> Result<Found, Refusal> {
        self.range_of(self.now(), range)
    }

    fn range_of(&self, now: &Rows, range: &Range) -> Result<Found, Refusal> {
        let asked = range.revision;
        if asked > self.revision() {
            return Err(Refusal::FutureRevision { asked, now: self.revision() });
        }
        if asked != 0 && asked < self.compacted {
            return Err(Refusal::Compacted { asked, oldest: self.compacted });
        }
        let rows = if asked == 0 { now } else { &self.history[asked as usize] };
        let mut kvs: Vec<KeyValue> =
            rows.values().filter(|kv| contains(&range.keys, &kv.key)).cloned().collect();
        let count = kvs.len() as u64;
        let within = |number: u64, min: u64, max: u64| number >= min && (max == 0 || number <= max);
        kvs.retain(|kv| {
            within(kv.mod_revision, range.min_mod_revision, range.max_mod_revision)
                && within(kv.create_revision, range.min_create_revision, range.max_create_revision)
        });
        if let Some((by, order)) = range.sort {
            kvs.sort_by(|a, b| {
                let compared = match by {
                    SortBy::Key => a.key.cmp(&b.key),
                    SortBy::Version => a.version.cmp(&b.version),
                    SortBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
                    SortBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
                    SortBy::Value => a.value.cmp(&b.value),
                };
                if order == SortOrder::Ascending { compared } else { compared.reverse() }
            });
        }
        if range.count_only {
            return Ok(Found { count, ..Found::default() });
        }
        let more = range.limit != 0 && kvs.len() as u64 > range.limit;
        if more {
            kvs.truncate(range.limit as usize);
        }
        if range.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        Ok(Found { kvs, more, count })
    }

    /// The events of a watch from revision `from` up to now.
    pub fn told(&self, watch: &Watch, from: Revision) -> Vec<Event> {
        let wanted = |event: &&Event| {
            contains(&watch.keys, &event.kv.key) && watch.only.is_none_or(|only| only == event.kind)
        };
        let events = self.events.range(from..).flat_map(|(_, events)| events);
        events
            .filter(wanted)
            .map(|event| Event { prev: event.prev.clone().filter(|_| watch.prev), ..event.clone() })
            .collect()
    }
}

fn holds(rows: &Rows, compare: &Compare) -> bool {
    let relates = |kv: &KeyValue| {
        let order = match &compare.to {
            Operand::Version(version) => kv.version.cmp(version),
            Operand::CreateRevision(revision) => kv.create_revision.cmp(revision),
            Operand::ModRevision(revision) => kv.mod_revision.cmp(revision),
            Operand::Value(value) => kv.value.cmp(value),
            Operand::Lease(lease) => kv.lease.cmp(lease),
        };
        match compare.is {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Greater => order.is_gt(),
            Relation::Less => order.is_lt(),
        }
    };
    let found: Vec<&KeyValue> = rows.values().filter(|kv| contains(&compare.keys, &kv.key)).collect();
    if found.is_empty() {
        return !matches!(compare.to, Operand::Value(_)) && relates(&KeyValue::default());
    }
    found.into_iter().all(relates)
}

/// What a list of operations may put (true) or delete, each with where it stands: the place of an
/// operation in its list and the branch of a transaction by turns.
fn written(ops: &[TxnOp], at: &[usize], all: &mut Vec<(Vec<usize>, bool, Keys)>) {
    for (number, op) in ops.iter().enumerate() {
        let at = [at, &[number]].concat();
        match op {
            TxnOp::Range(_) => {}
            TxnOp::Put(put) => all.push((at, true, Keys::One(put.key.clone()))),
            TxnOp::Delete(delete) => all.push((at, false, delete.keys.clone())),
            TxnOp::Txn(txn) => {
                written(&txn.then, &[&at[..], &[0]].concat(), all);
                written(&txn.otherwise, &[&at[..], &[1]].concat(), all);
            }
        }
    }
}

/// No key is put twice, or put and deleted, whichever branches are taken.
fn written_once(ops: &[TxnOp]) -> Result<(), Refusal> {
    let mut all = Vec::new();
    written(ops, &[], &mut all);
    for (at, is_put, keys) in &all {
        let Keys::One(key) = keys else { continue };
        for (other_at, _, other) in all.iter().filter(|(other_at, ..)| other_at != at) {
            // Two branches of one transaction exclude each other.
            let parted =
                at.iter().zip(other_at).position(|(a, b)| a != b).expect("one is no part of the other");
            if *is_put && parted % 2 == 0 && contains(other, key) {
                return Err(Refusal::DuplicateKey);
            }
        }
    }
    Ok(())
}
