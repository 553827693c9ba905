//! Strong keyspaces: keys that need one order, kept by a Raft group. Knows no network, no clock and no
//! thread: what a client asks is a [`api::Request`], and time is an argument.

pub mod group;
pub mod line;
pub mod log;
pub mod machine;
pub mod members;
pub mod registry;

mod limits;

pub use starling_types::strong as api;
pub use starling_types::strong::codec;
