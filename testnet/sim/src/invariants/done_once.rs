//! No item of a work queue is lost, and the effects of its work are applied once: it leaves the queue in the transaction
//! that applies them, under a reservation that stands.

use starling_history::{Checked, Log, Worker, check_work};

/// All workers of the queue, and everything that happened.
pub fn check<'w>(workers: impl IntoIterator<Item = &'w Worker>, log: &Log) -> Checked {
    check_work(log, workers)
}
