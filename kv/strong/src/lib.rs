//! Strong keyspaces: keys whose operations have one order, replicated by a Raft group. This crate uses no
//! network, no clock and no thread: a client's request is an [`api::Request`], and time is an argument.

pub mod group;
pub mod line;
pub mod log;
pub mod machine;
pub mod members;
pub mod queue;
pub mod registry;

mod limits;

pub use starling_types::strong as api;
pub use starling_types::strong::codec;
