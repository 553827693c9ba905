//! The API of a Starling node: every request and answer as a type, the one [`Error`], and the traits
//! [`Eventual`] and [`Strong`] that an embedded node and a client of a remote one have in common.
//!
//! The HTTP server carries these types as JSON and describes them in `/openapi.json`.

pub mod admin;
mod data;
mod error;
mod node;
pub mod queue;
pub mod strong;
pub mod token;
pub mod trust;
mod watch;
mod write;

use std::time::Duration;

pub use data::{Entry, KeyInfo, KeyspaceInfo, Keyspaces, Listing};
pub use error::{Error, ErrorCode, Retry};
pub use node::{Events, Eventual, Precondition, Range, Strong};
pub use starling_types::eventual::data::*;
pub use starling_types::eventual::{Batch, Check, Write};
pub use starling_types::{Blob, Count, DEFAULT_KEYSPACE, escaped, is_obeyed};
pub use watch::WatchEvent;
pub use write::{BatchResponse, Increment, MapUpdate, Members};

/// Time after which a watch that has nothing to report sends a comment, so that its client notices when the node is gone.
pub const WATCH_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Header of a write to an eventual keyspace by a client that wants to know whether it makes the keyspace; the answer has it,
/// too, if it does.
pub const NEW_KEYSPACE_HEADER: &str = "x-starling-new-keyspace";
/// Header of the refusal of an administrative request: the path of the unix socket that serves it, percent-encoded.
pub const SOCKET_HEADER: &str = "x-starling-socket";
/// Header of a raw value: how many concurrent values the key holds, the shown one included.
pub const SIBLINGS_HEADER: &str = "x-starling-siblings";
/// Header of a raw value: when it expires, milliseconds since the Unix epoch.
pub const EXPIRES_HEADER: &str = "x-starling-expires-at-ms";
/// Keys in one page of a listing by default.
pub const PAGE_KEYS_DEFAULT: usize = 1_000;
/// Keys in one page of a listing, and members or fields in one page of a set or map, at most.
pub const PAGE_KEYS_MAX: usize = 10_000;
/// What the name of a keyspace begins with to name the eventual keys under it also where a strong keyspace has the name: they
/// can be read and deleted. No name has a colon.
pub const EVENTUAL_PREFIX: &str = "eventual:";
/// The default address of a node's API.
pub const API_DEFAULT: &str = "127.0.0.1:7401";
