//! Strong keyspaces: requests and answers, used by the state machine, by forwarding between nodes and by every
//! server. Semantics are etcd's (API v3) where etcd has the feature.

mod answer;
pub mod codec;
mod failure;
#[cfg(feature = "json")]
mod form;
#[cfg(feature = "json")]
pub mod queue;
mod request;
mod status;
mod trouble;
mod watch;

pub use answer::{Answer, Body, Found, KeyValue};
pub use failure::{Failure, Refusal};
pub use request::{
    Compare, Delete, Fence, Keys, LeaseId, Operand, Options, Put, Range, Read, Relation, Request, RequestId,
    Revision, SortBy, SortOrder, Txn, TxnOp, Write,
};
pub use status::{Member, Status};
pub use trouble::{Leaderless, REPORTED_MS, SilentVoter, answering, replace_revoked};
pub use watch::{Event, EventKind, Watch, WatchUpdate};
