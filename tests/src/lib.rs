//! What the whole-system tests stand on: nodes as processes of the built binary, commands against
//! them, and waiting for a state. The tests use what users have: the command line and the API.
//!
//! Nothing a test starts outlives it: a node holds the reading end of a pipe whose other end is the
//! test's, and is killed when its [`Node`] is dropped. Ports are chosen by the system.

pub mod churn;
mod command;
mod flock;
mod http;
mod network;
mod node;
mod release;
mod requests;
mod running;
mod small_disk;
mod wait;

pub use command::{Answer, command, run, testnet, without_settings};
pub use flock::{KEYSPACE, etcdctl, flock, heard_of, leader, led};
pub use http::{http_client, http_client_builder};
pub use network::{equal, joined, linked, meet, pair, strangers};
pub use node::{Node, Release};
pub use requests::Requests;
pub use running::Running;
pub use small_disk::{SmallDisk, noise, put_noise};
pub use wait::{DEADLINE, wait_until};
