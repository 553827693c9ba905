//! Leases and turns as commands hold them: how they are given back, and what is said when they are lost.

use std::time::Duration;

use starling_client::{Client, Lease, Lost, WaitFailed};

use crate::cli::failure::Failure;

/// Pause before something that failed is tried again.
pub const AGAIN: Duration = Duration::from_millis(200);

/// What to say when something is lost.
pub fn lost(lost: Lost, what: &str) -> Failure {
    let (why, hint) = match lost {
        Lost::Silent => (
            "the keyspace was not reached in time to keep the lease alive",
            "is the node reached, and the keyspace led? `starling keyspace info` tells; a longer --ttl bridges more",
        ),
        Lost::Ended => (
            "its lease has ended",
            "was this process stopped, or the lease revoked? a longer --ttl bridges more",
        ),
        Lost::Deleted => ("its key was deleted", "somebody took it away: ask for it again"),
    };
    Failure::lost(format!("{what} was lost: {why}"), hint)
}

/// What to say when a turn was not reached.
pub fn not_reached(failed: WaitFailed) -> Failure {
    match failed {
        WaitFailed::Failed(error) => error.into(),
        WaitFailed::Lost(why) => lost(why, "the place in the line"),
    }
}

/// Ends a lease, and with it the keys that go with it.
pub async fn give_back(lease: Lease<Client>) {
    let id = lease.id();
    if let Err(error) = lease.revoke().await {
        eprintln!("note: lease {id:x} could not be given back, and ends by itself: {}", error.message);
    }
}
