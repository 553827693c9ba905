//! The messages and service traits of etcd's API, version 3, as `proto/*.proto` gives them.
#![allow(clippy::all, clippy::pedantic, missing_docs, unused_qualifications, reason = "generated")]

pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
