//! A Starling node in a process: [`Node::start`] opens a data directory, joins the network and serves
//! typed requests until it is stopped.
//!
//! A node runs on threads of its own and owns nothing global: it sets up no logger, handles no signal,
//! prints nothing and never ends the process. Several nodes run in one process, on different data
//! directories.
//!
//! Two threads: the *gossip* thread owns the network and the core, and never waits for a disk or a client;
//! the *disk* thread syncs the store's log. Reads run on the caller's thread, on snapshots of the store.

mod access;
mod admin;
mod authority;
mod call;
mod clock;
mod command;
mod config;
mod contacts;
mod credentials;
mod data_dir;
mod disk;
mod doctor;
mod error;
mod eventual;
mod gossip;
mod handle;
mod membership;
mod notices;
mod report;
mod setup;
mod shared;
mod start;
mod start_error;
mod strong;
mod upgrade;
pub mod view;
mod watch;

pub use access::{Access, Anonymous, Audit, Caller, TOKEN_WATCHES_MAX, WatchPlace, token_info};
pub use admin::Admin;
pub use authority::AuthorityKey;
pub use call::{Answered, Answers, Call, Calls, EtcdServer, Reply, WatchId, WatchUpdates};
pub use config::{Config, Durability};
pub use data_dir::DataDir;
pub use doctor::examine;
pub use eventual::{EventualKeyspace, Plain, WriteOptions};
pub use handle::Handle;
pub use report::hex;
pub use starling_access::{Capability, Rights};
pub use starling_bootstrap::hide_tickets;
pub use starling_core::Software;
pub use starling_p2p::IdentityError;
pub use starling_proto::Role;
pub use start::{Node, NodeInfo};
pub use start_error::StartError;
pub use strong::{Held, StrongError, StrongKeyspace, StrongWatch, StrongWatchEvent};
pub use watch::{EventualWatch, KeyEvent};

pub use clock::wall_ms;
