//! The vocabulary of Starling: dots, the values and operations of eventual keyspaces, and the requests and
//! answers of strong keyspaces. Every crate that stores, sends or serves one of them uses the type defined here.
//!
//! Feature `json` adds the JSON of the HTTP API and its OpenAPI schemas.
//!
//! The crate holds data, its encodings and its errors. It does no I/O, reads no clock and depends on no
//! other crate of the workspace.

mod actor;
mod blob;
mod dot;
mod dots;
pub mod eventual;
mod fingerprint;
mod hlc;
#[cfg(feature = "json")]
mod json;
pub mod strong;

pub use actor::{ActorGroup, ActorId};
pub use blob::{Blob, Count, escaped, is_obeyed};
pub use dot::{Dot, DotRange};
pub use dots::DotRanges;
pub use fingerprint::{Root, SPAN_FANOUT, SPAN_LEAF};
pub use hlc::Hlc;

/// The eventual keyspace of requests that name none.
pub const DEFAULT_KEYSPACE: &str = "default";
