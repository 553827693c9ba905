//! What a client of a strong keyspace sends again under the same name is done once: every item that was pushed
//! is in the queue once, leaves it as the first, and is given to one client.

use starling_history::{Checked, Log, Queuer, check_queue};

/// All clients of the queue, and everything that happened.
pub fn check<'q>(queuers: impl IntoIterator<Item = &'q Queuer>, log: &Log) -> Checked {
    check_queue(log, queuers)
}
