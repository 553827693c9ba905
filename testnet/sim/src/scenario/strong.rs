//! A strong keyspace, and what clients do with it.

use serde::{Deserialize, Serialize};

/// The keyspace's name.
pub const KEYSPACE: &str = "orders";
/// A clock that counts the time that passes gains or loses at most so many per mille. Holders of locks
/// count on it.
pub const GAIN_PERMILLE_MAX: f64 = 100.0;

/// A strong keyspace with its clients. It is made in the warm-up, through any node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StrongLoad {
    /// Voters: 1, 3, 5 or 7.
    pub voters: u8,
    /// Clients that write, read, and compare-and-set: every other one through a member, the rest through
    /// nodes that are none.
    pub clients: usize,
    /// Keys that they share.
    pub keys: u8,
    /// Clients that hold one lock in turn, and write under it with its token.
    pub lockers: usize,
    /// Clients that push to one queue and pop from it.
    pub queuers: usize,
    /// Workers that push to one queue, reserve its items and acknowledge them.
    pub workers: usize,
    /// Watches of everything, of one key, and of deletions.
    pub watchers: usize,
    /// Between an answer and the client's next request, milliseconds, at most.
    pub pause_ms: f64,
    /// How long a sync of a member's disk takes: between these two, milliseconds.
    pub sync_ms: [f64; 2],
    /// A voter that was silent for so long is replaced by itself, seconds.
    pub replace_s: f64,
}

impl Default for StrongLoad {
    fn default() -> Self {
        Self {
            voters: 3,
            clients: 10,
            keys: 5,
            lockers: 3,
            queuers: 2,
            workers: 3,
            watchers: 4,
            pause_ms: 100.0,
            sync_ms: [0.5, 3.0],
            replace_s: 20.0,
        }
    }
}

impl StrongLoad {
    /// What is wrong with the values, if anything is.
    pub(super) fn check(&self, nodes: usize) -> Result<(), String> {
        if !matches!(self.voters, 1 | 3 | 5 | 7) || usize::from(self.voters) > nodes {
            return Err(format!("strong.voters is 1, 3, 5 or 7, and at most {nodes}, the number of nodes"));
        }
        if self.keys == 0 {
            return Err("strong.keys has to be 1 or more".into());
        }
        let [least, most] = self.sync_ms;
        let numbers = [self.pause_ms, self.replace_s, least, most - least];
        let fits = numbers.iter().all(|number| number.is_finite() && (0.0..1e7).contains(number));
        fits.then_some(())
            .ok_or("strong: pause_ms, sync_ms and replace_s are 0 or more, ranges ascending".into())
    }
}
