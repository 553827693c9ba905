//! Strong keyspaces: requests, answers and events. Requests and the bodies of answers are `starling_types`'; here
//! is what the API puts around them, and how keyspaces themselves are managed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Blob;

pub use starling_types::strong::{
    Body, Compare, Delete, Fence, Found, KeyValue, Keys, LeaseId, Operand, Options, Put, Range, Read,
    Relation, Request, RequestId, Revision, SortBy, SortOrder, Txn, TxnOp, Write,
};

/// Voters of a keyspace when the request does not say.
pub const VOTERS_DEFAULT: u8 = 3;
/// How long a request may take when it does not say, milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 5_000;
/// The longest that a request may take, milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 60_000;

/// Makes a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyspace {
    /// Its name.
    pub name: String,
    /// How many nodes vote: 1, 3, 5 or 7. They are chosen for spread and uptime.
    #[serde(default = "voters_default")]
    pub voters: u8,
    /// The nodes instead, by name or by the first digits of their id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// A voter that is lost is not replaced by itself.
    #[serde(default)]
    pub manual: bool,
}

fn voters_default() -> u8 {
    VOTERS_DEFAULT
}

/// Makes these nodes the voters of a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Voters {
    /// By name or by the first digits of their id.
    pub nodes: Vec<String>,
}

/// Lets a node lead a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// By name or by the first digits of its id.
    pub node: String,
}

/// How a strong keyspace stands, as one of its members sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongInfo {
    /// Its name.
    pub name: String,
    /// The name of its group for ever, in hexadecimal.
    pub group: String,
    /// The member that answered.
    pub answered_by: String,
    /// Who leads; absent while an election is under way.
    pub leader: Option<String>,
    /// Counts elections.
    pub term: u64,
    /// Voters and learners.
    pub members: Vec<StrongMember>,
    /// Of its last change.
    pub revision: u64,
    /// The last entry of the log of the member that answered.
    pub log_index: u64,
    /// The last entry that it has applied.
    pub applied_index: u64,
    /// The last entry that it knows most voters to have.
    pub commit_index: u64,
    /// Entries that its log keeps.
    pub log_entries: u64,
    /// What they take on its disk, about.
    pub log_bytes: u64,
    /// What the keyspace takes on its disk, superseded versions included.
    pub bytes: u64,
    /// Milliseconds since it heard of the leader, or, if it leads, of a majority; absent: not since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// A voter that is lost is not replaced by itself.
    pub manual: bool,
}

/// One member of a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongMember {
    /// Its node's public key in hexadecimal.
    pub id: String,
    /// Its node's name.
    pub name: String,
    /// "voter", or "learner": it follows, and has no vote.
    pub role: String,
    /// Its node's multiaddresses.
    pub addresses: Vec<String>,
    /// Entries of the leader's log that it does not have; absent if the leader could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// It is being sent a snapshot, as far as the leader knows.
    #[serde(default)]
    pub restoring: bool,
    /// Milliseconds since it was heard of by the member that answered; absent: not since that one started, or
    /// it is one follower of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
}

/// One request to a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongCall {
    /// The read or the write.
    #[serde(flatten)]
    pub request: Request,
    /// How long it may take, milliseconds; at most [`TIMEOUT_MS_MAX`].
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
    /// Read what this node's replica holds, without asking anybody.
    #[serde(default)]
    pub stale: bool,
    /// Under this name a write is applied once, however often it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The write is refused unless this lock is held with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

fn timeout_default() -> u64 {
    TIMEOUT_MS_DEFAULT
}

impl<R: Into<Request>> From<R> for StrongCall {
    fn from(request: R) -> Self {
        let request = request.into();
        Self { request, timeout_ms: TIMEOUT_MS_DEFAULT, stale: false, request_id: None, fence: None }
    }
}

impl StrongCall {
    /// The request, and how it is to be carried out.
    pub fn into_parts(self) -> (Request, Options) {
        let Self { request, timeout_ms, stale, request_id: id, fence } = self;
        (request, Options { timeout_ms: timeout_ms.min(TIMEOUT_MS_MAX), stale, id, fence })
    }
}

/// The answer of a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongAnswer {
    /// The keyspace's revision when it was answered: that of the write, if it changed anything.
    pub revision: u64,
    /// How old what a stale read has read may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Staleness>,
    /// The outcome of the request.
    #[serde(flatten)]
    pub body: Body,
}

/// How old what a replica holds may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Staleness {
    /// Milliseconds since the replica heard of its leader, or, if it leads, of a majority; absent: not since
    /// its node started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// The last entry of the log that it has applied.
    pub applied_index: u64,
    /// The last one that it knows most voters to have.
    pub commit_index: u64,
}

/// What a watch of a strong keyspace is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StrongEvent {
    /// The watch stands: changes from the next revision on will be told.
    Ready {
        /// Everything up to there is not.
        revision: u64,
    },
    /// A key was written.
    Put {
        /// As it is now.
        kv: KeyValue,
    },
    /// A key was deleted.
    Delete {
        /// Which.
        key: Blob,
        /// When.
        revision: u64,
    },
    /// The last event: what was asked for is no longer kept.
    Compacted {
        /// The oldest revision that is.
        oldest: u64,
    },
    /// The last event: to be resumed from the revision after the last one told.
    Lost {
        /// Why.
        reason: String,
    },
}

impl StrongEvent {
    /// The name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Compacted { .. } => "compacted",
            Self::Lost { .. } => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_flat_and_says_with_its_request_how_to_carry_it_out() {
        let request_id = Some(RequestId { client: 0xab, seq: 3, answered_below: 2 });
        let fence = Some(Fence { lock: b"job".to_vec(), token: 7 });
        let put = Write::Put(Put::new("a", "v"));
        let call = StrongCall { timeout_ms: 90_000, request_id, fence, ..put.clone().into() };
        let json = r#"{"op":"put","key":"a","value":"v","lease":0,"prev":false,"timeout_ms":90000,"stale":false,"request_id":{"client":"ab","seq":3,"answered_below":2},"fence":{"lock":"job","token":7}}"#;
        assert_eq!(serde_json::to_string(&call).expect("serializes"), json);
        assert_eq!(serde_json::from_str::<StrongCall>(json).expect("parses"), call);
        let (request, options) = call.into_parts();
        assert_eq!(request, Request::Write(put));
        assert_eq!((options.timeout_ms, options.id), (TIMEOUT_MS_MAX, request_id));
    }

    #[test]
    fn an_answer_is_flat() {
        let body = Body::Put { prev: None };
        let stale = Some(Staleness { heard_ms: None, applied_index: 4, commit_index: 5 });
        let answer = StrongAnswer { revision: 9, stale, body };
        let json = r#"{"revision":9,"stale":{"applied_index":4,"commit_index":5},"result":"put"}"#;
        assert_eq!(serde_json::to_string(&answer).expect("serializes"), json);
        assert_eq!(serde_json::from_str::<StrongAnswer>(json).expect("parses"), answer);
    }

    #[test]
    fn every_kind_of_call_is_read_with_what_stands_beside_it() {
        let put = r#""then":[{"op":"put","key":"a","value":"v"}],"timeout_ms":7"#;
        let call: StrongCall = serde_json::from_str(&format!(r#"{{"op":"txn",{put}}}"#)).expect("parses");
        assert!(matches!(call, StrongCall { request: Request::Write(Write::Txn(_)), timeout_ms: 7, .. }));
        assert!(serde_json::from_str::<StrongCall>(&format!(r#"{{"op":"txn","and":[],{put}}}"#)).is_err());
        let call: StrongCall = serde_json::from_str(r#"{"op":"leases","stale":true}"#).expect("parses");
        assert_eq!(call, StrongCall { stale: true, ..Read::Leases.into() });
    }
}
