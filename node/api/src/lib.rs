//! The API of a Starling node: every request and answer as a type, and a client.
//!
//! The node serves these types over HTTP/JSON and describes them in `/openapi.json`; the command
//! line, the test network and the tests speak to a node through [`Client`] and nothing else.

pub mod admin;
mod client;
mod data;
mod error;
pub mod strong;
mod watch;
mod write;

pub use client::{Client, Precondition, Range, RawValue};
pub use data::{Entry, KeyInfo, KeyspaceInfo, Keyspaces, Listing};
pub use error::{Error, ErrorBody, ErrorCode};
pub use starling_types::eventual::data::*;
pub use starling_types::eventual::{Batch, Check, Write};
pub use starling_types::{Blob, Count, DEFAULT_KEYSPACE};
pub use watch::{Watch, WatchEvent};
pub use write::{BatchResponse, Increment, MapUpdate, Members};

/// Header of a raw value: how many concurrent values the key holds, the shown one included.
pub const SIBLINGS_HEADER: &str = "x-starling-siblings";
/// Header of a raw value: when it expires, milliseconds since the Unix epoch.
pub const EXPIRES_HEADER: &str = "x-starling-expires-at-ms";
/// Keys in one page of a listing when the request does not say.
pub const PAGE_KEYS_DEFAULT: usize = 1_000;
/// Most keys in one page of a listing, and most members or fields in one page of a set or map.
pub const PAGE_KEYS_MAX: usize = 10_000;
/// Where a node listens for its API unless told otherwise.
pub const API_DEFAULT: &str = "127.0.0.1:7401";
