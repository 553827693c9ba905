//! Workers of one queue, which push, reserve and acknowledge by the product's own recipe ([`starling_strong::queue`]). Some
//! die with an item, and some are too late.

use starling_history::{Checked, EFFECTS, Fate, WORK, Worker};
use starling_strong::api::queue::{Receipt, Rules};
use starling_strong::api::{Answer, Body, LeaseId, Put, Request, TxnOp, Write};
use starling_strong::queue::{
    Findings, Free, Hints, QueueKeys, Search, Unfitting, acknowledge, claim, claimed, release,
};

use super::actors::{Outcome, Step, Told};

/// The time of a reservation without a sign of life, milliseconds: as long as that of the lock.
const RESERVED_MS: u64 = 2_000;
/// The priority of all items.
const PRIORITY: u16 = 1000;

/// What a worker waits for.
enum Doing {
    Nothing,
    Pushing(String),
    Searching(Box<Search>),
    Granting(Rules, Free),
    Claiming(Free, LeaseId),
    /// It does this item, which it has.
    Working(Receipt, String),
    Renewing(Receipt, String),
    Acknowledging(String),
    Releasing,
}

/// A client that pushes items and does them.
pub struct WorkClient {
    pub worker: Worker,
    keys: QueueKeys,
    hints: Hints,
    doing: Doing,
}

impl WorkClient {
    pub fn new(number: usize) -> Self {
        let (worker, keys) = (Worker::new(number as u64), QueueKeys::new(WORK));
        Self { worker, keys, hints: Hints::default(), doing: Doing::Nothing }
    }

    pub fn next(&mut self, draw: u64) -> Step {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Searching(search) => {
                let request = Request::txn(search.read());
                self.doing = Doing::Searching(search);
                ask(request)
            }
            Doing::Granting(rules, free) => {
                self.doing = Doing::Granting(rules, free);
                ask(Write::LeaseGrant { id: 0, ttl_ms: RESERVED_MS })
            }
            Doing::Claiming(free, lease) => {
                let txn = claim(&self.keys, &Rules::default(), std::slice::from_ref(&free), lease, None);
                self.doing = Doing::Claiming(free, lease);
                ask(Write::Txn(txn))
            }
            Doing::Working(receipt, item) => self.work(receipt, item, draw),
            _ if draw.is_multiple_of(3) => {
                let item = self.worker.item();
                let (prefix, value) = (self.keys.sequential(PRIORITY), item.clone().into_bytes());
                self.doing = Doing::Pushing(item);
                ask(Write::PutSequential { prefix, value, lease: 0 })
            }
            _ => {
                let search = Search::new(self.keys.clone(), self.hints.clone(), 1, None);
                let request = Request::txn(search.read());
                self.doing = Doing::Searching(Box::new(search));
                ask(request)
            }
        }
    }

    /// What it does next with an item that it has.
    fn work(&mut self, receipt: Receipt, item: String, draw: u64) -> Step {
        match draw % 8 {
            // It dies, and begins anew with nothing in its hands.
            0 => Step::Wait(1 + draw / 8 % RESERVED_MS),
            // It takes its time, perhaps too much of it.
            1 | 2 => {
                self.doing = Doing::Working(receipt, item);
                Step::Wait(1 + draw / 8 % (2 * RESERVED_MS))
            }
            3 => {
                let request = Request::KeepAlive { id: receipt.lease };
                self.doing = Doing::Renewing(receipt, item);
                ask(request)
            }
            4 => {
                self.doing = Doing::Releasing;
                ask(Write::Txn(release(&self.keys, &receipt)))
            }
            _ => {
                let effect = Put::new([EFFECTS, item.as_bytes()].concat(), Vec::new());
                self.doing = Doing::Acknowledging(item);
                ask(Write::Txn(acknowledge(&self.keys, &[receipt], vec![TxnOp::Put(effect)])))
            }
        }
    }

    pub fn learn(&mut self, outcome: Outcome) -> Checked {
        let doing = std::mem::replace(&mut self.doing, Doing::Nothing);
        let unfitting = |error: Unfitting| starling_history::Violation(error.to_string());
        let answer = match (outcome.result, &doing) {
            (Told::Answer(answer), _) => answer,
            (Told::Refused(_) | Told::Failed, Doing::Pushing(item)) => {
                self.worker.pushed(item, Fate::Failed);
                return Ok(());
            }
            // Its lease has ended, or nobody has answered: it begins anew.
            (Told::Refused(_) | Told::Failed | Told::Unknown, _) => return Ok(()),
        };
        match doing {
            Doing::Pushing(item) => self.worker.pushed(&item, Fate::Done),
            Doing::Searching(mut search) => {
                match search.step(answer.revision, answer.body).map_err(unfitting)? {
                    None => self.doing = Doing::Searching(search),
                    Some(Findings { rules, free, .. }) => {
                        self.hints = search.into_hints();
                        if let Some(first) = free.into_iter().next() {
                            self.doing = Doing::Granting(rules, first);
                        }
                    }
                }
            }
            Doing::Granting(_, free) => {
                if let Body::LeaseGranted { id, .. } = answer.body {
                    self.doing = Doing::Claiming(free, id);
                }
            }
            Doing::Claiming(free, lease) => {
                let Answer { revision, body } = answer;
                let made = claimed(&self.keys, vec![free], lease, revision, body).map_err(unfitting)?;
                if let Some((reserved, _)) = made.and_then(|mut made| made.pop()) {
                    self.doing = Doing::Working(reserved.receipt, reserved.value.escaped());
                }
            }
            Doing::Renewing(receipt, item) | Doing::Working(receipt, item) => {
                self.doing = Doing::Working(receipt, item);
            }
            Doing::Acknowledging(item) => {
                if matches!(answer.body, Body::Txn { succeeded: true, .. }) {
                    self.worker.acknowledged(&item);
                }
            }
            Doing::Releasing | Doing::Nothing => {}
        }
        Ok(())
    }
}

fn ask(request: impl Into<Request>) -> Step {
    Step::Ask { request: request.into(), fence: None, once: false, stale: false }
}
