//! Pushes of items that have more than a value and a priority.

use starling_types::strong::queue::{NewItem, Order, Pushed, Rules};

use super::keys::{Part, QueueKeys};
use super::{About, Unfitting, found, get, is_absent, outcomes, put};
use crate::api::{Body, LeaseId, Revision, Txn};

/// What a push depends on besides the item.
#[derive(Clone, Copy, Debug)]
pub struct Pushing<'p> {
    /// The rules of the queue.
    pub rules: Rules,
    /// A revision that was read after the push began.
    pub revision: Revision,
    /// What no other push at this revision has.
    pub unique: &'p str,
    /// The client's time, milliseconds since 1970.
    pub now_ms: u64,
    /// The lease of the delay; 0: none.
    pub hold: LeaseId,
    /// The lease for which the item's id is remembered.
    pub memory: LeaseId,
}

/// The key of an item, and the transaction that pushes it.
pub fn push(keys: &QueueKeys, item: NewItem, pushing: Pushing<'_>) -> (Vec<u8>, Txn) {
    let Pushing { rules, revision, unique, now_ms, hold, memory } = pushing;
    let place = if hold != 0 {
        QueueKeys::later(now_ms.saturating_add(item.delay_ms))
    } else if rules.order == Order::Tenants && !item.tenant.is_empty() {
        QueueKeys::of_tenant(&item.tenant)
    } else {
        String::new()
    };
    let key = keys.numbered(&place, item.priority, revision, unique);
    let about = About { attempts: 0, cost_ms: item.cost_ms, pushed_ms: now_ms, tenant: item.tenant };
    let mut txn = Txn { compare: vec![is_absent(key.clone())], ..Txn::default() };
    txn.then.push(put(key.clone(), item.value.0, 0));
    txn.then.push(put(keys.beside(Part::About, &key), about.write(), 0));
    if hold != 0 {
        txn.then.push(put(keys.beside(Part::Hold, &key), Vec::new(), hold));
    }
    if let Some(id) = item.unique {
        let id = keys.unique(&id.0);
        txn.compare.push(is_absent(id.clone()));
        txn.then.push(put(id.clone(), key.clone(), memory));
        txn.otherwise.push(get(id));
    }
    (key, txn)
}

/// The outcome of a push of an item under `key`.
///
/// # Errors
/// Fails if the answer is none to the push.
pub fn pushed(key: Vec<u8>, body: Body) -> Result<Pushed, Unfitting> {
    let (succeeded, mut bodies) = outcomes(body)?;
    if succeeded {
        return Ok(Pushed { key: key.into(), duplicate: false });
    }
    let earlier = bodies.pop().ok_or(Unfitting).and_then(found)?.kvs.pop().ok_or(Unfitting)?;
    Ok(Pushed { key: earlier.value.into(), duplicate: true })
}
