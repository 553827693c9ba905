//! The etcd v3 API (gRPC) over a strong keyspace: etcdctl and etcd client libraries work. What is
//! carried out, what is not, and where it differs from etcd is listed in this crate's README.md.
//!
//! One listener serves one strong keyspace of the service ([`starling_service::StrongKeyspace`]): requests are
//! translated, carried out there, and the answers translated back.

mod arriving;
mod auth;
mod authority;
mod claim;
mod cluster;
mod convert;
mod election;
mod entry;
mod failure;
mod keyspace;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod pages;
mod serve;
mod watch;
mod watching;

pub use entry::Admission;
pub use failure::DETAIL;
pub use maintenance::API_VERSION;
pub use serve::serve;
