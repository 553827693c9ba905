//! Leases and locks that commands hold: their release, and the errors when they are lost.

use std::time::Duration;

use starling_client::{Client, Lease, Lost, WaitFailed};

use crate::cli::failure::Failure;
use crate::cli::print;

/// Pause before a failed operation is retried.
pub const AGAIN: Duration = Duration::from_millis(200);

/// The failure when something that was held is lost.
pub fn lost(lost: Lost, what: &str) -> Failure {
    let (why, hint) = match lost {
        Lost::Silent => (
            "the keyspace was not reached in time to keep the lease alive",
            "check that the node is reachable and the keyspace has a leader (`starling keyspace info NAME`); a longer --ttl tolerates longer outages",
        ),
        Lost::Ended => (
            "its lease has ended",
            "check whether this process was suspended or the lease revoked; a longer --ttl tolerates longer outages",
        ),
        Lost::Deleted => ("its key was deleted", "another client deleted it: acquire it again"),
    };
    Failure::lost(format!("{what} was lost: {why}"), hint)
}

/// The failure when a lock or a leadership was not acquired.
pub fn not_reached(failed: WaitFailed) -> Failure {
    match failed {
        WaitFailed::Failed(error) => error.into(),
        WaitFailed::Blocked(key) => Failure::held(
            format!("the key {} is before every client of the queue, and no lease ends it", key.escaped()),
            "names of locks and elections must not be the beginning of other keys: delete the key, or use another name",
        ),
        WaitFailed::Lost(why) => lost(why, "the place in the queue"),
    }
}

/// Revokes a lease, which deletes its keys.
pub async fn give_back(lease: Lease<Client>) {
    let id = lease.id();
    if let Err(error) = lease.revoke().await {
        print::note(format!("lease {id:x} could not be revoked, and will expire: {}", error.message));
    }
}
