//! The etcd v3 API (gRPC) over a strong keyspace: etcdctl and etcd client libraries work. What is
//! carried out, what is not, and where it differs from etcd is listed in this crate's README.md.
//!
//! The door knows nothing of the node. It is given a bounded queue, [`Calls`](starling_service::Calls), and asks the node there
//! what its clients ask of it; whoever answers keeps the rules that [`Call`](starling_service::Call) states.

mod auth;
mod claim;
mod cluster;
mod convert;
mod election;
mod failure;
mod keyspace;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod pages;
mod serve;
mod sockets;
mod watch;
mod watching;

pub use failure::DETAIL;
pub use maintenance::API_VERSION;
pub use serve::serve;
pub use sockets::{EtcdSockets, EtcdThread};
