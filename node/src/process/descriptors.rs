//! File descriptors: as many as the system allows, divided so that clients cannot take those of the store and of peers.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors for the store (256 files), connections of strangers before they are admitted as peers, the unix socket's
/// connections (32), the log, timers and threads. Guesses for all but the files.
const OWN: u64 = 256 + 256 + 32 + 32;
/// Connections of one server, at least: tools must get in.
const SHARE_MIN: u64 = 8;

/// Raises the limit to what the system allows without privileges, and returns how many connections each of `servers` may
/// have at a time beside `peers` connections.
pub fn divide(peers: u64, servers: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit of open files stays as it is");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = share(limit, peers, servers);
    if share == SHARE_MIN {
        warn!(
            limit,
            needed = OWN + peers + 64,
            "few files may be open at a time: raise the limit (LimitNOFILE, ulimit -n)"
        );
    }
    usize::try_from(share).unwrap_or(usize::MAX)
}

fn share(limit: u64, peers: u64, servers: usize) -> u64 {
    (limit.saturating_sub(OWN + peers) / servers.max(1) as u64).max(SHARE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_share_what_the_store_and_peers_leave() {
        assert_eq!(share(1024, 256, 1), 192);
        assert_eq!(share(1024, 256, 4), 48);
        assert_eq!(share(256, 256, 1), SHARE_MIN);
        assert_eq!(share(u64::MAX, 256, 2), (u64::MAX - 832) / 2);
    }
}
