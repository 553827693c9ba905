//! Reservations of items, and their ends.

use starling_types::strong::queue::{Order, Receipt, Reserved, Rules};

use super::keys::{Part, QueueKeys};
use super::search::{Free, job};
use super::{About, Unfitting, delete, found, get, is, is_absent, outcomes, put, read_rules};
use crate::api::{Body, Compare, LeaseId, Operand, Revision, Txn, TxnOp};

/// The transaction that reserves free items under a lease, all or none. `rate`: how fast the worker is, in any unit that
/// all workers of the queue use, which others see as long as the lease lasts, where the order depends on it.
pub fn claim(keys: &QueueKeys, rules: &Rules, items: &[Free], lease: LeaseId, rate: Option<u64>) -> Txn {
    let mut txn = Txn { compare: are_free(keys, items), ..Txn::default() };
    for item in items {
        let about = About { attempts: item.about.attempts + 1, ..item.about.clone() };
        txn.then.extend([
            get(item.key.clone()),
            put(keys.beside(Part::Claim, &item.key), Vec::new(), lease),
            put(keys.beside(Part::About, &item.key), about.write(), 0),
        ]);
    }
    let last = items.last().and_then(|item| job(keys, item));
    if let Some(last) = last.filter(|_| rules.order == Order::Tenants) {
        txn.then.push(put(keys.turn(), last.tenant, 0));
    }
    if let Some(rate) = rate.filter(|_| rules.order == Order::Longest) {
        txn.then.push(put(keys.rate(lease), rate.to_string(), lease));
    }
    txn
}

/// The conditions that items are as they were found, and free.
fn are_free(keys: &QueueKeys, items: &[Free]) -> Vec<Compare> {
    let conditions = items.iter().flat_map(|item| {
        [
            is(item.key.clone(), Operand::ModRevision(item.written)),
            is_absent(keys.beside(Part::Claim, &item.key)),
            is(keys.beside(Part::About, &item.key), Operand::ModRevision(item.noted)),
        ]
    });
    conditions.collect()
}

/// The reservations that a claim has made; `None`: another worker was faster. An item whose value did not fit into the
/// answer is marked `false`: it is reserved, and has to be read.
///
/// # Errors
/// Fails if the answer is none to the claim.
pub fn claimed(
    keys: &QueueKeys,
    items: Vec<Free>,
    lease: LeaseId,
    token: Revision,
    body: Body,
) -> Result<Option<Vec<(Reserved, bool)>>, Unfitting> {
    let (succeeded, bodies) = outcomes(body)?;
    if !succeeded {
        return Ok(None);
    }
    let mut bodies = bodies.into_iter();
    let mut reserved = Vec::new();
    for item in items {
        let value = bodies.next().ok_or(Unfitting).and_then(found)?.kvs.pop().map(|kv| kv.value);
        drop((bodies.next(), bodies.next()));
        let priority = keys.place(&item.key).map_or(0, |place| place.priority);
        let About { attempts, cost_ms, tenant, .. } = item.about;
        let (receipt, attempts) = (Receipt { key: item.key.into(), token, lease }, attempts + 1);
        let is_complete = value.is_some();
        let value = value.unwrap_or_default().into();
        reserved.push((Reserved { receipt, value, attempts, priority, cost_ms, tenant }, is_complete));
    }
    Ok(Some(reserved))
}

/// The condition that a reservation stands.
fn stands(keys: &QueueKeys, receipt: &Receipt) -> Compare {
    is(keys.beside(Part::Claim, &receipt.key.0), Operand::CreateRevision(receipt.token))
}

/// Deletes an item with what stands beside it.
fn remove(keys: &QueueKeys, item: &[u8]) -> [TxnOp; 3] {
    // The item is last: a client that waits for free items sees in the same revision that this one is gone.
    let beside = |part| delete(keys.beside(part, item));
    [beside(Part::Claim), beside(Part::About), delete(item.to_vec())]
}

/// The transaction that acknowledges items and applies the effects of the work, if all reservations stand; the outcomes of
/// the effects are the first ones. Otherwise it reads the claims.
pub fn acknowledge(keys: &QueueKeys, receipts: &[Receipt], effects: Vec<TxnOp>) -> Txn {
    let compare: Vec<Compare> = receipts.iter().map(|receipt| stands(keys, receipt)).collect();
    #[cfg(planted)]
    let compare = if starling_planted::on(starling_planted::Bug::AcknowledgedWithoutClaim) {
        Vec::new()
    } else {
        compare
    };
    let removed = receipts.iter().flat_map(|receipt| remove(keys, &receipt.key.0));
    let then = effects.into_iter().chain(removed).collect();
    let claims = receipts.iter().map(|receipt| get(keys.beside(Part::Claim, &receipt.key.0)));
    Txn { compare, then, otherwise: claims.collect() }
}

/// The transaction that ends a reservation: the item is free.
pub fn release(keys: &QueueKeys, receipt: &Receipt) -> Txn {
    let then = vec![delete(keys.beside(Part::Claim, &receipt.key.0))];
    Txn { compare: vec![stands(keys, receipt)], then, otherwise: Vec::new() }
}

/// An item that moves to another place, which copies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The item.
    pub value: Vec<u8>,
    /// What is known of it.
    pub about: About,
}

/// The read of an item that is to be moved, and of the rules.
pub fn stored_read(keys: &QueueKeys, item: &[u8]) -> Txn {
    let then = vec![get(keys.rules()), get(item.to_vec()), get(keys.beside(Part::About, item))];
    Txn { then, ..Txn::default() }
}

/// The rules, and the item that was read; `None`: there is none any more.
///
/// # Errors
/// Fails if the answer is none to the read.
pub fn stored(body: Body) -> Result<(Rules, Option<Stored>), Unfitting> {
    let mut bodies = outcomes(body)?.1.into_iter();
    let mut next = || bodies.next().ok_or(Unfitting).and_then(found).map(|mut found| found.kvs.pop());
    let (rules, item, about) = (next()?, next()?, next()?);
    let about = about.map(|kv| About::read(&kv.value)).unwrap_or_default();
    Ok((read_rules(rules), item.map(|kv| Stored { value: kv.value, about })))
}

/// The condition under which an item may be moved.
#[derive(Clone, Copy, Debug)]
pub enum Guard<'g> {
    /// The reservation stands.
    Reserved(&'g Receipt),
    /// It is as it was found, and free.
    Free(&'g Free),
    /// It is dead.
    Dead(&'g [u8]),
}

impl Guard<'_> {
    fn key(&self) -> &[u8] {
        match self {
            Self::Reserved(receipt) => &receipt.key.0,
            Self::Free(free) => &free.key,
            Self::Dead(key) => key,
        }
    }

    fn conditions(&self, keys: &QueueKeys) -> Vec<Compare> {
        match self {
            Self::Reserved(receipt) => vec![stands(keys, receipt)],
            Self::Free(free) => are_free(keys, std::slice::from_ref(free)),
            Self::Dead(key) => {
                let exists = is(key.to_vec(), Operand::CreateRevision(0));
                vec![Compare { is: crate::api::Relation::NotEqual, ..exists }]
            }
        }
    }

    /// The transaction that moves the item. `None`: the key is no item's.
    fn move_to(&self, keys: &QueueKeys, place: &str, stored: Stored, hold: LeaseId) -> Option<Txn> {
        let key = keys.moved(place, &keys.place(self.key())?);
        let mut then = remove(keys, self.key()).to_vec();
        then.push(put(keys.beside(Part::About, &key), stored.about.write(), 0));
        if hold != 0 {
            then.push(put(keys.beside(Part::Hold, &key), Vec::new(), hold));
        }
        then.push(put(key, stored.value, 0));
        Some(Txn { compare: self.conditions(keys), then, otherwise: Vec::new() })
    }
}

/// The transaction that returns an item with a delay, for as long as the lease `hold` lasts.
pub fn postpone(
    keys: &QueueKeys,
    receipt: &Receipt,
    stored: Stored,
    due_ms: u64,
    hold: LeaseId,
) -> Option<Txn> {
    Guard::Reserved(receipt).move_to(keys, &QueueKeys::later(due_ms), stored, hold)
}

/// The transaction that makes an item a dead letter.
pub fn bury(keys: &QueueKeys, guard: Guard<'_>, stored: Stored) -> Option<Txn> {
    guard.move_to(keys, "dead/", stored, 0)
}

/// The transaction that makes a dead letter an item again, which was never reserved.
pub fn revive(keys: &QueueKeys, rules: &Rules, key: &[u8], mut stored: Stored) -> Option<Txn> {
    stored.about.attempts = 0;
    let tenant = &stored.about.tenant;
    let is_turned = rules.order == Order::Tenants && !tenant.is_empty();
    let place = if is_turned { QueueKeys::of_tenant(tenant) } else { String::new() };
    Guard::Dead(key).move_to(keys, &place, stored, 0)
}

/// The transaction that takes a free item and deletes it. `memory`: the request id under which the item is to be found
/// again, and the lease for which it is.
pub fn pop(keys: &QueueKeys, item: &Free, memory: Option<(u128, LeaseId)>, value: &[u8]) -> Txn {
    let (mut compare, mut then) = (are_free(keys, std::slice::from_ref(item)), vec![get(item.key.clone())]);
    if let Some((id, lease)) = memory {
        compare.push(is_absent(keys.popped(id)));
        then.push(put(keys.popped(id), value, lease));
    }
    then.extend(remove(keys, &item.key));
    Txn { compare, then, otherwise: Vec::new() }
}
