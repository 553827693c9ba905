//! The daemon: files, threads, start and stop.
//!
//! Three threads, and one more where there are etcd clients to serve: this one becomes the gossip thread, which owns the network and the core and never
//! waits for a disk or a client; one serves the API and reads from snapshots; one waits for the disk.

mod api;
mod banner;
mod clock;
mod command;
mod contacts;
mod data_dir;
mod disk;
mod doctor;
mod error;
mod etcd;
mod gossip;
mod membership;
mod notices;
mod report;
mod setup;
mod socket;
mod start;
mod strong;

pub use clock::wall_ms;
pub use command::{ChangeSet, Gossip};
pub use doctor::{check_running, examine};
pub use error::DaemonError;
pub use report::hex;
pub use starling_proto::Role;
pub use start::run;
pub use strong::{Held, Manage, ManageFailure, Names};
