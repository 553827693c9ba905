//! A Starling node in a process: [`Node::start`] opens a data directory, joins the network and serves
//! typed requests until it is stopped.
//!
//! A node runs on threads of its own and owns nothing global: it sets up no logger, handles no signal,
//! prints nothing and never ends the process. Several nodes run in one process, on different data
//! directories.
//!
//! Two threads: the *gossip* thread owns the network and the core, and never waits for a disk or a client;
//! the *disk* thread syncs the store's log. Reads run on the caller's thread, on snapshots of the store.

pub mod advice;
mod call;
mod clock;
mod command;
mod config;
mod contacts;
mod data_dir;
mod disk;
mod doctor;
mod error;
mod gossip;
mod membership;
mod notices;
mod report;
mod setup;
mod start;
mod strong;
mod upgrade;

pub use call::{Answered, Answers, Call, Calls, Reply, WatchId, WatchUpdates};
pub use clock::wall_ms;
pub use command::{ChangeSet, Gossip};
pub use config::{Config, Durability};
pub use data_dir::DataDir;
pub use doctor::{check_running, examine};
pub use error::DaemonError;
pub use report::hex;
pub use starling_core::Software;
pub use starling_proto::Role;
pub use start::{Node, NodeInfo};
pub use strong::{Held, Manage, ManageFailure, Names};
pub use upgrade::FinalizeError;
