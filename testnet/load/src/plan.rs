//! What is to be done.

use std::net::SocketAddr;
use std::time::Duration;

/// A load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Servers; connections are spread over them in turn.
    pub endpoints: Vec<SocketAddr>,
    /// Each has one request under way.
    pub clients: usize,
    /// HTTP/2 connections that the clients share.
    pub connections: usize,
    /// What is done before this is over does not count.
    pub warm_up: Duration,
    /// How long to count.
    pub duration: Duration,
    /// What every client does, over and over.
    pub work: Work,
    /// Processes whose CPU time is counted.
    pub servers: Vec<u32>,
}

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Puts on keys spread over so many.
    Put {
        /// Length of the values.
        value_bytes: usize,
        /// How many keys there are.
        keys: u64,
    },
    /// Linearizable gets of such keys, which are laid out before.
    Get {
        /// Length of the values.
        value_bytes: usize,
        /// How many keys there are.
        keys: u64,
    },
    /// Read a counter, and write one more if nobody else has written. One that fails is tried again
    /// from its read, at once. What is counted, and timed with all its tries, is success.
    CompareAndSet {
        /// All clients count on one key; otherwise each on its own.
        shared: bool,
    },
    /// Puts on a key that the client watches, one after the other; timed until the watch tells it.
    Watch {
        /// Length of the values.
        value_bytes: usize,
    },
}
